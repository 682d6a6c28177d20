"""The parts of the training loop: progress, learning rate, weight decay, checkpoints in the middle of an epoch."""

import math
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metakd.config import Training
from metakd.data.encoding import EncodedRows, encode
from metakd.errors import InputError
from metakd.methods.stage import Stage, Term
from metakd.training import checkpoints
from metakd.training.loop import CHECKPOINT, TrainingJob, epochs_of, fit, learning_rates, parameter_groups
from metakd.training.progress import Progress, epoch_line
from metakd.training.runtime import start
from tests.conftest import make_tokenizer


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    progress = Progress(step=4)
    with pytest.raises(InputError, match="step 5: the loss of term 'hidden' is nan; lower the learning rate"):
        progress.record_step({"hidden": 1.0}, {"hidden": math.nan})
    progress.record_step({"hidden": 2.0, "logits": 1.0}, {"hidden": 0.5, "logits": 3.0})
    assert (progress.step, progress.losses, progress.sums) == (5, [4.0], {"hidden": 0.5, "logits": 3.0})


def test_the_best_epoch_is_the_last_of_the_highest_score() -> None:
    progress, best = Progress(), []
    for number, score in enumerate((0.5, 0.7, 0.7, 0.6)):
        progress.record_step({"label": 1.0}, {"label": 1.0})
        progress.record_step({"label": 1.0}, {"label": 2.0 + number})
        best.append(progress.finish_epoch({"score": score}, 2, True))
    assert best == [True, True, True, False]
    assert progress.best == {"epoch": 3, "losses": {"label": 2.5}, "dev": {"score": 0.7}}
    assert [record["losses"]["label"] for record in progress.epochs] == [1.5, 2.0, 2.5, 3.0]
    assert epoch_line(progress.epochs[1]) == "epoch 2: label 2.0000  dev score 0.7000"


def test_without_dev_scores_no_epoch_is_best() -> None:
    progress = Progress()
    assert not progress.finish_epoch(None, 2, True)
    assert progress.best is None and progress.epochs == [{"epoch": 1, "losses": {}}]


def test_where_the_last_epoch_is_saved_no_epoch_is_best() -> None:
    progress = Progress()
    assert not progress.finish_epoch({"score": 0.7}, 2, False)
    assert progress.best is None and progress.epochs == [{"epoch": 1, "losses": {}, "dev": {"score": 0.7}}]


@pytest.mark.parametrize(
    ("rows", "min_steps", "epochs"), [(900, 0, 5), (900, 145, 5), (900, 146, 6), (15, 300, 300), (33, 300, 150)]
)
def test_a_small_table_is_shown_until_there_are_enough_steps(rows: int, min_steps: int, epochs: int) -> None:
    """29, 1 and 2 steps of at most 32 rows in an epoch."""
    stage = Stage("s", [Term("label")], epochs=5, learning_rate=1e-4, min_steps=min_steps)
    assert epochs_of(stage, np.ones(rows), Training(batch_size=32), "stage s") == epochs


def rates(total: int, warmup: float, completed: int = 0, kind: str = "linear") -> list[float]:
    """The learning rate of each step that remains, for a peak of 8."""
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=8.0)
    schedule = learning_rates(optimizer, kind, total, warmup, completed)
    values = []
    for _ in range(completed, total):
        values.append(optimizer.param_groups[0]["lr"])
        assert schedule.get_last_lr() == values[-1:]
        optimizer.step()
        schedule.step()
    return values


def test_the_inverse_square_root_falls_from_the_peak_also_in_a_resumed_run() -> None:
    expected = [2, 4, 6, 8, *(8 * math.sqrt(4 / step) for step in range(4, 20))]  # the step is counted from 0 here
    assert rates(20, 0.2, kind="inverse_sqrt") == pytest.approx(expected)
    assert rates(20, 0.2, 9, "inverse_sqrt") == pytest.approx(expected[9:])


@pytest.mark.parametrize(
    ("total", "warmup", "expected"),
    [
        (4, 0.0, [8, 6, 4, 2]),
        (8, 0.5, [2, 4, 6, 8, 8, 6, 4, 2]),
        (5, 0.2, [8, 8, 6, 4, 2]),  # one step of warm-up is at the peak already
        (10, 0.2, [4, 8, 8, 7, 6, 5, 4, 3, 2, 1]),
        (1, 0.1, [8]),  # 0.1 steps of warm-up are none
        (2, 0.9, [4, 8]),  # and 1.8 are all
    ],
)
def test_the_learning_rate_rises_then_falls_to_zero(total: int, warmup: float, expected: list[float]) -> None:
    assert rates(total, warmup) == pytest.approx(expected)


