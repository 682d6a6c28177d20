"""The cache holds what the teacher shows, and a student learns the same from it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from metakd.config import StudentFromTeacher, Training
from metakd.cpu.teacher_cache import COMPLETE, FeatureCache, cache_features
from metakd.data.encoding import Batch, EncodedRows, encode
from metakd.data.tables import TRAINING
from metakd.models.attention import attended, enable_reading
from metakd.models.domain_head import DomainHead
from metakd.objectives.features import FEATURES, FeatureLayer, FeatureValues, compute_features
from metakd.steps import Processes
from metakd.training import teacher_outputs
from metakd.training.runtime import start
from metakd.training.teacher_outputs import CachedTeacherOutputs
from metakd.training.teachers import Teacher
from tests.conftest import DOMAINS, make_random_teacher, make_task, make_tokenizer, read_method, run_stages, tiny_config

WANTED = [
    ("embedding", 0), ("hidden", 2), ("cls", 4), ("attention_scores", 2), ("attention_probabilities", 4),
    ("query_key_relation", 1), ("value_relation", 4), ("transferable", 0),
]  # fmt: skip


@pytest.fixture
def rows(tables: dict[str, Path]) -> EncodedRows:
    return encode(tables["train"], make_tokenizer(), 32, None, DOMAINS, TRAINING)


class Compute:
    """A teacher's features of a batch; counts its calls."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = AutoModelForSequenceClassification.from_config(tiny_config()).eval()
        self.head = DomainHead(16, 3).eval()
        enable_reading(self.model)
        self.calls = 0

    @torch.no_grad()
    def __call__(self, rows: np.ndarray, batch: Batch) -> dict[FeatureLayer, Tensor]:
        self.calls += 1
        return compute_features(self.model, batch, WANTED, self.head).features


@pytest.fixture
def compute() -> Compute:
    return Compute()


def fill(
    folder: Path, compute: Compute, rows: EncodedRows, precision: str = "no", limit: float = 1e9
) -> FeatureCache | None:
    def batches() -> Iterator[tuple[np.ndarray, Batch]]:
        for numbers in np.array_split(np.random.default_rng(0).permutation(len(rows)), 5):
            yield numbers, rows.batch(numbers)

    return cache_features(folder, compute, batches(), rows, precision, limit, Processes())


def real_values(name: str, values: Tensor, mask: Tensor) -> Tensor:
    """Which values [B, ...] belong to tokens, in every token axis of the feature."""
    real = torch.ones_like(values, dtype=torch.bool)
    for axis, letter in enumerate(FEATURES[name].axes, 1):
        if letter == "L":
            shape = [len(mask), *[1] * (values.ndim - 1)]
            shape[axis] = mask.shape[1]
            real &= mask.view(shape)
    return real


def test_cached_features_are_the_teachers(compute: Compute, rows: EncodedRows, tmp_path: Path) -> None:
    cache = fill(tmp_path, compute, rows)
    assert cache is not None
    numbers = np.array([7, 3, 40, 3])
    batch = rows.batch(numbers)
    cached, expected, mask = cache.read(numbers), compute(numbers, batch), batch["attention_mask"].bool()
    assert cached.keys() == expected.keys() == set(WANTED)
    for key, values in expected.items():
        assert cached[key].shape == values.shape, key
        real = real_values(key[0], values, mask)
        torch.testing.assert_close(cached[key][real], values[real], rtol=1e-4, atol=1e-5, msg=str(key))
        if key[0] == "attention_scores":
            assert attended(cached[key])[real].all()
    assert sum(file.stat().st_size for file in tmp_path.glob("*.bin")) == cache.bytes


def test_a_finished_cache_is_used_again(compute: Compute, rows: EncodedRows, tmp_path: Path) -> None:
    first = fill(tmp_path, compute, rows)
    assert first is not None and (tmp_path / COMPLETE).is_file() and compute.calls == 1 + 5  # the sample, the batches
    second = fill(tmp_path, compute, rows)
    assert second is not None and compute.calls == 6 + 1
    for key, values in second.read(np.arange(4)).items():
        assert torch.equal(values, first.read(np.arange(4))[key])


