"""Uniform model soups: the mean weights of several runs from one start (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from metakd.config import Training
from metakd.training import checkpoints
from metakd.training.loop import TrainingJob, fit
from metakd.training.progress import Progress

log = logging.getLogger(__name__)
BETWEEN_SEEDS = 1000  # so that the runs of one seed share none with those of its neighbours


@dataclass(frozen=True)
class Soup:
    """What came of several runs.

    Args:
        runs: the progress of each.
        scores: dev scores of the weights that were kept; None without dev rows.
    """

    runs: list[Progress]
    scores: dict[str, float] | None

    def __str__(self) -> str:
        """Which weights were kept."""
        if len(self.runs) > 1:
            return f"mean of {len(self.runs)} runs"
        best, epochs = self.runs[0].best, len(self.runs[0].epochs)
        return f"best epoch {best['epoch']}" if best else f"last epoch {epochs}"

    def history(self) -> dict[str, Any]:
        """What is saved with the model: the first run, and the scores of all."""
        history = self.runs[0].summary()
        if len(self.runs) > 1 and self.scores is not None:
            history["soup"] = {"dev": self.scores, "runs": [saved_scores(run) for run in self.runs]}
        return history


def saved_scores(progress: Progress) -> dict[str, float] | None:
    """The dev scores of the epoch that a run saved."""
    return (progress.best or progress.epochs[-1]).get("dev")


def fit_soup(
    runs: int,
    job: TrainingJob,
    accelerator: Accelerator,
    epochs: int,
    learning_rate: float,
    training: Training,
    folder: Path,
    name: str,
) -> Soup:
    """`fit` several times from the job's present weights, and leave the mean of the results in it.

    The runs differ in the order of rows and in dropout. Whichever of them a kill ends, the next call goes on there.

    Args:
        folder: for the checkpoints of all runs.
    """
    if runs == 1:
        progress = fit(job, accelerator, epochs, learning_rate, training, folder / "training", name)
        return Soup([progress], saved_scores(progress))
    start = {key: tensor.clone() for key, tensor in checkpoints.distinct_tensors(job.objective).items()}
    found: list[Progress] = []

    def trained() -> Iterator[dict[str, torch.Tensor]]:
        """The weights that each run leaves."""
        for run in range(runs):
            log.info("run %d of %d", run + 1, runs)
            checkpoints.load_tensors(job.objective, start)
            seeded = replace(training, seed=training.seed + BETWEEN_SEEDS * run)
            place = folder / f"training-{run + 1}"
            found.append(fit(job, accelerator, epochs, learning_rate, seeded, place, f"{name}-{run + 1}"))
            yield checkpoints.distinct_tensors(job.objective)

    checkpoints.load_tensors(job.objective, checkpoints.mean_of(trained(), runs))
    soup = Soup(found, job.score())
    if soup.scores is not None:
        single = ", ".join(f"{scores['score']:.4f}" for scores in map(saved_scores, found) if scores)
        log.info("dev score of the averaged weights: %.4f, of the runs: %s", soup.scores["score"], single)
    return soup
