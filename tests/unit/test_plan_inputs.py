"""A plan's inputs are all that a run reads: it works with them alone, and fails without any of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from metakd.config import FreshStudent, Student, TextCNNStudent
from metakd.data import formats
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.methods.method import Method
from metakd.training.plan import DomainSelection, plan_distillation, plan_teacher
from metakd.training.prepared import prepare
from metakd.training.runtime import start
from metakd.training.teacher_training import prepare_teacher
from tests.conftest import (
    CUT,
    CUT_FROM_PRETRAINED,
    DOMAINS,
    LABELS,
    Tables,
    make_random_teacher,
    make_rows,
    make_task,
    read_method,
)

Files = dict[str, Path]


@pytest.fixture
def files(tables: Tables, encoder: Callable[..., Path], tmp_path: Path) -> Files:
    """All that any run could read, by a short name."""
    more, logits = tmp_path / "more.tsv", tmp_path / "logits.tsv"
    write_rows(more, make_rows(8, seed=9))
    rows = ({"guid": row["guid"], "logit.negative": 0.5, "logit.positive": -1} for row in read_rows(tables["train"]))
    formats.write(logits, rows, ["guid", "logit.negative", "logit.positive"], ".tsv")
    models = {name: make_random_teacher(tmp_path / name) for name in ("teacher", "second teacher", "student")}
    return {**tables, **models, "pretrained": encoder("pretrained"), "more": more, "logits": logits}


@contextmanager
def hidden(paths: list[Path]) -> Iterator[None]:
    """Rename files and folders away inside the block."""
    for path in paths:
        path.rename(path.with_name(f"hidden {path.name}"))
    try:
        yield
    finally:
        for path in paths:
            path.with_name(f"hidden {path.name}").rename(path)


def assert_reads_exactly(inputs: dict[str, str], files: Files, run: Callable[[], object]) -> None:
    """Run without all other files, then without each of the inputs."""
    used = {Path(path) for path in inputs.values()}
    assert used <= set(files.values())
    with hidden([path for path in files.values() if path not in used]):
        run()
    for path in used:
        with hidden([path]), pytest.raises(InputError):
            run()


@dataclass
class Case:
    """A distillation, and its inputs: role -> name of a file."""

    method: str
    student: Student
    inputs: dict[str, str]
    teachers: list[str] = field(default_factory=list)
    logits: str | None = None
    fraction: float = 1.0


TABLES = {"train": "train", "dev": "dev"}
CASES = {
    "the student is cut from its teacher": Case("metakd", CUT, {**TABLES, "teacher 1": "teacher"}, ["teacher"]),
    "the student is a folder": Case(
        "vanilla", "student", {**TABLES, "teacher 1": "teacher", "student": "student"}, ["teacher"]
    ),
    "no teacher": Case("label_only", CUT_FROM_PRETRAINED, {**TABLES, "pretrained": "pretrained"}),
    "an encoder from the pretrained one": Case(
        "general", FreshStudent(8, 2), {"train": "train", "unlabelled": "more", "pretrained": "pretrained"}
    ),
    "a stage with a teacher of its own": Case(
        "own_teacher", CUT, {**TABLES, "teacher 1": "teacher", "teacher of intermediate": "second teacher"}, ["teacher"]
    ),
    "logits from a file": Case(
        "vanilla", TextCNNStudent("text_cnn", 4), {**TABLES, "pretrained": "pretrained", "logits": "logits"},
        logits="logits",
    ),
    "several teachers": Case(
        "multi_teacher", CUT_FROM_PRETRAINED,
        {**TABLES, "teacher 1": "teacher", "teacher 2": "second teacher", "pretrained": "pretrained"},
        ["teacher", "second teacher"],
    ),
    "dev labels are hidden too": Case(
        "new_domain", CUT, {"train": "train", "unlabelled": "more", "teacher 1": "teacher"}, ["teacher"],
        fraction=0.5,
    ),
}  # fmt: skip


def method_of(case: Case, files: Files) -> Method:
    if case.method != "own_teacher":
        return read_method(case.method)
    method = read_method("tinybert")
    method.stages[0] = replace(method.stages[0], teacher=str(files["second teacher"]))
    return method


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_distillation_reads_exactly_its_inputs(case: Case, files: Files, tmp_path: Path) -> None:
    student = str(files[case.student]) if isinstance(case.student, str) else case.student
    task = make_task(files, files["pretrained"], student, unlabelled=str(files["more"]))
    teachers, logits = [str(files[name]) for name in case.teachers], case.logits and str(files[case.logits])
    plan = plan_distillation(
        task, method_of(case, files), DomainSelection("books", case.fraction), tmp_path / "store", teachers, logits
    )
    assert plan.inputs == {role: str(files[name]) for role, name in case.inputs.items()}
    assert_reads_exactly(plan.inputs, files, lambda: prepare(plan, LABELS, DOMAINS, start("fp32")))


@pytest.mark.parametrize("name", ["metakd", "vanilla"])
def test_a_teacher_reads_exactly_its_inputs(name: str, files: Files) -> None:
    plan = plan_teacher(make_task(files, files["pretrained"], CUT), read_method(name), DomainSelection())
    assert plan.inputs == {role: str(files[role]) for role in ("train", "dev", "pretrained")}
    assert_reads_exactly(plan.inputs, files, lambda: prepare_teacher(plan, LABELS, DOMAINS, start("fp32")))
