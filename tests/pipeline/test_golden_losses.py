"""Prototype scores and losses on the packaged MiniLM stay what they were.

Where a change of the losses is wanted, delete golden_losses.json, run this test twice, and say in the commit why the
losses changed: the first run writes the file and fails.
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from metakd.config import StudentFromTeacher, Training
from metakd.data.tables import read_rows, write_rows
from metakd.methods.method import Method
from tests.conftest import (
    Tables,
    distill,
    make_task,
    method_file,
    read_history,
    read_yaml,
    script,
    train_teacher,
)

GOLDEN = Path(__file__).with_name("golden_losses.json")
ROWS = 8  # of each domain and label
TOLERANCE = 1e-3  # relative; other processors add in another order


def few_rows(tables: Tables, folder: Path) -> Tables:
    """Tables with the first rows by guid of each domain and label."""
    small = {}
    for name, path in tables.items():
        groups = defaultdict(list)
        for row in sorted(read_rows(path), key=lambda row: row["guid"]):
            groups[row["domain"], row["label"]].append(row)
        small[name] = folder / f"{name}.tsv"
        write_rows(small[name], [row for rows in groups.values() for row in rows[:ROWS]])
    return small


def dropout_mask() -> list[float]:
    """A mask of dropout; processors of another maker may draw another one from the same seed."""
    torch.manual_seed(0)
    return torch.nn.functional.dropout(torch.ones(64), 0.5).tolist()


@pytest.mark.packaged_model
def test_golden_losses(tmp_path: Path, packaged: tuple[Path, Tables]) -> None:
    """Prototype scores, 40 steps of the meta-teacher, 6 steps of each stage, in fp32 on stock PyTorch."""
    encoder, tables = packaged
    tables = few_rows(tables, tmp_path)
    method = read_yaml(method_file("metakd"), Method)
    # Fast enough that predictions, and with them weights and losses of the stages, differ between rows.
    method.teacher.epochs, method.teacher.learning_rate = 5, 2e-4
    for stage in method.stages:
        stage.epochs, stage.learning_rate = 3, 5e-4
    training = Training(batch_size=8, precision="fp32", cpu_tuning="off", log_with=[])
    task = make_task(tables, encoder, StudentFromTeacher(3), max_length=64, training=training)
    embeddings, weighted = tmp_path / "embeddings", tmp_path / "weighted.tsv"
    script("data_prep/extract_embeddings.py").main(task=task, method=method, out=embeddings)
    script("data_prep/prototype_weights.py").main(task=task, method=method, embeddings=embeddings, out=weighted)
    task.train = str(weighted)
    teacher = train_teacher(tmp_path, task, method, allow_weak=True)
    stages = read_history(distill(tmp_path / "student", task, method, teacher=str(teacher), domain="tweets"))
    values = {
        "prototype scores": [row["weight"] for row in read_rows(weighted)],
        "teacher": read_history(teacher)["losses"],
        **{name: stages[name]["losses"] for name in ("intermediate", "prediction")},
    }
    assert {name: len(numbers) for name, numbers in values.items()} == {
        "prototype scores": 64, "teacher": 40, "intermediate": 6, "prediction": 6,
    }  # fmt: skip
    if not GOLDEN.is_file():
        GOLDEN.write_text(json.dumps({"dropout mask": dropout_mask(), **values}, indent=1) + "\n")
        pytest.fail(f"{GOLDEN.name} was missing and has been written; compare it with the old one, and run again")
    golden = json.loads(GOLDEN.read_text())
    assert values["prototype scores"] == pytest.approx(golden["prototype scores"], rel=TOLERANCE)
    if dropout_mask() != golden["dropout mask"]:
        pytest.skip("this processor draws other dropout masks than the one that golden_losses.json was made on")
    for name in ("teacher", "intermediate", "prediction"):
        assert values[name] == pytest.approx(golden[name], rel=TOLERANCE), name
