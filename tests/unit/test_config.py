"""Task files: those that are shipped, students as they are documented, and every value that is refused."""

import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import capture_parser

from metakd.cli import run
from metakd.config import (
    BiLSTMStudent,
    FreshStudent,
    StaticStudent,
    Student,
    StudentFromTeacher,
    Task,
    TextCNNStudent,
    Training,
    scaled,
)
from metakd.errors import InputError
from metakd.methods.method import TeacherRecipe
from tests.conftest import ROOT, read_yaml, script

SCRIPTS = [*ROOT.glob("experiments/*.py"), *ROOT.glob("data_prep/*.py")]
DOCUMENTED: dict[str, Student] = {
    "{layers: 3}": StudentFromTeacher(3),
    "{layers: 3, of: pretrained}": StudentFromTeacher(3, of="pretrained"),
    "{hidden_size: 312, layers: 4, heads: 12}": FreshStudent(312, 4, 12),
    "{architecture: text_cnn, filters: 100, widths: [3, 4, 5]}": TextCNNStudent("text_cnn", 100, [3, 4, 5]),
    "{architecture: bilstm, lstm_size: 150, layers: 1}": BiLSTMStudent("bilstm", 150, 1),
    "{architecture: static, embedding_size: 64}": StaticStudent("static", 64),
}


def task(**options: Any) -> Task:
    return Task(**{"train": "a.tsv", "dev": "b.tsv", "test": "c.tsv", "teacher": "t", "student": "s", **options})


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """A task file that only lacks a student."""
    path = tmp_path / "task.yaml"
    path.write_text("train: a.tsv\ndev: b.tsv\ntest: c.tsv\nteacher: t\n")
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/tasks").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_task_loads(path: Path) -> None:
    assert isinstance(read_yaml(path, Task), Task)


def test_documented_students_are_listed_here() -> None:
    documented = re.findall(r"^\| `(\{[^`]+\})` \|", (ROOT / "data_prep/README.md").read_text("utf-8"), re.MULTILINE)
    assert documented == list(DOCUMENTED)


@pytest.mark.parametrize("text", DOCUMENTED)
def test_a_documented_student_can_be_written_in_a_file_and_on_the_command_line(text: str, task_file: Path) -> None:
    assert read_yaml(task_file, Task, "--file.student", text).student == DOCUMENTED[text]
    task_file.write_text(f"{task_file.read_text()}student: {text}\n")
    assert read_yaml(task_file, Task).student == DOCUMENTED[text]
    assert read_yaml(task_file, Task, "--file.student", "a/folder").student == "a/folder"


@pytest.mark.parametrize("text", DOCUMENTED)
@pytest.mark.parametrize("before", DOCUMENTED)
def test_a_student_of_the_command_line_replaces_that_of_the_file(before: str, text: str, task_file: Path) -> None:
    task_file.write_text(f"{task_file.read_text()}student: {before}\n")
    assert read_yaml(task_file, Task, "--file.student", text).student == DOCUMENTED[text]
    assert read_yaml(task_file, Task, f"--file.student={text}").student == DOCUMENTED[text]
    with pytest.raises(InputError, match=r"--file.student.layers: there are several kinds of --file.student; give it"):
        read_yaml(task_file, Task, "--file.student.layers=2")


@pytest.mark.parametrize(
    ("lines", "key"),
    [("student: s\nmax_lenght: 9", "max_lenght"), ("student: s\ntraining: {epoch: 1}", "epoch"),
     ("student: {layer: 2}", "layer"), ("student: s\nproblem: regresion", "regresion")],
)  # fmt: skip
def test_an_unknown_key_or_value_in_a_file_is_named(lines: str, key: str, task_file: Path) -> None:
    task_file.write_text(f"{task_file.read_text()}{lines}\n")
    with pytest.raises(InputError, match=rf"\b{key}\b"):
        read_yaml(task_file, Task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student": "{layer: 3}"}, "'layers'"),
        ({"student": "{hiden_size: 3, layers: 2}"}, "'hidden_size'"),
        ({"problem": "regression", "labels": ["score"]}, r"task\.labels: \['score'\].*leave them out"),
        ({"labels": ["a", "b", "a"]}, r"task\.labels has a name twice: \['a', 'b', 'a'\]"),
        ({"domains": ["a", "a"]}, r"task\.domains has a name twice: \['a', 'a'\]"),
        ({"epochs_scale": 0.0}, r"task\.epochs_scale is 0\.0; it must be above 0"),
        ({"epochs_scale": math.inf}, r"task\.epochs_scale is inf"),
        ({"epochs_scale": math.nan}, r"task\.epochs_scale is nan"),
        ({"select_by": "accuracy", "problem": "multi_label"}, r"task\.select_by is accuracy, .* multi_label task"),
        ({"select_by": "macro_f1", "problem": "regression"}, r"task\.select_by is macro_f1, but a regression"),
        ({"max_length": 3}, r"task\.max_length is 3; it must be from 4 to"),
    ],
)
def test_a_task_value_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"training\.batch_size is 0; it must be at least 1"),
        ({"micro_batch_size": 0}, r"training\.micro_batch_size is 0; it must be at least 1"),
        ({"warmup": 1.0}, r"training\.warmup is 1\.0; it must be from 0 to below 1"),
        ({"warmup": -0.1}, r"training\.warmup is -0\.1; it must be from 0 to below 1"),
    ],
)
def test_a_training_value_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Training(**options)


def test_a_table_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").touch()
    partial = task(train=str(tmp_path / "train.tsv"))
    partial.require("train")
    with pytest.raises(InputError, match=r"task\.dev: no file 'b\.tsv'"):
        partial.require("train", "dev")
    with pytest.raises(InputError, match=r"task\.unlabelled: no table is named"):
        partial.require("unlabelled")


@pytest.mark.parametrize(
    ("scale", "epochs", "expected"), [(1.0, 5, 5), (0.4, 5, 2), (0.4, 4, 2), (0.1, 3, 1), (3.0, 2, 6)]
)
def test_epochs_are_scaled_and_never_below_one(scale: float, epochs: int, expected: int) -> None:
    budget = TeacherRecipe("mix", epochs=epochs, min_steps=10, learning_rate=1e-3)
    assert scaled(budget, scale) == (expected, round(10 * scale))


def test_settings_name_all_training_values_that_change_a_result() -> None:
    """A value that is missing here would let a finished step pass for one with another value."""
    training = Training(max_tokens=9, schedule="inverse_sqrt", average_last=2)  # defaults of these are not named
    settings = set(task(training=training).settings()["training"])
    assert {field.name for field in fields(Training)} - settings == {
        "checkpoint_seconds",
        "teacher_cache_gb",
        "log_with",
    }
    for change in (
        {"problem": "multi_label"},
        {"labels": ["a"]},
        {"domains": ["a"]},
        {"max_length": 9},
        {"select_by": "macro_f1"},
    ):
        assert replace(task(), **change).settings() != task().settings()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_option_has_a_help_text(path: Path) -> None:
    parser = capture_parser(run, script(str(path.relative_to(ROOT))).main)
    assert [action.dest for action in parser._actions if not action.help] == []
    assert parser.format_help().startswith("usage: ")  # fails where argparse takes a part of a text for a placeholder
