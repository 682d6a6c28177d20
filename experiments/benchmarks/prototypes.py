"""Prototype scores of a million embeddings: time, in units of reading the file, and memory."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from common import machine_info

from metakd.cli import run
from metakd.data.row_store import DONE, VALUES, RowStore, create_store
from metakd.manifests import peak_memory, write_json
from metakd.weighting.prototypes import BLOCK, prototype_scores


@dataclass(frozen=True)
class Sizes:
    """Random embeddings.

    Args:
        rows: in the file.
        streamed_rows: of embeddings that are made when they are read.
        width: of an embedding.
        domains, classes: numbers of them, drawn at random for each row.
    """

    rows: int
    streamed_rows: int
    width: int
    domains: int
    classes: int


Job = Callable[[Path, Sizes], object]


class StreamedEmbeddings:
    """Embeddings [n, D] without a file: each block is made when it is read."""

    def __init__(self, count: int, width: int) -> None:
        self.shape = (count, width)
        self.block = np.random.default_rng(0).normal(size=(BLOCK, width)).astype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.block[: rows.stop - rows.start] + np.float32(rows.start % 7)


def main(
    out: Path, rows: int = 1_000_000, streamed_rows: int = 10_000_000, width: int = 384, domains: int = 16,
    classes: int = 3, rounds: int = 3, work: Path = Path("runs/benchmarks/prototypes"),
) -> None:  # fmt: skip
    """Read embeddings from a file, score them, and score ten times as many from a stream.

    Args:
        out: JSON file.
        rows: in the file.
        streamed_rows: in the stream.
        width: of an embedding.
        domains: number of domains; each row's is random.
        classes: number of classes; each row's is random.
        rounds: of each measurement; the median counts.
        work: folder for the file.
    """
    sizes = Sizes(rows, streamed_rows, width, domains, classes)
    measure_alone(make_file, work, sizes)
    jobs: dict[str, Job] = {"reading": read_file, "scoring": score_file, "scoring a stream": score_stream}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            drop_from_cache(work / VALUES)
            measured[name].append(measure_alone(job, work, sizes))
            print(f"  {name}: {measured[name][-1]}")
    medians = {name: {k: median(m[k] for m in runs) for k in runs[0]} for name, runs in measured.items()}
    ratio = medians["scoring"]["seconds"] / medians["reading"]["seconds"]
    write_json(out, {**asdict(sizes), "medians": medians, "ratio": ratio, "machine": machine_info()})
    for name, values in medians.items():
        print(f"{name}: {values['seconds']:.2f} s, peak memory {values['peak_mb']:.0f} MB")
    print(f"time of scoring, reading the file = 1: {ratio:.2f}")


def make_file(work: Path, sizes: Sizes) -> None:
    """Write random embeddings, unless an earlier run has written as many."""
    if (work / DONE).is_file():
        store = RowStore(work, writable=True)
        if store.values.shape == (sizes.rows, sizes.width) and store.done is not None and store.done.all():
            return
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    create_store(work, map(str, range(sizes.rows)), sizes.width)
    store, generator = RowStore(work, writable=True), np.random.default_rng(0)
    for first in range(0, sizes.rows, BLOCK):
        rows = np.arange(first, min(first + BLOCK, sizes.rows))
        store.write(rows, generator.normal(0.5, 1.0, (len(rows), sizes.width)).astype(np.float32))
    os.sync()


def read_file(work: Path, sizes: Sizes) -> None:
    """Read the file once, block by block."""
    with (work / VALUES).open("rb") as file:
        while file.read(BLOCK * sizes.width * 4):
            pass


def score_file(work: Path, sizes: Sizes) -> np.ndarray:
    """Prototype scores of the file's embeddings."""
    return prototype_scores(RowStore(work).values, *random_labels_and_domains(sizes.rows, sizes))


def score_stream(work: Path, sizes: Sizes) -> np.ndarray:
    """Prototype scores of the streamed embeddings."""
    embeddings: object = StreamedEmbeddings(sizes.streamed_rows, sizes.width)
    return prototype_scores(embeddings, *random_labels_and_domains(sizes.streamed_rows, sizes))  # type: ignore[arg-type]


def random_labels_and_domains(rows: int, sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """A class and a domain number for each row [n]."""
    generator = np.random.default_rng(1)
    return generator.integers(0, sizes.classes, rows), generator.integers(0, sizes.domains, rows)


def measure_alone(job: Job, work: Path, sizes: Sizes) -> dict[str, float]:
    """Seconds and peak memory of a job in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, job, work, sizes).result()


def measure(job: Job, work: Path, sizes: Sizes) -> dict[str, float]:
    begun = time.perf_counter()
    job(work, sizes)
    return {"seconds": time.perf_counter() - begun, "peak_mb": peak_memory()}


def drop_from_cache(path: Path) -> None:
    """Drop a file from the system's cache, so that it is read from the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    run(main)