def test_a_cache_of_other_rows_or_precision_or_a_killed_run_is_made_anew(
    compute: Compute, rows: EncodedRows, tmp_path: Path
) -> None:
    fill(tmp_path, compute, rows)
    leftover = tmp_path / "hidden-9.bin"
    leftover.write_bytes(b"x")
    assert fill(tmp_path, compute, rows, "bf16") is not None
    assert compute.calls == 2 * 6 and not leftover.exists()
    backwards = rows.select(np.arange(len(rows))[::-1])
    cache = fill(tmp_path, compute, backwards, "bf16")
    assert cache is not None and compute.calls == 3 * 6
    first = np.array([0])
    expected = compute(first, backwards.batch(first))
    torch.testing.assert_close(cache.read(first)["cls", 4], expected["cls", 4])
    (tmp_path / COMPLETE).unlink()  # as if the run had been killed
    compute.calls = 0
    assert fill(tmp_path, compute, backwards, "bf16") is not None and compute.calls == 6


def test_features_that_do_not_fit_are_not_cached(compute: Compute, rows: EncodedRows, tmp_path: Path) -> None:
    cache = fill(tmp_path, compute, rows)
    assert cache is not None
    (tmp_path / COMPLETE).unlink()
    assert fill(tmp_path, compute, rows, limit=cache.bytes - 1) is None
    assert not list(tmp_path.glob("*.bin"))
    assert fill(tmp_path, compute, rows, limit=cache.bytes) is not None


def test_the_cache_is_filled_when_the_first_epoch_starts(compute: Compute, rows: EncodedRows, tmp_path: Path) -> None:
    teacher = Teacher("teacher", compute.model, make_tokenizer(), compute.head, None, None)
    logits = np.random.default_rng(0).normal(size=(len(rows), 2)).astype(np.float32)
    outputs = CachedTeacherOutputs(logits, teacher, WANTED, rows, tmp_path, 1e9, start("fp32"))
    assert outputs.cache is None and not list(tmp_path.glob("*.bin"))
    outputs.start()
    cache = outputs.cache
    outputs.start()
    assert cache is not None and outputs.cache is cache
    numbers = np.array([5, 2])
    values = outputs(numbers, rows.batch(numbers))
    assert isinstance(values, FeatureValues) and values.features.keys() == set(WANTED)
    assert values.logits is not None and np.array_equal(values.logits.numpy(), logits[numbers])


@pytest.mark.parametrize("name", ["metakd", "metakd_easynlp", "minilm", "hidden_mmd"])
def test_a_student_learns_the_same_from_the_cache(
    name: str, tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage without a cache, for lack of space, and with one."""
    teacher, method, caches = make_random_teacher(tmp_path / "teacher"), read_method(name, intermediate=2), []

    def cache_and_note(*arguments: object) -> FeatureCache | None:
        caches.append(cache_features(*arguments))
        return caches[-1]

    monkeypatch.setattr(teacher_outputs, "cache_features", cache_and_note)
    losses = []
    for gigabytes in (1.0, 0.0):
        training = Training(batch_size=8, teacher_cache_gb=gigabytes, log_with=[])
        task = make_task(tables, "unused", StudentFromTeacher(2), training=training)
        losses.append(run_stages(tmp_path / f"{gigabytes}", task, method, [teacher]))
    with_features = [stage for stage in method.stages if stage.needs_activations]
    assert [cache is not None for cache in caches] == [*[True] * len(with_features), *[False] * len(with_features)]
    assert losses[0].keys() == losses[1].keys() == {stage.name for stage in method.stages}
    for stage in losses[0]:
        assert losses[0][stage] == pytest.approx(losses[1][stage], rel=1e-4)


def test_nothing_is_cached_for_one_epoch_or_on_stock_pytorch(
    tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = make_random_teacher(tmp_path / "teacher")
    monkeypatch.setattr(teacher_outputs, "cache_features", None)  # must not be called
    task = make_task(tables, "unused", StudentFromTeacher(2))
    run_stages(tmp_path / "one", task, read_method("tinybert", intermediate=1), [teacher])
    stock = replace(task, training=replace(task.training, cpu_tuning="off"))
    run_stages(tmp_path / "stock", stock, read_method("tinybert", intermediate=2), [teacher])
