"""The shell scripts, whole: on a user's own tiny tables, and the real pipeline on the packaged model."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from metakd.config import Training
from metakd.data.tables import read_rows, write_rows
from metakd.manifests import write_json
from metakd.methods.method import Method
from tests.conftest import (
    CUT_FROM_PRETRAINED,
    ROOT,
    Tables,
    environment,
    evaluate,
    make_task,
    read_method,
    run_script,
    script,
    warm_environment,
    write_yaml,
)

INSTALLED = (Path(sys.prefix) / ".metakd-requirements.txt").is_file()
needs_environment = pytest.mark.skipif(
    not INSTALLED, reason="run_tests.sh has not set up this environment; run_all.sh would install"
)
TEACHER_BUDGET = "--method.teacher.epochs 25 --method.teacher.learning_rate 0.003"
NEW_DOMAIN_BUDGET = "--method.teacher.epochs 250 --method.teacher.learning_rate 0.003 --task.epochs_scale 0.1"
Shell = Callable[..., str]


@pytest.fixture
def shell(tmp_path: Path, tables: Tables, pretrained: Path) -> Shell:
    """Run a shell script on a task over `tables`, in the run folder tmp_path/run; returns what it printed."""
    rows = [{k: v for k, v in row.items() if k != "weight"} for row in read_rows(tables["train"])]
    write_rows(tables["train"], rows)  # run_all.sh computes the weights
    write_rows(tables["dev"], rows)  # so that every teacher beats a constant prediction on dev
    training = Training(batch_size=8, precision="fp32")
    task = write_yaml(tmp_path / "task.yaml", make_task(tables, pretrained, CUT_FROM_PRETRAINED, training=training))

    def call(path: str, *arguments: str, **settings: object) -> str:
        variables = {"TASK": task, "RUN": tmp_path / "run", "VIRTUAL_ENV": warm_environment(), **settings}
        variables["PATH"] = f"{warm_environment()}/bin:{sys.prefix}/bin:{os.environ['PATH']}"
        process = subprocess.run(
            [ROOT / path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
            env={**environment(tmp_path), **{name: str(value) for name, value in variables.items()}},
        )  # fmt: skip
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout + process.stderr

    return call


def write_method(folder: Path, name: str, method: Method | None = None) -> Path:
    """A method file with budgets for tiny models; by default the shipped method of this name."""
    return write_yaml(folder / f"{name}.yaml", method or read_method(name, teacher_epochs=25))


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (None, "experiments/tasks/review_snippets.yaml runs/review_snippets"),
        ("mnli", "experiments/tasks/mnli.yaml runs/mnli"),
        ("my tasks/shop.yaml", "my tasks/shop.yaml runs/shop"),
    ],
)
def test_each_task_has_its_own_run_folder(task: str | None, expected: str) -> None:
    """One run folder for two tasks would have the second one's teacher in the place of the first one's."""
    environment = {"PATH": os.environ["PATH"], **({"TASK": task} if task else {})}
    command = ["bash", "-c", 'source experiments/settings.sh; echo "$TASK $RUN"']
    assert subprocess.check_output(command, cwd=ROOT, env=environment, text=True).strip() == expected


@needs_environment
def test_two_methods_in_one_run(tmp_path: Path, shell: Shell) -> None:
    run, metakd = tmp_path / "run", write_method(tmp_path, "metakd")
    decay = "--task.training.weight_decay 0.02"
    out = shell("run_all.sh", METHOD=metakd, GENRES="books films", OVERRIDES=decay)
    assert "finished before" not in out
    results = read_json(run / "metakd/results.json")
    assert [evaluation["domain"] for evaluation in results["domains"]] == ["books", "films"]
    assert results["methods"] == ["metakd"]
    assert results["settings"]["resolved"]["task"]["training"]["weight_decay"] == 0.02
    assert "| books" in (run / "metakd/report.md").read_text()

    evaluation_manifest = run / "metakd/students/films.json.manifest.json"
    manifest = read_json(evaluation_manifest)
    manifest["code"]["source"] = 16 * "0"  # as if other code had made it
    write_json(evaluation_manifest, manifest)
    out = shell("run_all.sh", METHOD=metakd, DOMAINS="books films", OVERRIDES=decay, REMAKE=1)
    assert out.count("finished before") == 6  # embeddings, weights, teacher, both students, one evaluation
    assert re.findall("making anew: (.*)", out) == [f"{run}/metakd/students/films.json"] and "epoch 1" not in out

    before = (run / "metakd/students/films/manifest.json").read_text()
    easynlp = write_method(tmp_path, "metakd_easynlp")
    out = shell("run_all.sh", METHOD=easynlp, DOMAINS="films", OVERRIDES=decay)
    assert re.findall("finished before: (.*)", out) == [f"{run}/embeddings"]
    assert (run / "metakd/students/films/manifest.json").read_text() == before
    assert read_json(run / "metakd_easynlp/results.json")["methods"] == ["metakd_easynlp"]
    teachers = [read_json(run / f"{name}/students/films.json")["teacher"] for name in ("metakd", "metakd_easynlp")]
    assert teachers[0]["path"] != teachers[1]["path"] and not any(teacher["notes"] for teacher in teachers)
    tables = [{row["guid"]: row["weight"] for row in read_rows(path)} for path in (run / "weights").glob("*.tsv")]
    assert len(tables) == 2 and tables[0].keys() == tables[1].keys() and tables[0] != tables[1]


@needs_environment
def test_methods_share_a_teacher_or_need_none(tmp_path: Path, shell: Shell) -> None:
    run = tmp_path / "run"
    out = shell("run_all.sh", METHOD=write_method(tmp_path, "tinybert"), DOMAINS="films")
    assert "== embeddings" not in out and not (run / "embeddings").exists()
    (teacher,) = (run / "teachers").glob("mix-????????")
    assert read_json(run / "tinybert/students/films.json")["teacher"]["path"] == str(teacher)

    methods = ["vanilla", "label_only", "tinybert", "general"]
    settings = {"STUDENT": "{architecture: text_cnn, filters: 4}", "OVERRIDES": TEACHER_BUDGET}
    out = shell("experiments/compare_methods.sh", "films", *methods, **settings)
    assert re.findall("finished before: (.*)", out) == [str(teacher), f"{teacher}.logits/films"]  # for vanilla
    assert out.count("== teacher") == 1 and re.findall("left out: (.*)", out) == ["tinybert", "general"]
    assert "teacher" not in read_json(run / "compare/label_only/students/films.json")
    report = (run / "compare/report.md").read_text()
    names = re.findall(r"^\| (\S+|\(the teacher\)) +\| .*[\d.]+ \[", report, re.MULTILINE)
    assert names == ["(the teacher)", "vanilla", "label_only"]
    assert "random weights, the pretrained encoder's word embeddings" in report

    one = write_method(tmp_path, "one", replace(read_method("vanilla", teacher_epochs=25), one_student=True))
    out = shell("run_all.sh", METHOD=one, DOMAINS="books films")
    assert out.count("finished before: " + str(run / "one/student")) == 1
    models = {name: read_json(run / f"one/students/{name}.json")["model"] for name in ("books", "films")}
    assert [model["path"] for model in models.values()] == [str(run / "one/student")] * 2
    assert f"Student:  {run}/one/student (" in out


@needs_environment
def test_teachers_of_one_domain_and_of_heads(tmp_path: Path, shell: Shell) -> None:
    run, vanilla = tmp_path / "run", read_method("vanilla", teacher_epochs=25)
    out = shell("run_all.sh", METHOD=write_method(tmp_path, "multi_teacher"), DOMAINS="books")
    singles = {file.parent.name.split("-")[2]: file.parent for file in run.glob("teachers/single-*/config.json")}
    assert sorted(singles) == ["books", "films", "phones"]
    assert out.count("== teacher") == 3
    student = read_json(run / "multi_teacher/students/books/manifest.json")
    teachers = [path for role, path in student["input_paths"].items() if role.startswith("teacher")]
    assert teachers == [str(singles[name]) for name in sorted(singles)]
    assert "teacher" not in read_json(run / "multi_teacher/students/books.json")
    assert "| books" in (run / "multi_teacher/report.md").read_text()

    for kind in ("single", "mtl"):
        method = write_method(tmp_path, kind, replace(vanilla, teacher=replace(vanilla.teacher, kind=kind)))
        out = shell("run_all.sh", METHOD=method, DOMAINS="books")
        shared = kind == "single"  # with multi_teacher
        logits = f"{singles['books']}.logits/books"
        assert re.findall("finished before: (.*)", out) == ([str(singles["books"]), logits] if shared else [])
        (teacher,) = [singles["books"]] if shared else run.glob("teachers/mtl-????????/books")
        evaluation = read_json(run / kind / "students/books.json")
        assert evaluation["teacher"]["path"] == str(teacher) and evaluation["model"]["notes"] == []


@needs_environment
def test_a_new_domain(tmp_path: Path, shell: Shell) -> None:
    settings = {"STUDENT": "{layers: 2, of: pretrained}", "OVERRIDES": NEW_DOMAIN_BUDGET}
    shell("experiments/new_domain.sh", "phones", "0.3", **settings)
    folder = tmp_path / "run/new_domain/0.3"
    report = (folder / "report-phones.md").read_text()
    names = ("new_domain", "few_labels_only")
    assert [name for name in names if re.search(rf"^\| {name} ", report, re.MULTILINE)] == list(names)
    (weights,) = (tmp_path / "run/weights").glob("*.tsv")
    weighted = [row["domain"] for row in read_rows(weights) if row["weight"] is not None]
    labels = len(weighted) - weighted.count("books") - weighted.count("films")
    assert 0 < labels < weighted.count("books") / 2
    assert read_json(folder / "new_domain/students/phones/metakd.json")["notes"] == []
    del settings["STUDENT"]  # the task's
    shell("experiments/new_domain.sh", "phones", "0", **settings)
    assert not (tmp_path / "run/new_domain/0/few_labels_only").exists()


@needs_environment
def test_a_new_domain_that_has_no_row_but_for_training(tmp_path: Path, tables: Tables, shell: Shell) -> None:
    """Four labels and unlabelled texts are all there is of it: nothing is evaluated, and the students are made."""
    rows = {name: list(read_rows(tables[name])) for name in ("train", "dev", "test")}
    of_domain = [row for row in rows["train"] if row["domain"] == "phones"]
    few = of_domain[:4]
    assert len({row["label"] for row in few}) == 2
    texts = [{**row, "guid": f"more-{row['guid']}", "label": ""} for row in of_domain if row not in few]
    for name, others in rows.items():
        others = [row for row in others if row["domain"] != "phones"]
        write_rows(tables[name], [*others, *few] if name == "train" else others)
    write_rows(tmp_path / "texts.tsv", texts)
    options = f"{NEW_DOMAIN_BUDGET} --task.unlabelled {tmp_path / 'texts.tsv'}"
    out = shell("experiments/new_domain.sh", "phones", STUDENT="{layers: 2, of: pretrained}", OVERRIDES=options)
    folder = tmp_path / "run/new_domain/1"
    assert f"\nStudent: {folder}/new_domain/students/phones (a plain" in out
    for name in ("new_domain", "few_labels_only"):
        assert f"the student lies in {folder}/{name}/students/phones" in out
        assert (folder / name / "students/phones/model.safetensors").is_file()
        assert not (folder / name / "students/phones.json").exists()
    assert f"{len(texts) + 4} (labelled, unlabelled), 4 with label" in out
    train = [{**row, "label": "" if row["domain"] == "phones" else row["label"]} for row in read_rows(tables["train"])]
    write_rows(tables["train"], train)  # no label: nothing is left for a student from labels alone
    shell("experiments/new_domain.sh", "phones", RUN=tmp_path / "none", OVERRIDES=options)
    assert [path.name for path in (tmp_path / "none/new_domain/1").iterdir()] == ["new_domain"]


@needs_environment
@pytest.mark.parametrize("problem, labels", [("multi_label", ["good|long", "|"]), ("regression", ["2.5", "-1"])])
def test_other_problem_types(problem: str, labels: list[str], tmp_path: Path, tables: Tables, shell: Shell) -> None:
    for path in tables.values():
        rows = list(read_rows(path))
        write_rows(path, [{**row, "label": labels[row["label"] == "negative"]} for row in rows])
    method = write_method(tmp_path, "logits_mse")
    shell("run_all.sh", METHOD=method, DOMAINS="books", OVERRIDES=f"--task.problem {problem}")
    results = read_json(tmp_path / "run/logits_mse/results.json")
    metric = {"multi_label": "micro_f1", "regression": "spearman"}[problem]
    assert results["domains"][0]["teacher"][metric] == results["mean_over_domains"][f"teacher_{metric}"] > 0


@pytest.mark.packaged_model
def test_the_real_pipeline_on_the_packaged_model(tmp_path: Path, packaged: tuple[Path, Tables]) -> None:
    """A small part of the quick run: the teacher must learn, and the student must follow it."""
    encoder, tables = packaged
    method = read_method("metakd", teacher_epochs=3, intermediate=2, prediction=4)
    method.teacher.learning_rate, method.stages[1].learning_rate = 2e-4, 1e-4
    task = make_task(tables, encoder, "unused", max_length=64)
    embeddings, weighted = tmp_path / "embeddings", tmp_path / "train.tsv"
    script("data_prep/extract_embeddings.py").main(task=task, method=method, out=embeddings)
    script("data_prep/prototype_weights.py").main(task=task, method=method, embeddings=embeddings, out=weighted)
    options: list[object] = [
        "--task", ROOT / "experiments/tasks/review_snippets.yaml", "--task.train", weighted, "--task.dev",
        tables["dev"], "--task.test", tables["test"], "--task.teacher", encoder, "--task.epochs_scale", 1,
        "--task.training.batch_size", 16, "--method", write_yaml(tmp_path / "metakd.yaml", method),
    ]  # fmt: skip
    teacher, student = tmp_path / "teacher", tmp_path / "tweets"
    for path, *arguments in (
        ("experiments/train_teacher.py", "--out", teacher),
        ("experiments/distill.py", "--teacher", teacher, "--domain", "tweets", "--out", student),
    ):
        process = run_script(tmp_path, path, *options, *arguments)
        assert process.returncode == 0, process.stderr
    scores = evaluate(tmp_path / "tweets.json", student, tables["test"], teacher=teacher, domain="tweets")
    assert scores["teacher"]["accuracy"] > scores["teacher"]["majority"] + 0.05
    assert scores["agreement"] > 0.75
    assert scores["model"]["parameters"] < 0.8 * scores["teacher"]["parameters"]
