"""Whole runs that must have the same losses: on stock PyTorch and tuned, and methods that say the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from metakd.config import StudentFromTeacher, Training
from metakd.data.encoding import encode
from metakd.data.tables import TRAINING
from metakd.methods.method import TeacherRecipe
from metakd.training.jobs import MultiTaskJob
from metakd.training.loop import fit
from metakd.training.runtime import start
from tests.conftest import (
    DOMAINS,
    LABELS,
    META,
    make_random_teacher,
    make_task,
    make_teacher_job,
    make_tokenizer,
    read_method,
    run_stages,
)

MIX = TeacherRecipe("mix", epochs=1, learning_rate=1e-3)
Losses = dict[str, list[float]]


@pytest.mark.parametrize(
    "recipe", [META, MIX, replace(META, false_labels="permuted", divide_by="weights")], ids=["meta", "mix", "permuted"]
)
def test_a_teacher_learns_the_same_on_stock_pytorch(
    recipe: TeacherRecipe, tables: dict[str, Path], tmp_path: Path
) -> None:
    rows = encode(tables["train"], make_tokenizer(), 32, LABELS, DOMAINS, TRAINING)
    runs = []
    for setting in ("auto", "off"):
        job = make_teacher_job(rows, recipe)
        training = Training(batch_size=16, cpu_tuning=setting)
        runs.append(fit(job, job.accelerator, 2, 1e-3, training, tmp_path / setting))
    assert len(runs[0].losses) == 6
    assert runs[0].losses == pytest.approx(runs[1].losses, rel=1e-4)
    for tuned, stock in zip(runs[0].epochs, runs[1].epochs, strict=True):
        assert tuned["dev"] == stock["dev"] and tuned["losses"] == pytest.approx(stock["losses"], rel=1e-4)


def test_a_multi_task_teacher_learns_the_same_on_stock_pytorch(tables: dict[str, Path], tmp_path: Path) -> None:
    rows = encode(tables["train"], make_tokenizer(), 32, LABELS, DOMAINS, TRAINING)
    losses = []
    for setting in ("auto", "off"):
        models = [make_teacher_job(rows, MIX).teacher for _ in DOMAINS]
        for model in models[1:]:
            model.bert = models[0].bert
        job = MultiTaskJob(models, rows, rows, DOMAINS, LABELS, start("fp32"))
        training = Training(batch_size=16, cpu_tuning=setting)
        losses.append(fit(job, job.accelerator, 2, 1e-3, training, tmp_path / setting).losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", ["metakd", "metakd_easynlp", "minilm"])
def test_a_student_learns_the_same_on_stock_pytorch(name: str, tables: dict[str, Path], tmp_path: Path) -> None:
    """Tuned, the first stage reads its teacher from the cache; off, the teacher runs in every step."""
    method, teacher = read_method(name, intermediate=2), make_random_teacher(tmp_path / "teacher")
    runs: list[Losses] = []
    for setting in ("auto", "off"):
        training = Training(batch_size=8, cpu_tuning=setting, log_with=[])
        task = make_task(tables, "unused", StudentFromTeacher(2), training=training)
        runs.append(run_stages(tmp_path / setting, task, method, [teacher]))
    assert_same(*runs)
    assert {stage: len(losses) for stage, losses in runs[0].items()} == {"intermediate": 4, "prediction": 4}


def assert_same(one: Losses, other: Losses) -> None:
    assert one.keys() == other.keys()
    for stage, losses in one.items():
        assert losses == pytest.approx(other[stage], rel=1e-4), stage


def test_meta_kd_without_its_own_ideas_is_tinybert(tables: dict[str, Path], tmp_path: Path) -> None:
    """Uniform weights, no transferable term, one temperature, the same teacher."""
    teacher, task = make_random_teacher(tmp_path / "teacher"), make_task(tables, "unused", StudentFromTeacher(2))
    metakd, tinybert = read_method("metakd"), read_method("tinybert")
    for stage in metakd.stages:
        stage.row_weight = "uniform"
        stage.terms = [replace(term, temperature=1.0) for term in stage.terms if term.feature != "transferable"]
    runs = [
        run_stages(tmp_path / name, task, method, [teacher]) for name, method in (("meta", metakd), ("tiny", tinybert))
    ]
    assert runs[0] == runs[1]
    weighted = run_stages(tmp_path / "weighted", task, read_method("metakd"), [teacher])
    assert weighted["intermediate"] != runs[0]["intermediate"]


def test_several_equal_teachers_are_one(tables: dict[str, Path], tmp_path: Path) -> None:
    teachers, task = [make_random_teacher(tmp_path / name) for name in "ab"], make_task(tables, "unused", "student")
    task.student = str(make_random_teacher(tmp_path / "student", layers=1))
    vanilla = run_stages(tmp_path / "vanilla", task, read_method("vanilla"), teachers[:1])
    multi = run_stages(tmp_path / "multi", task, read_method("multi_teacher"), teachers)
    assert_same(multi, vanilla)


@pytest.mark.parametrize("cpu_tuning", ["auto", "off"])
def test_a_multi_task_teacher_of_one_domain_is_a_plain_one(
    cpu_tuning: str, tables: dict[str, Path], tmp_path: Path
) -> None:
    rows = encode(tables["train"], make_tokenizer(), 32, LABELS, DOMAINS, TRAINING).of_domain(0)
    plain, training = make_teacher_job(rows, MIX), Training(batch_size=8, cpu_tuning=cpu_tuning)
    one_head = MultiTaskJob([make_teacher_job(rows, MIX).teacher], rows, rows, DOMAINS[:1], LABELS, plain.accelerator)
    runs = [
        fit(job, plain.accelerator, 2, 1e-3, training, tmp_path / name)
        for name, job in (("plain", plain), ("mtl", one_head))
    ]
    assert runs[0].losses == pytest.approx(runs[1].losses, rel=1e-5)
    assert [epoch["dev"]["score"] for epoch in runs[0].epochs] == [epoch["dev"]["score"] for epoch in runs[1].epochs]
