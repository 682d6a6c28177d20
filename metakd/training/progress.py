"""Where a training run is: losses, epochs, and the best of them; it travels in the checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metakd.errors import InputError


@dataclass
class Progress:
    """Where a run is, as kept in its checkpoint.

    Args:
        step: optimizer steps done.
        losses: objective at each step.
        sums: of each term's unweighted loss over the current epoch's steps.
        epochs: one record per finished epoch.
        best: the record of the best epoch so far.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None

    def summary(self) -> dict[str, Any]:
        """What is kept when the run is over."""
        return {"epochs": self.epochs, "best": self.best, "losses": self.losses}


def best_file(folder: Path, progress: Progress) -> Path:
    """The weights of the best epoch; a checkpoint names the epoch, so it never meets those of another."""
    assert progress.best is not None
    return folder / f"best-{progress.best['epoch']}.safetensors"


def record_step(progress: Progress, scales: dict[str, float], losses: dict[str, float]) -> None:
    """Note the losses of a step; all processes hold the same, so all stop if one is not finite."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise InputError(
                f"step {progress.step + 1}: the loss of term {name!r} is {value}; lower the learning rate, or "
                "train with --task.training.precision fp32"
            )
    progress.step += 1
    progress.losses.append(sum(scales[name] * value for name, value in losses.items()))
    for name, value in losses.items():
        progress.sums[name] = progress.sums.get(name, 0.0) + value


def finish_epoch(progress: Progress, scores: dict[str, float] | None, steps: int) -> bool:
    """Record an epoch of so many steps; returns whether it is the best so far (the earlier one of two equal ones).

    Args:
        scores: on dev; None where no epoch is better than the last.
    """
    record: dict[str, Any] = {"epoch": len(progress.epochs) + 1}
    record["losses"] = {name: value / steps for name, value in progress.sums.items()}
    if scores is not None:
        record["dev"] = scores
    progress.epochs.append(record)
    progress.sums = {}
    if scores is None or (progress.best is not None and scores["score"] <= progress.best["dev"]["score"]):
        return False
    progress.best = record
    return True


def describe(record: dict[str, Any]) -> str:
    parts = [f"{name} {value:.4f}" for name, value in record["losses"].items()]
    parts += [f"dev {name} {value:.4f}" for name, value in record.get("dev", {}).items()]
    return f"epoch {record['epoch']}: " + "  ".join(parts)
