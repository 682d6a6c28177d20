"""The scripts of a translation, as processes: 1 == 2 processes, a killed training, and every method to its score."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from metakd.data.formats import read
from metakd.errors import InputError
from metakd.translation.settings import TranslationMethod, TranslationTask
from tests.conftest import ROOT, command, environment, read_yaml, run_script, script, wait_until, warm_environment

METHODS = ROOT / "experiments/translation/methods"
TRAIN, TRANSLATE = "experiments/train_translator.py", "experiments/translate.py"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A task of a few made-up pairs and tiny models, as options."""
    folder = tmp_path_factory.mktemp("translation")
    tables = folder / "tables"
    script("data_prep/synthetic_translation.py").main(tables, train=64, dev=16, test=16, vocabulary=200)
    task = {
        "problem": "translation", **{name: str(tables / f"{name}.tsv") for name in ("train", "dev", "test")},
        "tokenizer": str(tables / "tokenizer"), "max_length": 100,
        "teacher": {"hidden_size": 16, "layers": 1, "heads": 2, "dropout": 0.0},
        "student": {"hidden_size": 8, "layers": 1, "heads": 2, "dropout": 0.0},
        "training": {"max_tokens": 500, "precision": "fp32", "log_with": [], "checkpoint_seconds": 0.0},
    }  # fmt: skip
    (folder / "task.yaml").write_text(json.dumps(task))
    return ["--task", folder / "task.yaml", "--method.epochs", 2]


@pytest.fixture(scope="module")
def teacher(options: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "teacher"
    train(options, "translation_reference", folder, role="teacher")
    return folder


def train(options: list[object], method: str, out: Path, changes: tuple[str, ...] = (), **arguments: Any) -> None:
    """train_translator.py in this process."""
    task = read_yaml(Path(str(options[1])), TranslationTask, *changes)
    script(TRAIN).main(
        task, read_yaml(METHODS / f"{method}.yaml", TranslationMethod, "--file.epochs=2"), out, **arguments
    )


def options_of(options: list[object], method: str) -> list[object]:
    task, path, *others = options
    return [task, path, "--method", METHODS / f"{method}.yaml", *others]


def losses(folder: Path) -> list[float]:
    return json.loads((folder / "history.json").read_text())["losses"]


@pytest.mark.parametrize("method", sorted(path.stem for path in METHODS.glob("*.yaml")))
def test_every_method_reaches_a_score(method: str, options: list[object], teacher: Path, tmp_path: Path) -> None:
    task = json.loads(Path(str(options[1])).read_text())
    arguments: dict[str, Any] = {}
    translate = script(TRANSLATE).main
    if method not in ("translation_reference", "word_kd"):
        arguments["translations"] = tmp_path / "train.tsv"
        translate(str(teacher), Path(task["train"]), tmp_path / "train.tsv", beam=2, nbest=2)
    if method.startswith("word"):
        arguments["teacher"] = str(teacher)
    student, test = tmp_path / "student", tmp_path / "test.tsv"
    train(options, method, student, **arguments)
    assert losses(student)[-1] < losses(student)[0]
    assert json.loads((student / "generation_config.json").read_text())["max_new_tokens"] == task["max_length"]
    translate(str(student), Path(task["test"]), test, beam=1)
    assert len(list(read(test))) == 16
    other = tmp_path / "other.tsv"
    translate(str(student), Path(task["test"]), other, beam=2)
    script("experiments/evaluate_translation.py").main(test, tmp_path / "e.json", [other], samples=10)
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["model"]["rows"] == 16 and [line["system"] for line in result["comparison"]] == [
        str(other),
        str(test),
    ]
    with pytest.raises(InputError, match="name other systems"):
        script("experiments/evaluate_translation.py").main(test, tmp_path / "x.json", [test])


def test_two_processes_and_a_killed_run_train_the_same(options: list[object], teacher: Path, tmp_path: Path) -> None:
    arguments = [*options_of(options, "word_kd"), "--task.select_by", "bleu", "--teacher", teacher]
    train(options, "word_kd", tmp_path / "one", ("--file.select_by=bleu",), teacher=str(teacher))
    both = run_script(tmp_path, TRAIN, *arguments, "--out", tmp_path / "two", processes=2)
    assert both.returncode == 0, both.stderr
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-4)
    one, two = (json.loads((tmp_path / name / "history.json").read_text())["epochs"] for name in ("one", "two"))
    for mine, other in zip(one, two, strict=True):  # dev scores are BLEU of both processes' translations
        assert mine["dev"] == pytest.approx(other["dev"], abs=0.5) and mine["dev"]["score"] >= 0
    line = command(TRAIN, *arguments, "--out", tmp_path / "killed")
    process = subprocess.Popen(line, cwd=ROOT, env=environment(tmp_path), stderr=subprocess.DEVNULL)
    wait_until((tmp_path / ".killed.scratch/training/checkpoint.safetensors").is_file)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed").exists()
    again = run_script(tmp_path, TRAIN, *arguments, "--out", tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    one, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "killed"))
    assert all((one[name] == killed[name]).all() for name in one)


