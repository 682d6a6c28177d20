"""Uniform model soups: the mean weights of several runs from one start (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from metakd.config import Training
from metakd.training import checkpoints
from metakd.training.loop import TrainingJob, fit
from metakd.training.progress import Progress

log = logging.getLogger(__name__)
BETWEEN_SEEDS = 1000  # so that the runs of one seed share none with those of its neighbours


def fit_soup(
    runs: int,
    job: TrainingJob,
    accelerator: Accelerator,
    epochs: int,
    learning_rate: float,
    training: Training,
    folder: Path,
    name: str,
) -> list[Progress]:
    """`fit` several times from the job's present weights, and leave the mean of the results in it.

    The runs differ in the order of rows and in dropout. Whichever of them a kill ends, the next call goes on there.

    Args:
        folder: for the checkpoints of all runs.

    Returns:
        The progress of each run.
    """
    if runs == 1:
        return [fit(job, accelerator, epochs, learning_rate, training, folder / "training", name)]
    start = {key: tensor.clone() for key, tensor in checkpoints.distinct_tensors(job.objective).items()}
    sums: dict[str, torch.Tensor] = {}
    found = []
    for run in range(runs):
        log.info("run %d of %d", run + 1, runs)
        checkpoints.load_tensors(job.objective, start)
        seeded = replace(training, seed=training.seed + BETWEEN_SEEDS * run)
        place = folder / f"training-{run + 1}"
        found.append(fit(job, accelerator, epochs, learning_rate, seeded, place, f"{name}-{run + 1}"))
        for key, tensor in checkpoints.distinct_tensors(job.objective).items():
            if tensor.is_floating_point():  # all else, e.g. position ids, is no weight
                sums[key] = sums.get(key, 0.0) + tensor.double()
    means = {key: (total / runs).to(start[key].dtype) for key, total in sums.items()}
    checkpoints.load_tensors(job.objective, {**start, **means})
    return found
