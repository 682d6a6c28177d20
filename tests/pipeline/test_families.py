"""Every encoder family goes through every step, with a student of other depth and width too."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers

from metakd.config import StudentFromTeacher
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from tests.conftest import (
    CUT,
    FAMILIES,
    Tables,
    distill,
    evaluate,
    make_rows,
    make_task,
    read_history,
    read_method,
    script,
    train_teacher,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_steps(family: str, tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    folder, method = encoder(family=family), read_method()
    raw = tmp_path / "raw.jsonl"
    write_rows(raw, ({k: v for k, v in row.items() if k != "weight"} for row in read_rows(tables["train"])))
    embeddings, weighted = tmp_path / "embeddings", tmp_path / "weighted.parquet"
    task = make_task({**tables, "train": raw}, folder, CUT)
    script("data_prep/extract_embeddings.py").main(task=task, method=method, out=embeddings)
    script("data_prep/prototype_weights.py").main(task=task, method=method, embeddings=embeddings, out=weighted)
    assert all(0 < row["weight"] <= 1 for row in read_rows(weighted))

    task = make_task({**tables, "train": weighted}, folder, CUT)
    teacher = train_teacher(tmp_path, task, method, allow_weak=True)
    history = read_history(teacher)
    assert set(history["epochs"][0]["losses"]) == {"label", "domain"}
    assert history["losses"][-1] < history["losses"][0]

    student = distill(tmp_path / "student", task, method, teacher=str(teacher), domain="films")
    terms = {"embedding", "hidden", "attention_scores", "transferable"}
    assert set(read_history(student)["intermediate"]["epochs"][0]["losses"]) == terms
    scores = evaluate(tmp_path / "scores.json", student, tables["test"], teacher=teacher, domain="films")
    assert scores["model"]["rows"] == 8 and 0 <= scores["agreement"] <= 1
    assert scores["model"]["parameters"] < scores["teacher"]["parameters"]

    answers = transformers.pipeline("text-classification", model=str(student))(["the film was good", "bad"])
    assert len(answers) == 2 and {answer["label"] for answer in answers} <= {"positive", "negative"}


def test_a_student_loads_where_metakd_is_not_imported(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path
) -> None:
    task = make_task(tables, pretrained, CUT)
    student = distill(tmp_path / "s", task, read_method(), teacher=str(meta_teacher), domain="films")
    texts = ["the film was good", "the pan was bad"]
    code = (
        "import json, sys; from transformers import pipeline\n"
        f"answers = pipeline('text-classification', model={str(student)!r})({texts})\n"
        "assert 'metakd' not in sys.modules; print(json.dumps(answers))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    answers = transformers.pipeline("text-classification", model=str(student))(texts)
    for answer, here in zip(json.loads(process.stdout.splitlines()[-1]), answers, strict=True):
        assert answer == {"label": here["label"], "score": pytest.approx(here["score"], rel=1e-4)}


def test_student_of_other_depth_width_and_head_count(
    tmp_path: Path,
    tables: Tables,
    pretrained: Path,
    encoder: Callable[..., Path],
    meta_teacher: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    narrow = encoder("narrow", layers=2, width=12, heads=3)
    task = make_task(tables, pretrained, str(narrow))
    student = distill(tmp_path / "student", task, read_method(), teacher=str(meta_teacher), domain="books")
    assert "averaged over their heads" in caplog.text
    assert (student / "projections-intermediate.safetensors").is_file()
    for spec, message in ((StudentFromTeacher(3, "uniform"), "3 does not divide 4"), ("nowhere", "nowhere")):
        task = make_task(tables, pretrained, spec)
        with pytest.raises(InputError, match=message):
            distill(tmp_path / "s", task, read_method(), teacher=str(meta_teacher), domain="books")
    assert not (tmp_path / "s").exists()


def test_stages_alone_are_the_stages_together(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path
) -> None:
    task, method = make_task(tables, pretrained, CUT), read_method()
    options = {"teacher": str(meta_teacher), "domain": "books"}
    both = distill(tmp_path / "both", task, method, **options)
    one = distill(tmp_path / "one", task, method, stage="intermediate", **options)
    task = make_task(tables, tmp_path / "unused", str(one))
    two = distill(tmp_path / "two", task, method, stage="prediction", **options)
    assert list(read_history(one)) == ["intermediate"] and list(read_history(two)) == ["prediction"]
    assert read_history(both)["intermediate"]["losses"] == read_history(one)["intermediate"]["losses"]
    losses = read_history(two)["prediction"]["losses"]
    assert read_history(both)["prediction"]["losses"] == pytest.approx(losses, rel=1e-5)


def test_one_domain_and_a_class_missing_in_a_domain(
    tmp_path: Path, pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tables = {name: tmp_path / f"{name}.csv" for name in ("train", "dev", "test")}
    for seed, path in enumerate(tables.values()):
        write_rows(path, [{**row, "weight": 1.0} for row in make_rows(24, domains=("only",), seed=seed)])
    task = make_task(tables, pretrained, StudentFromTeacher(1))
    teacher = train_teacher(tmp_path, task)
    assert "there is no domain loss" in caplog.text
    assert not (teacher / "domain_head.safetensors").exists()
    student = distill(tmp_path / "student", task, read_method(), teacher=str(teacher), domain="only")
    assert "transferable" not in read_history(student)["intermediate"]["epochs"][0]["losses"]

    for seed, path in enumerate(tables.values()):  # the books have positive rows only
        rows = [row for row in make_rows(36, seed=seed) if row["domain"] != "books" or row["label"] == "positive"]
        write_rows(path, [{**row, "weight": 0.5} for row in rows])
    task = make_task(tables, pretrained, StudentFromTeacher(1))
    teacher = train_teacher(tmp_path, task, out=tmp_path / "teacher2")
    distill(tmp_path / "student2", task, read_method(), teacher=str(teacher), domain="books")


def test_a_weak_teacher_is_not_saved(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    task, method, out = make_task(tables, pretrained, CUT), read_method(teacher_epochs=1), tmp_path / "weak"
    method.teacher.learning_rate = 1e-9
    with pytest.raises(InputError, match="does not beat a constant prediction"):
        train_teacher(tmp_path, task, method, out=out)
    assert not out.exists()
    train_teacher(tmp_path, task, method, out=out, allow_weak=True)
    assert (out / "model.safetensors").is_file()
    with pytest.raises(InputError, match="does not beat a constant prediction"):  # a finished one is refused too
        train_teacher(tmp_path, task, method, out=out)


def test_teacher_logits_are_kept_until_the_table_changes(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    task, method, store = make_task(tables, pretrained, CUT), read_method(), tmp_path / "teacher.logits" / "books"
    options = {"teacher": str(meta_teacher), "domain": "books"}
    distill(tmp_path / "one", task, method, **options)
    before = np.load(store / "values.npy")
    task.training.seed = 2
    distill(tmp_path / "two", task, method, **options)
    assert f"finished before: {store}" in caplog.text
    rows = list(read_rows(tables["train"]))
    rows[0]["text_a"] = "bad bad bad"
    write_rows(tables["train"], rows)
    distill(tmp_path / "three", task, method, **options)
    assert f"making anew: {store}" in caplog.text
    changed = np.abs(np.load(store / "values.npy") - before).max(axis=1) > 1e-6
    assert changed[0] and not changed[1:].any()


def test_only_evaluation_reads_the_test_split(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    task = make_task(tables, pretrained, CUT)
    tables["test"].unlink()
    teacher = train_teacher(tmp_path, task)
    assert distill(tmp_path / "s", task, read_method(), teacher=str(teacher), domain="books").is_dir()
