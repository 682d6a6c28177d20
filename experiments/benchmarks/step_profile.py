"""Where the time of a step goes: data, teacher, student, losses, backward pass, optimizer; and by operation."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from common import ENCODER, MAX_LENGTH, Kind, empty_folder, machine_info, write_random_rows
from jobs import MetakdJobs, make_method, make_task
from torch.profiler import ProfilerActivity, profile

from metakd.cli import run
from metakd.config import Precision, Training
from metakd.data.encoding import EncodedRows
from metakd.manifests import write_json
from metakd.objectives import distillation
from metakd.training.teacher_outputs import TeacherOutputs

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm")
PLACES: list[tuple[str, Any, str]] = [  # part of a step, and the function whose seconds count as this part
    ("data", EncodedRows, "batch"),
    ("teacher", TeacherOutputs, "__call__"),
    ("student forward", distillation, "compute_features"),
    ("losses", distillation, "term_loss"),
    ("backward", Accelerator, "backward"),
    ("clipping, optimizer", Accelerator, "clip_grad_norm_"),
    ("clipping, optimizer", AcceleratedOptimizer, "step"),
    ("clipping, optimizer", AcceleratedOptimizer, "zero_grad"),
]


def main(
    out: Path,
    kind: Kind = "long",
    encoder: str = ENCODER,
    rows: int = 640,
    batch_size: int = 32,
    precision: Precision = "auto",
    work: Path = Path("runs/benchmarks/profile"),
) -> None:
    """Profile an epoch of each stage, after one that does not count.

    Shares by part are measured around the functions that do the work. A CPU's functions return when their work is
    done, so these shares hold on a CPU only. Shares by operation are those of torch's profiler, in another epoch.

    Args:
        out: JSON file.
        kind: "long" rows (cut to 128 tokens) or "short" ones (64).
        encoder: that the teacher starts from.
        rows: of random words, as long as real ones.
        batch_size: rows per step.
        precision: of both stages.
        work: folder for models and caches.
    """
    table = empty_folder(work) / "train.tsv"
    write_random_rows(table, kind, rows)
    task = make_task(table, encoder, MAX_LENGTH[kind], Training(batch_size=batch_size, precision=precision))
    jobs = MetakdJobs(work, task, make_method(epochs=1))
    jobs.train_teacher()
    stages = {}
    for title, number in (("stage 1", 0), ("stage 2", 1)):
        shares, seconds = profile_stage(jobs, number)
        stages[title] = {"rows_per_second": rows / seconds, **shares}
        print(f"{title}: {rows / seconds:.1f} rows/s")
        for name, share in {**shares["parts"], **shares["operations"]}.items():
            print(f"  {name:40} {100 * share:5.1f} %")
    write_json(out, {"kind": kind, "rows": rows, "batch_size": batch_size,
                     "precision": jobs.accelerator.mixed_precision, "stages": stages,
                     "machine": machine_info()})  # fmt: skip


def profile_stage(jobs: MetakdJobs, number: int) -> tuple[dict[str, dict[str, float]], float]:
    """The shares by part and by operation in an epoch of a stage, and the epoch's seconds."""
    job = jobs.stage_job(number)
    jobs.train_epoch(job)  # the first epoch is slower
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for part, owner, name in PLACES:
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name), part, spent)))
        seconds, _ = jobs.train_epoch(job)
    parts = {part: value / seconds for part, value in spent.items()}
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        jobs.train_epoch(job)
    return {
        "parts": {**parts, "the rest": 1 - sum(parts.values())},
        "operations": shares_by_operation(profiled),
    }, seconds


def shares_by_operation(profiled: profile) -> dict[str, float]:
    """The share of all matrix products, and of the 8 largest other operations, in the time of all operations."""
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    shares = {name: value / sum(times.values()) for name, value in times.items()}
    products = sum(shares.pop(name, 0.0) for name in PRODUCTS)
    largest = sorted(shares.items(), key=lambda item: -item[1])[:8]
    return {"matrix products": products, **dict(largest)}


def timed(function: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    """The function; its seconds are added to a part."""

    def measured(*arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        result = function(*arguments, **options)
        spent[part] += time.perf_counter() - begun
        return result

    return measured


if __name__ == "__main__":
    run(main)
