"""The state of a training run: losses, epochs and the best of them; it is saved in the checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metakd.errors import InputError


@dataclass
class Progress:
    """The state of a run.

    Args:
        step: optimizer steps completed.
        losses: objective at each step.
        sums: sum of each term's loss over the current epoch's steps.
        epochs: one record per finished epoch.
        best: the record of the best epoch so far.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None

    def summary(self) -> dict[str, Any]:
        """What is saved with the model."""
        return {"epochs": self.epochs, "best": self.best, "losses": self.losses}

    def record_step(self, scales: dict[str, float], losses: dict[str, float]) -> None:
        """Add a step's losses. All processes hold the same numbers, so all stop if one is not finite."""
        for name, value in losses.items():
            if not math.isfinite(value):
                raise InputError(
                    f"step {self.step + 1}: the loss of term {name!r} is {value}; lower the learning rate, or set "
                    "task.training.precision to fp32"
                )
        self.step += 1
        self.losses.append(sum(scales[name] * value for name, value in losses.items()))
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def finish_epoch(self, scores: dict[str, float] | None, steps: int, compare: bool) -> bool:
        """Record an epoch of so many steps; returns whether it is the best so far (of equal ones the later).

        Args:
            scores: on dev, if there are dev rows.
            compare: whether the best epoch is saved; else no epoch counts as the best.
        """
        record: dict[str, Any] = {"epoch": len(self.epochs) + 1}
        record["losses"] = {name: value / steps for name, value in self.sums.items()}
        if scores is not None:
            record["dev"] = scores
        self.epochs.append(record)
        self.sums = {}
        if scores is None or not compare or (self.best is not None and scores["score"] < self.best["dev"]["score"]):
            return False
        self.best = record
        return True

    def best_file(self, folder: Path) -> Path:
        """The weights of the best epoch. A checkpoint names the epoch, so it never meets another epoch's weights."""
        assert self.best is not None
        return folder / f"best-{self.best['epoch']}.safetensors"


def epoch_line(record: dict[str, Any]) -> str:
    """An epoch's losses and dev scores in one line."""
    values = [f"{name} {value:.4f}" for name, value in record["losses"].items()]
    values += [f"dev {name} {value:.4f}" for name, value in record.get("dev", {}).items()]
    return f"epoch {record['epoch']}: " + "  ".join(values)
