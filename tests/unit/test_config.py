import re
import subprocess
from pathlib import Path

import pytest
from jsonargparse import capture_parser

from metakd.cli import run
from metakd.config import Task
from metakd.methods import Method
from metakd.objectives.terms import bind
from tests.conftest import ROOT, read_yaml, run_script, script, tiny_config

SCRIPTS = [*ROOT.glob("experiments/*.py"), *ROOT.glob("data_prep/*.py")]


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/tasks").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_task_loads(path: Path) -> None:
    assert isinstance(read_yaml(path, Task), Task)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/methods").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_method_loads_and_binds(path: Path) -> None:
    method = read_yaml(path, Method)
    assert isinstance(method, Method)
    for stage in method.stages:
        assert bind(stage.terms, tiny_config(layers=4), tiny_config(layers=2), "single_label")


def distill(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script(
        tmp_path, "experiments/distill.py", "--task", ROOT / "experiments/tasks/review_snippets.yaml", "--method",
        ROOT / "experiments/methods/metakd.yaml", "--teacher", "t", "--domain", "d", "--out", tmp_path / "o",
        *arguments,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "hint"), [("--task.training.sed=2", "'seed'"), ("--task.max_lenght=2", "'max_length'")]
)
def test_an_unknown_option_names_the_nearest(tmp_path: Path, argument: str, hint: str) -> None:
    done = distill(tmp_path, argument)
    assert done.returncode == 2
    assert f"did you mean {hint}" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("labls: [a]", "'labels'"), ("training: {epoch: 1}", "'epochs'"), ("student: {layer: 2}", "'layers'")],
)
def test_an_unknown_key_in_a_file_names_the_nearest(tmp_path: Path, wrong: str, hint: str) -> None:
    task = tmp_path / "task.yaml"
    lines = ["train: a.tsv", "dev: b.tsv", "test: c.tsv", "teacher: t"]
    task.write_text("\n".join([*lines, *([] if wrong.startswith("student") else ["student: s"]), wrong]))
    done = run_script(tmp_path, "experiments/check_task.py", "--task", task)
    assert done.returncode == 2
    assert f"did you mean {hint}" in done.stderr


def test_an_unknown_key_in_a_term_names_the_nearest(tmp_path: Path) -> None:
    method = tmp_path / "method.yaml"
    method.write_text(
        "stages:\n- name: one\n  epochs: 1\n  learning_rate: 1\n  terms: [{feature: logits, loss: kl, temprature: 2}]\n"
    )
    done = distill(tmp_path, "--method", str(method))
    assert done.returncode == 2
    assert "did you mean 'temperature'" in done.stderr


@pytest.mark.parametrize(
    "student",
    re.findall(r"^\| `(\{[^`]+\})` \|", (ROOT / "data_prep/README.md").read_text("utf-8"), re.MULTILINE),
)
def test_every_documented_student_is_one_on_the_command_line_and_in_a_file(tmp_path: Path, student: str) -> None:
    task = tmp_path / "task.yaml"
    task.write_text(f"train: a.tsv\ndev: b.tsv\ntest: c.tsv\nteacher: t\nstudent: {student}\n")
    for extra in ([], ["--task.student", student]):
        done = run_script(tmp_path, "experiments/check_task.py", "--task", task, *extra)
        assert "task.train: no file 'a.tsv'" in done.stderr, done.stderr


def test_wrong_values_and_files_name_the_nearest(tmp_path: Path) -> None:
    method = tmp_path / "method.yaml"
    method.write_text(
        "stages:\n- {name: p, epochs: 1, learning_rate: 1, terms: [{feature: hiden, loss: mse}], select: last}\n"
    )
    for options, part in [
        (["--method", method], "did you mean 'hidden'"),
        (["--method", ROOT / "experiments/methods/vanila.yaml"], "vanilla.yaml'"),
        (["--task.student", "{layer: 3}"], "did you mean 'layers'"),
        (["--task.problem", "regresion"], "did you mean 'regression'"),
    ]:
        done = distill(tmp_path, *map(str, options))
        assert done.returncode == 2 and part in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.startswith("error: ") and "usage:" not in done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_every_option_has_a_help_text(path: Path) -> None:
    parser = capture_parser(run, script(str(path.relative_to(ROOT))).main)
    assert [action.dest for action in parser._actions if not action.help] == []
    assert parser.format_help().startswith("usage: ")  # fails where a text holds what argparse takes for a placeholder
