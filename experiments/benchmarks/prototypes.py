"""Prototype scores of a million embeddings: time against reading the file, and memory."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from timing import machine, median

from metakd.cli import run
from metakd.data.row_store import RowStore, create
from metakd.manifests import write_json
from metakd.weighting.prototypes import BLOCK, prototype_scores


class Streamed:
    """Embeddings that are made when they are asked for, as if they came from elsewhere: [n, D] without a file."""

    def __init__(self, count: int, width: int) -> None:
        self.shape = (count, width)
        self.some = np.random.default_rng(0).normal(size=(BLOCK, width)).astype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.some[: rows.stop - rows.start] + np.float32(rows.start % 7)


def main(
    out: Path, rows: int = 1_000_000, streamed_rows: int = 10_000_000, width: int = 384, domains: int = 16,
    classes: int = 3, rounds: int = 3, work: Path = Path("runs/benchmarks/prototypes"),
) -> None:  # fmt: skip
    """Score random embeddings from a file, and ten times as many from a stream.

    Args:
        out: JSON file.
        rows: in the file.
        streamed_rows: in the stream.
        width: of an embedding.
        domains: random ones.
        classes: random ones.
        rounds: medians of so many.
        work: folder for the file.
    """
    alone(make, work, rows, width, domains, classes)
    found: dict[str, list[dict[str, float]]] = {"reading": [], "scoring": [], "scoring a stream": []}
    jobs = {"reading": (read, rows), "scoring": (score, rows), "scoring a stream": (stream, streamed_rows)}
    for _ in range(rounds):
        for name, (job, count) in jobs.items():
            forget(work / "values.npy")
            found[name].append(alone(job, work, count, width, domains, classes))
            print(f"  {name}: {found[name][-1]}")
    medians = {name: {k: median([f[k] for f in runs]) for k in runs[0]} for name, runs in found.items()}
    ratio = medians["scoring"]["seconds"] / medians["reading"]["seconds"]
    write_json(out, {"rows": rows, "streamed_rows": streamed_rows, "width": width, "domains": domains,
                     "classes": classes, "medians": medians, "ratio": ratio, "machine": machine()})  # fmt: skip
    for name, values in medians.items():
        print(f"{name}: {values['seconds']:.2f} s, peak memory {values['peak_mb']:.0f} MB")
    print(f"scoring / reading: {ratio:.2f}")


def make(work: Path, rows: int, width: int, domains: int, classes: int) -> None:
    """The file, unless it is there."""
    if (work / "done.npy").is_file():
        there = RowStore(work)
        if there.values.shape == (rows, width) and np.load(work / "done.npy").all():
            return
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    create(work, map(str, range(rows)), width)
    store, generator = RowStore(work, writable=True), np.random.default_rng(0)
    for start in range(0, rows, BLOCK):
        some = np.arange(start, min(start + BLOCK, rows))
        store.write(some, generator.normal(0.5, 1.0, (len(some), width)).astype(np.float32))
    os.sync()


def read(work: Path, rows: int, width: int, domains: int, classes: int) -> None:
    """The file once, in blocks."""
    with (work / "values.npy").open("rb") as file:
        while file.read(BLOCK * width * 4):
            pass


def score(work: Path, rows: int, width: int, domains: int, classes: int) -> None:
    generator = np.random.default_rng(1)
    prototype_scores(RowStore(work).values, generator.integers(0, classes, rows), generator.integers(0, domains, rows))


def stream(work: Path, rows: int, width: int, domains: int, classes: int) -> None:
    generator = np.random.default_rng(1)
    embeddings = Streamed(rows, width)
    labels, of = generator.integers(0, classes, rows), generator.integers(0, domains, rows)
    prototype_scores(embeddings, labels, of)  # type: ignore[arg-type]


def alone(job, *arguments) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Seconds and peak memory of a job in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, job, *arguments).result()


def measured(job, *arguments) -> dict[str, float]:  # type: ignore[no-untyped-def]
    begun = time.perf_counter()
    job(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"seconds": time.perf_counter() - begun, "peak_mb": peak}


def forget(path: Path) -> None:
    """Drop the file from the system's cache, so that it is read from the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    run(main)