def test_translations_of_two_processes_and_in_fairseqs_form(
    options: list[object], teacher: Path, tmp_path: Path
) -> None:
    table = json.loads(Path(str(options[1])).read_text())["dev"]
    common = ["--model", teacher, "--table", table, "--beam", 2, "--nbest", 2, "--precision", "fp32"]
    translate = script(TRANSLATE).main
    translate(str(teacher), Path(table), tmp_path / "1.tsv", beam=2, nbest=2)
    run = run_script(tmp_path, TRANSLATE, *common, "--out", tmp_path / "2.tsv", processes=2)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "1.tsv").read_text() == (tmp_path / "2.tsv").read_text()
    translate(str(teacher), Path(table), tmp_path / "gen.out", beam=2, nbest=2, format="fairseq")
    lines = (tmp_path / "gen.out").read_text().splitlines()
    rows = list(read(tmp_path / "1.tsv"))
    texts = [line.split("\t")[2] for line in lines if line.startswith("D-")]
    assert texts == [row["hypothesis"] for row in rows] and len(texts) == 32
    score, pieces = next(line for line in lines if line.startswith("H-0\t")).split("\t")[1:]
    values = [float(value) for value in next(line for line in lines if line.startswith("P-0")).split("\t")[1].split()]
    assert float(score) == pytest.approx(sum(values) / len(values), abs=1e-3)
    assert len(values) - len(pieces.split()) in (0, 1)  # the end of the text has a score and no piece
    translate(str(teacher), Path(table), tmp_path / "1.parquet", beam=2, nbest=2)
    assert list(read(tmp_path / "1.parquet")) == rows
    with pytest.raises(InputError, match="--columns is about tables"):
        translate(str(teacher), Path(table), tmp_path / "x.out", columns="hypothesis", format="fairseq")
    with pytest.raises(InputError, match="names a column twice"):
        translate(str(teacher), Path(table), tmp_path / "x.tsv", columns="source,source")
    translate(str(teacher), Path(table), tmp_path / "pairs.tsv", beam=2, columns="source,hypothesis")
    assert list(next(read(tmp_path / "pairs.tsv"))) == ["source", "hypothesis"]


@pytest.mark.parametrize(
    ("method", "changes", "arguments", "message"),
    [
        ("word_kd", {}, {}, "--teacher is missing, but a term compares logits"),
        ("sequence_kd", {}, {}, "--translations is missing: the method's targets are 'teacher'"),
        ("translation_reference", {}, {"translations": Path("x.tsv")}, "--translations is of no use"),
        ("translation_reference", {"train": "none.tsv"}, {}, "task.train: no file 'none.tsv'"),
        ("translation_reference", {"training.max_tokens": 30}, {}, "max_tokens is 30, but the longest row has"),
        ("translation_reference", {"max_length": 10}, {}, r"tokens \(64 of 64 rows do\); raise task.max_length"),
    ],
)
def test_what_does_not_fit_is_refused(
    method: str, changes: dict[str, Any], arguments: dict[str, Any], message: str, options: list[object], tmp_path: Path
) -> None:
    overrides = [f"--file.{name}={value}" for name, value in changes.items()]
    task = read_yaml(Path(str(options[1])), TranslationTask, *overrides)
    with pytest.raises(InputError, match=message):
        script(TRAIN).main(task, read_yaml(METHODS / f"{method}.yaml", TranslationMethod), tmp_path / "s", **arguments)
    assert not (tmp_path / "s").exists()


def test_the_shell_script_runs_a_task_to_its_scores(options: list[object], tmp_path: Path) -> None:
    task, method = tmp_path / "task.yaml", tmp_path / "kd.yaml"
    shutil.copy(str(options[1]), task)
    text = (METHODS / "word_and_sequence_kd.yaml").read_text()  # needs all that a run can make
    method.write_text(text.replace("beam: 5", "beam: 2"))
    variables = {"TASK": str(task), "METHOD": str(method), "RUN": str(tmp_path / "run")}
    variables |= {"OVERRIDES": "--task.epochs_scale 0.07", "PATH": f"{warm_environment()}/bin:{os.environ['PATH']}"}
    run = subprocess.run(["experiments/run_translation.sh"], cwd=ROOT, env={**environment(tmp_path), **variables},
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "run/kd/student.test-beam1.json").read_text())["model"]["rows"] == 16
