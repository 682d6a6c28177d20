"""Where the time of a step goes: data, teacher, student, losses, backward pass, optimizer; and by operation."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from timing import MAX_LENGTH, generated, machine

from metakd.cli import run
from metakd.manifests import write_json

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm")


def main(
    out: Path,
    kind: Literal["long", "short"] = "long",
    encoder: str = "runs/models/all-MiniLM-L6-v2",
    rows: int = 640,
    batch_size: int = 32,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    work: Path = Path("runs/benchmarks/profile"),
) -> None:
    """Profile an epoch of each stage, after one that is not counted.

    Shares by part are of the wall time, measured around the functions that do the work, so they hold where a call
    returns when its work is done: on a CPU. Shares by operation are torch's, of another epoch.

    Args:
        out: JSON file.
        kind: "long" rows (cut to 128 tokens) or "short" ones (64).
        encoder: that the teacher starts from; data_prep/packaged_minilm.py makes the default.
        rows: of random words with the lengths of real ones.
        batch_size: rows a step.
        precision: of both stages.
        work: folder for models and caches.
    """
    from ours import Bench

    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    generated(work / "train.tsv", kind, rows, ("one",))
    shutil.copy(work / "train.tsv", work / "few.tsv")
    bench = Bench(work, encoder, MAX_LENGTH[kind], batch_size, precision, 1)
    bench.teacher()
    found: dict[str, Any] = {}
    for title, stage in (("stage 1", bench.inner), ("stage 2", bench.last)):
        problem = bench.prepared("train.tsv").problem(stage, 2, bench.empty("cache"))
        problem.teacher.start()
        epoch = partial(bench.fit, problem)
        epoch()
        parts, seconds = by_part(epoch)
        operations = by_operation(epoch)
        found[title] = {"rows_per_second": rows / seconds, "parts": parts, "operations": operations}
        print(f"{title}: {rows / seconds:.1f} rows/s")
        for name, share in {**parts, **operations}.items():
            print(f"  {name:40} {100 * share:5.1f} %")
    write_json(out, {"kind": kind, "rows": rows, "batch_size": batch_size, "precision": bench.precision,
                     "stages": found, "machine": machine()})  # fmt: skip


def by_operation(job: Callable[[], float]) -> dict[str, float]:
    """Share of all products of matrices and of the largest other operations in the time of all."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        job()
    every = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    shares = {name: value / sum(every.values()) for name, value in every.items()}
    largest = sorted((name for name in shares if name not in PRODUCTS), key=lambda name: -shares[name])[:8]
    return {
        "matrix products": sum(shares.get(name, 0.0) for name in PRODUCTS),
        **{name: shares[name] for name in largest},
    }


def by_part(job: Callable[[], float]) -> tuple[dict[str, float], float]:
    """Share of each part in the seconds that a job says it took, and these seconds."""
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from metakd.data.encoding import EncodedRows
    from metakd.objectives import distillation
    from metakd.training.teacher_outputs import TeacherViews

    places: list[tuple[str, Any, str]] = [
        ("data", EncodedRows, "batch"),
        ("teacher", TeacherViews, "__call__"),
        ("student forward", distillation, "view"),
        ("losses", distillation, "rows_loss"),
        ("backward", Accelerator, "backward"),
        ("clipping, optimizer", Accelerator, "clip_grad_norm_"),
        ("clipping, optimizer", AcceleratedOptimizer, "step"),
        ("clipping, optimizer", AcceleratedOptimizer, "zero_grad"),
    ]
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for part, owner, name in places:
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name), part, spent)))
        seconds = job()
    shares = {part: value / seconds for part, value in spent.items()}
    return {**shares, "the rest": 1 - sum(shares.values())}, seconds


def timed(function: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    """The function, with its seconds added to a part."""

    def measured(*arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        result = function(*arguments, **options)
        spent[part] += time.perf_counter() - begun
        return result

    return measured


if __name__ == "__main__":
    run(main)
