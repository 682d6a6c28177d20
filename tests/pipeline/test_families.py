"""Every encoder family goes through every step, with a student of other depth and width too."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metakd.config import StudentFromTeacher, Task, Training
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.methods import Method
from tests.conftest import FAMILIES, ROOT, make_rows, read_yaml, script

Tables = dict[str, Path]


def method() -> Method:
    return read_yaml(ROOT / "experiments/methods/metakd.yaml", Method)


def task(tables: Tables, teacher: Path, student: str | StudentFromTeacher, **options: object) -> Task:
    epochs = {"teacher": 12, "intermediate": 1, "prediction": 2}
    rates = {"teacher": 3e-3}
    settings = {
        "max_length": 32,
        "epochs": epochs,
        "learning_rates": rates,
        "training": Training(batch_size=8),
        **options,
    }
    return Task(str(tables["train"]), str(tables["dev"]), str(tables["test"]), str(teacher), student, **settings)


def train_teacher(tmp_path: Path, made: Task, **options: object) -> Path:
    out = tmp_path / "teacher"
    script("experiments/train_teacher.py").main(task=made, out=out, **options)
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_all_steps(family: str, tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    folder = encoder(family=family)
    raw = tmp_path / "raw.jsonl"
    write_rows(raw, ({k: v for k, v in row.items() if k != "weight"} for row in read_rows(tables["train"])))
    embeddings, weighted = tmp_path / "embeddings", tmp_path / "weighted.parquet"
    script("data_prep/extract_embeddings.py").main(model=str(folder), table=raw, out=embeddings, max_length=32)
    script("data_prep/prototype_weights.py").main(table=raw, embeddings=embeddings, out=weighted)
    assert all(0 < row["weight"] <= 1 for row in read_rows(weighted))

    made = task({**tables, "train": weighted}, folder, StudentFromTeacher(2))
    teacher = train_teacher(tmp_path, made)
    history = json.loads((teacher / "history.json").read_text())
    assert set(history["epochs"][0]["losses"]) == {"label", "domain"}
    assert history["losses"][-1] < history["losses"][0]

    student = tmp_path / "student"
    script("experiments/distill.py").main(task=made, method=method(), teacher=teacher, domain="films", out=student)
    found = json.loads((student / "history.json").read_text())
    assert set(found["intermediate"]["epochs"][0]["losses"]) == {
        "embedding", "hidden", "attention_scores", "transferable"
    }  # fmt: skip
    out = tmp_path / "scores.json"
    script("experiments/evaluate.py").main(
        model=student, teacher=teacher, table=tables["test"], domain="films", out=out
    )  # fmt: skip
    scores = json.loads(out.read_text())
    assert scores["model"]["rows"] == 8 and 0 <= scores["agreement"] <= 1
    assert scores["model"]["parameters"] < scores["teacher"]["parameters"]

    # Loads as what it is, without us, label names included.
    code = (
        "import sys; from transformers import pipeline; import json\n"
        f"found = pipeline('text-classification', model={str(student)!r})(['the film was good', 'the pan was bad'])\n"
        "assert 'metakd' not in sys.modules; print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {f["label"] for f in json.loads(done.stdout.splitlines()[-1])} <= {"positive", "negative"}


def test_student_of_other_depth_width_and_head_count(
    tmp_path: Path, tables: Tables, encoder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = encoder()
    narrow = encoder("narrow", layers=2, width=12, heads=3)
    made = task(tables, folder, str(narrow))
    teacher = train_teacher(tmp_path, made)
    student = tmp_path / "student"
    script("experiments/distill.py").main(task=made, method=method(), teacher=teacher, domain="books", out=student)
    assert "averaged over their heads" in caplog.text
    assert (student / "projections-intermediate.safetensors").is_file()
    for option, part in [
        ({"student": StudentFromTeacher(3)}, "3 does not divide 4"),
        ({"student": "nowhere"}, "nowhere"),
    ]:
        with pytest.raises(InputError, match=part):
            script("experiments/distill.py").main(
                task=task(tables, folder, **option), method=method(), teacher=teacher, domain="books",
                out=tmp_path / "s",
            )  # fmt: skip
    assert not (tmp_path / "s").exists()


def test_stages_alone_are_the_stages_together(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    made = task(tables, encoder(), StudentFromTeacher(2))
    teacher = train_teacher(tmp_path, made)
    distill = script("experiments/distill.py").main
    distill(task=made, method=method(), teacher=teacher, domain="books", out=tmp_path / "both")
    distill(task=made, method=method(), teacher=teacher, domain="books", out=tmp_path / "one", stage="intermediate")
    second = task(tables, tmp_path / "unused", str(tmp_path / "one"))
    distill(task=second, method=method(), teacher=teacher, domain="books", out=tmp_path / "two", stage="prediction")
    both, one, two = (json.loads((tmp_path / f / "history.json").read_text()) for f in ("both", "one", "two"))
    assert both["intermediate"]["losses"] == one["intermediate"]["losses"]
    assert both["prediction"]["losses"] == pytest.approx(two["prediction"]["losses"], rel=1e-5)


def test_one_domain_and_a_class_missing_in_a_domain(
    tmp_path: Path, encoder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    found = {}
    for seed, name in enumerate(("train", "dev", "test")):
        found[name] = tmp_path / f"{name}.csv"
        write_rows(found[name], [{**row, "weight": 1.0} for row in make_rows(24, domains=("only",), seed=seed)])
    made = task(found, encoder(), StudentFromTeacher(1))
    teacher = train_teacher(tmp_path, made)
    assert "there is no domain loss" in caplog.text
    assert not (teacher / "domain_head.safetensors").exists()
    script("experiments/distill.py").main(
        task=made, method=method(), teacher=teacher, domain="only", out=tmp_path / "student"
    )  # fmt: skip
    history = json.loads((tmp_path / "student" / "history.json").read_text())
    assert "transferable" not in history["intermediate"]["epochs"][0]["losses"]

    for seed, name in enumerate(("train", "dev", "test")):  # one domain has positive rows alone
        rows = [r for r in make_rows(36, seed=seed) if r["domain"] != "books" or r["label"] == "positive"]
        write_rows(found[name], [{**row, "weight": 0.5} for row in rows])
    made = task(found, tmp_path / "encoder", StudentFromTeacher(1))
    script("experiments/train_teacher.py").main(task=made, out=tmp_path / "t2")
    script("experiments/distill.py").main(
        task=made, method=method(), teacher=tmp_path / "t2", domain="books", out=tmp_path / "s2"
    )  # fmt: skip


def test_a_weak_teacher_is_not_handed_on(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    made = task(tables, encoder(), StudentFromTeacher(2), epochs={"teacher": 1})
    made.learning_rates = {"teacher": 1e-9}
    with pytest.raises(InputError, match="does not beat a constant prediction"):
        script("experiments/train_teacher.py").main(task=made, out=tmp_path / "weak")
    assert not (tmp_path / "weak").exists()
    script("experiments/train_teacher.py").main(task=made, out=tmp_path / "weak", allow_weak=True)
    assert (tmp_path / "weak" / "model.safetensors").is_file()


def test_teacher_logits_are_kept_and_refused_when_the_table_changed(
    tmp_path: Path, tables: Tables, encoder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = task(tables, encoder(), StudentFromTeacher(2), epochs={"teacher": 12, "intermediate": 1, "prediction": 1})
    teacher = train_teacher(tmp_path, made)
    distill, store = script("experiments/distill.py").main, tmp_path / "teacher.logits" / "books"
    distill(task=made, method=method(), teacher=teacher, domain="books", out=tmp_path / "one")
    first = np.load(store / "values.npy")
    made.training.seed = 2
    distill(task=made, method=method(), teacher=teacher, domain="books", out=tmp_path / "two")
    assert f"finished before: {store}" in caplog.text
    rows = list(read_rows(tables["train"]))
    rows[0]["text_a"] = "bad bad bad"
    write_rows(tables["train"], rows)
    distill(task=made, method=method(), teacher=teacher, domain="books", out=tmp_path / "three")
    assert f"making anew: {store}" in caplog.text
    changed = np.abs(np.load(store / "values.npy") - first).max(1) > 1e-6
    assert changed[0] and not changed[1:].any()


def test_the_test_split_is_read_by_evaluation_alone(
    tmp_path: Path, tables: Tables, encoder: Callable[..., Path]
) -> None:
    made = task(tables, encoder(), StudentFromTeacher(2))
    tables["test"].unlink()
    teacher = train_teacher(tmp_path, made)
    script("experiments/distill.py").main(
        task=made, method=method(), teacher=teacher, domain="books", out=tmp_path / "s"
    )
