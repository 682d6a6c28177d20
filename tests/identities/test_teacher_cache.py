"""What the cache gives is what the teacher would have said, and it is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from metakd.config import Task
from metakd.data.encoding import EncodedRows, encode
from metakd.data.tables import TRAINING
from metakd.methods import Method
from metakd.models import attention
from metakd.models.domain_head import DomainHead
from metakd.models.views import Need, view
from metakd.training import distillation
from metakd.training.runtime import start
from metakd.training.teacher_cache import COMPLETE, TeacherCache, cache_teacher, parts
from metakd.training.teachers import Teacher
from tests.conftest import make_tokenizer, read_yaml, script, tiny_config

NEED = Need(frozenset({0, 2, 4}), frozenset({2, 4}), frozenset({2}), frozenset({4}), True)


@pytest.fixture
def rows(tables: dict[str, Path]) -> EncodedRows:
    return encode(tables["train"], make_tokenizer(), 32, None, ["books", "films", "phones"], TRAINING)


@pytest.fixture
def teacher() -> Teacher:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config()).eval()
    attention.enable(model)
    return Teacher("teacher", model, make_tokenizer(), DomainHead(16, 3).eval(), [], None)


def test_views_from_disk_are_the_teacher_s(teacher: Teacher, rows: EncodedRows, tmp_path: Path) -> None:
    cache = cache_teacher(tmp_path / "cache", teacher, rows, NEED, 1e9, start("fp32"))
    assert cache is not None
    chosen = np.array([7, 3, 40, 3])
    batch = rows.batch(chosen)
    with torch.no_grad():
        wanted = parts(view(teacher.model, batch, NEED, teacher.head))
    found = parts(cache.read(chosen))
    assert found.keys() == wanted.keys() and len(found) == 3 + 2 + 1 + 3 + 1
    mask = batch["attention_mask"].bool()
    for name, values in wanted.items():
        assert found[name].shape == values.shape, name
        keep = torch.ones_like(values, dtype=torch.bool)  # what is no padding
        if name.startswith("hidden"):
            keep &= mask[:, :, None]
        elif name.startswith(("attention", "probabilities")):
            keep &= mask[:, None, :, None]
            assert name.startswith("probabilities") or torch.equal(
                attention.attended(found[name])[keep], attention.attended(values)[keep]
            )
            keep &= mask[:, None, None, :]
        elif name != "transferable":
            keep &= mask[:, None, :, None]
        torch.testing.assert_close(found[name][keep], values[keep], rtol=1e-4, atol=1e-5, msg=name)
    size = sum(file.stat().st_size for file in (tmp_path / "cache").glob("*.bin"))
    assert size == cache.bytes


def test_a_finished_cache_is_used_again_and_one_of_other_rows_is_not(
    teacher: Teacher, rows: EncodedRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = start("fp32")
    first = cache_teacher(tmp_path / "cache", teacher, rows, NEED, 1e9, accelerator)
    assert first is not None and (tmp_path / "cache" / COMPLETE).is_file()
    wanted = parts(first.read(np.arange(4)))
    calls: list[int] = []
    monkeypatch.setattr("metakd.training.teacher_cache.view", lambda *a, **k: calls.append(1) or view(*a, **k))
    again = cache_teacher(tmp_path / "cache", teacher, rows, NEED, 1e9, accelerator)
    assert again is not None and len(calls) == 1  # for the sample alone
    for name, values in parts(again.read(np.arange(4))).items():
        assert torch.equal(values, wanted[name])
    leftover = tmp_path / "cache" / "hidden-9.bin"  # as of a killed run
    leftover.write_bytes(b"x")
    manifest = tmp_path / "cache" / COMPLETE
    manifest.write_text(manifest.read_text().replace('"precision": "no"', '"precision": "bf16"'))
    calls.clear()
    assert cache_teacher(tmp_path / "cache", teacher, rows, NEED, 1e9, accelerator) is not None
    assert len(calls) > 1 and not leftover.exists()
    calls.clear()
    other = cache_teacher(tmp_path / "cache", teacher, rows.select(np.arange(len(rows))[::-1]), NEED, 1e9, accelerator)
    assert other is not None and len(calls) > 1


def test_what_does_not_fit_is_not_cached(teacher: Teacher, rows: EncodedRows, tmp_path: Path) -> None:
    assert cache_teacher(tmp_path / "cache", teacher, rows, NEED, 1000, start("fp32")) is None
    assert not list((tmp_path / "cache").glob("*.bin"))


@pytest.mark.parametrize("name", ["metakd", "metakd_released"])  # attention scores, and probabilities
def test_a_student_learns_the_same_from_the_cache(
    name: str, encoder: Callable[..., Path], tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole script with the cache and without: the same losses."""
    folder = encoder()
    task_file = tmp_path / "task.yaml"
    task_file.write_text(
        "\n".join(f"{name}: {path}" for name, path in tables.items())
        + f"\nteacher: {folder}\nstudent: {{layers: 2}}\nmax_length: 32\n"
        "epochs: {teacher: 1, intermediate: 2, prediction: 1}\n"
    )
    task: Task = read_yaml(task_file, Task)
    script("experiments/train_teacher.py").main(task, tmp_path / "teacher", allow_weak=True)
    method = read_yaml(Path(f"experiments/methods/{name}.yaml"), Method)
    used: list[bool] = []

    def kept(*arguments: Any) -> TeacherCache | None:
        found = cache_teacher(*arguments)
        used.append(found is not None)
        return found

    monkeypatch.setattr(distillation, "cache_teacher", kept)
    histories = []
    for limit in (1.0, 0.0):
        task.training.teacher_cache_gb = limit
        out = tmp_path / f"student-{limit}"
        script("experiments/distill.py").main(task, method, out, str(tmp_path / "teacher"), domain="books")
        histories.append((out / "history.json").read_text())
    assert used == [True, False]  # in the first stage; the second needs nothing of the inside
    losses = [[json.loads(found)[stage]["losses"] for stage in ("intermediate", "prediction")] for found in histories]
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
