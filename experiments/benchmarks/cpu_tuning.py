"""What `training.cpu_tuning` is worth: rows per second of both stages with and without it, and equal losses."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from common import (
    ENCODER,
    MAX_LENGTH,
    Kind,
    empty_folder,
    machine_info,
    time_in_turns,
    write_random_rows,
)
from jobs import MetakdJobs, make_method, make_task
from tabulate import tabulate
from torch import nn

from metakd.cli import run
from metakd.config import Precision, Task, Training
from metakd.manifests import write_json


def main(
    out: Path,
    kind: Kind = "long",
    encoder: str = ENCODER,
    rows: int = 320,
    rounds: int = 3,
    batch_size: int = 32,
    precision: Precision = "auto",
    work: Path = Path("runs/benchmarks/cpu_tuning"),
) -> None:
    """Time an epoch of each stage with training.cpu_tuning "auto" and "off" in turns, and compare the losses.

    The teacher's logits and, with "auto", its activations are computed before and not timed. Losses are compared
    without dropout; they differ by rounding, so far more in bf16 than in fp32.

    Args:
        out: JSON file.
        kind: "long" rows (cut to 128 tokens) or "short" ones (64).
        encoder: that the teacher starts from.
        rows: of an epoch: random words, in rows as long as real ones.
        rounds: of each measurement; the median counts.
        batch_size: rows per step.
        precision: of both settings.
        work: folder for models and caches.
    """
    table = empty_folder(work) / "train.tsv"
    write_random_rows(table, kind, rows)
    training = Training(batch_size=batch_size, precision=precision)
    task = make_task(table, encoder, MAX_LENGTH[kind], training)
    tuned, stock = task, replace(task, training=replace(training, cpu_tuning="off"))
    settings: dict[str, Any] = {"kind": kind, "rows": rows, "rounds": rounds, "batch_size": batch_size}
    seconds, results = {}, {}
    # A process for each setting, since "auto" changes more than the models: the allocator, the garbage collector.
    with new_process() as tuned_process, new_process() as stock_process:

        def call(setting: str, job: Callable[..., Any], *arguments: int) -> Any:
            process, its_task = (tuned_process, tuned) if setting == "auto" else (stock_process, stock)
            return process.submit(job, work, its_task, *arguments).result()

        settings["precision"] = call("auto", train_teacher)
        for title, number in (("stage 1", 0), ("stage 2", 1)):
            print(title)
            turns = {setting: partial(call, setting, train_stage, number) for setting in ("auto", "off")}
            seconds[title] = time_in_turns(turns, rounds)
            losses = [call(setting, losses_without_dropout, number) for setting in ("auto", "off")]
            results[title] = compare(rows, seconds[title], *losses)
    write_json(out, {**settings, "stages": results, "seconds": seconds, "machine": machine_info()})
    print(tabulate([{"": title, **result} for title, result in results.items()], "keys"))


def new_process() -> ProcessPoolExecutor:
    """A process that runs one job after the other."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def train_teacher(work: Path, task: Task) -> str:
    """Train the teacher of both settings; returns the precision that they compute in."""
    jobs = MetakdJobs(work, task, make_method(1))
    jobs.train_teacher()
    return jobs.accelerator.mixed_precision


def train_stage(work: Path, task: Task, number: int) -> float:
    """Seconds of an epoch of a stage."""
    return MetakdJobs(work, task, make_method(1)).train_stage(number)


def losses_without_dropout(work: Path, task: Task, number: int) -> list[float]:
    """The loss of each step in an epoch of a stage."""
    jobs = MetakdJobs(work, task, make_method(1))
    job = jobs.stage_job(number)
    for module in job.objective.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    _, progress = jobs.train_epoch(job)
    return progress.losses


def compare(rows: int, seconds: dict[str, list[float]], tuned: list[float], stock: list[float]) -> dict[str, float]:
    """Speed of both settings, their mean losses, and the largest relative difference of a step's loss."""
    auto, off = (rows / median(seconds[setting]) for setting in ("auto", "off"))
    return {
        "rows/s, auto": auto,
        "rows/s, off": off,
        "ratio": auto / off,
        "mean loss, auto": fmean(tuned),
        "mean loss, off": fmean(stock),
        "largest relative difference of a loss": max(abs(a - b) / abs(b) for a, b in zip(tuned, stock, strict=True)),
    }


if __name__ == "__main__":
    run(main)