@pytest.mark.parametrize("completed", [1, 3, 4, 7])
def test_a_resumed_run_goes_on_with_the_learning_rate(completed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rates(8, 0.5, completed) == pytest.approx([2, 4, 6, 8, 8, 6, 4, 2][completed:])


def test_matrices_decay_and_vectors_do_not() -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    module[0].weight.requires_grad_(False)
    decayed, others = parameter_groups(module, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(module[1].weight)]
    assert {id(p) for p in others["params"]} == {id(module[1].bias), id(module[2].weight), id(module[2].bias)}


class OneNumber(nn.Module):
    """A weight w that learns the numbers of its rows: (w - row)^2 per row."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        return {"square": (self.w - rows).square()}


class CountingJob(TrainingJob):
    """Notes the rows and the progress of each step, and is killed after some steps."""

    def __init__(self, rows: EncodedRows, steps: int) -> None:
        ones = {"square": np.ones(len(rows))}
        super().__init__(OneNumber(), rows, {"square": 1.0}, ones, ones)
        self.remaining, self.steps = steps, []

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor]:
        if self.remaining == 0:
            raise KeyboardInterrupt
        self.remaining -= 1
        self.steps.append((rows.tolist(), self.progress))
        return (torch.as_tensor(rows, dtype=torch.float32),)


@pytest.fixture
def rows(tables: dict[str, Path]) -> EncodedRows:
    return encode(tables["dev"], make_tokenizer(), 32)  # 24 rows


@pytest.mark.parametrize("killed_at", [1, 2, 3, 4])
def test_a_killed_run_goes_on_at_its_place(rows: EncodedRows, tmp_path: Path, killed_at: int) -> None:
    """Two epochs of three steps; each step's rows, progress and result are those of the run that was not killed."""
    training, accelerator = Training(batch_size=8, checkpoint_seconds=0.0), start("fp32")
    whole = CountingJob(rows, steps=6)
    expected = fit(whole, accelerator, 2, 0.1, training, tmp_path / "whole")
    assert [progress for _, progress in whole.steps] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    for epoch in (whole.steps[:3], whole.steps[3:]):
        assert sorted(row for numbers, _ in epoch for row in numbers) == list(range(24))
    first, second = CountingJob(rows, steps=killed_at), CountingJob(rows, steps=6)
    with pytest.raises(KeyboardInterrupt):
        fit(first, accelerator, 2, 0.1, training, tmp_path / "killed")
    progress = fit(second, accelerator, 2, 0.1, training, tmp_path / "killed")
    assert first.steps + second.steps == whole.steps
    assert progress == expected and torch.equal(second.objective.w, whole.objective.w)


def test_a_finished_run_takes_no_step(rows: EncodedRows, tmp_path: Path) -> None:
    training, accelerator = Training(batch_size=8), start("fp32")
    whole, repeated = CountingJob(rows, steps=3), CountingJob(rows, steps=0)
    progress = fit(whole, accelerator, 1, 0.1, training, tmp_path)
    assert fit(repeated, accelerator, 1, 0.1, training, tmp_path) == progress
    assert torch.equal(repeated.objective.w, whole.objective.w)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.AdamW(one.parameters())
    assert checkpoints.restore(tmp_path / CHECKPOINT, one, optimizer) is None
    checkpoints.save(tmp_path / CHECKPOINT, one, optimizer, {})
    with pytest.raises(ValueError, match=r"belong to another model: \['bias'\]"):
        checkpoints.restore(tmp_path / CHECKPOINT, other, torch.optim.AdamW(other.parameters()))


@pytest.mark.parametrize("name", [CHECKPOINT, "best-1.safetensors"])
@pytest.mark.parametrize("damaged", [b"", b"\0" * 100, None], ids=["empty", "zeros", "cut"])
def test_a_damaged_checkpoint_is_a_fresh_start(
    rows: EncodedRows,
    tmp_path: Path,
    name: str,
    damaged: bytes | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training, accelerator = Training(batch_size=8), start("fp32")
    whole, again = CountingJob(rows, steps=3), CountingJob(rows, steps=3)
    for job in (whole, again):
        monkeypatch.setattr(job, "score", lambda: {"score": 0.5})
    progress = fit(whole, accelerator, 1, 0.1, training, tmp_path)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:-3] if damaged is None else damaged)
    assert fit(again, accelerator, 1, 0.1, training, tmp_path).losses == progress.losses
    assert torch.equal(again.objective.w, whole.objective.w)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(tmp_path / CHECKPOINT) in warning and "starts afresh" in warning


def test_moments_of_another_shape_are_a_fresh_start(rows: EncodedRows, tmp_path: Path) -> None:
    module = CountingJob(rows, steps=1).objective
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    checkpoints.save(tmp_path / CHECKPOINT, module, optimizer, asdict(Progress(step=1)))
    assert checkpoints.resume(tmp_path / CHECKPOINT, module, optimizer).step == 1
    for slots in optimizer.state.values():
        slots["exp_avg"] = torch.ones(7)
    checkpoints.save(tmp_path / CHECKPOINT, module, optimizer, asdict(Progress(step=1)))
    assert checkpoints.resume(tmp_path / CHECKPOINT, module, optimizer).step == 0
