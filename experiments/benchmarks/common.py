"""What the benchmarks share: tables of random words, timing in turns, and a description of the machine."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metakd import machine
from metakd.data.tables import Row, write_rows

Kind = Literal["long", "short"]
ENCODER = "runs/models/all-MiniLM-L6-v2"  # data_prep/packaged_minilm.py makes it
INSTALL = "install it and set PYTHONPATH as experiments/benchmarks/README.md says"
# Tokens of a row at 0, 10, ... 100 %. "long": books of the Amazon reviews, cut to 128. "short": the quick run's task.
LENGTHS: dict[Kind, list[int]] = {
    "long": [3, 43, 69, 93, 115, 128, 128, 128, 128, 128, 128],
    "short": [4, 12, 16, 19, 22, 25, 28, 31, 35, 41, 64],
}
MAX_LENGTH: dict[Kind, int] = {"long": 128, "short": 64}
SENTENCE = """\
good bad fine great poor awful book film story plot read watch buy phone screen time people way day man thing
woman life child world school state family student group country problem hand part place case week company
system program question work government number night point home water room mother area money fact month lot
right study job word business issue side kind head house service friend father power hour game line end member"""
WORDS = SENTENCE.split()


def write_random_rows(path: Path, kind: Kind, count: int, domains: tuple[str, ...] = ("one",), seed: int = 0) -> None:
    """Write a labelled table of random words, one token each; its rows are as long as real ones."""
    generator = random.Random(seed)
    rows: list[Row] = []
    for i in range(count):
        tokens = int(np.interp(generator.random(), np.linspace(0, 1, 11), LENGTHS[kind]))
        label = generator.choice(["negative", "positive"])
        words = [*generator.choices(WORDS, k=max(1, tokens - 3)), "great" if label == "positive" else "awful"]
        rows.append({"guid": str(i), "text_a": " ".join(words), "text_b": "", "label": label,
                     "domain": domains[i % len(domains)], "weight": generator.random()})  # fmt: skip
    write_rows(path, rows)


def empty_folder(folder: Path) -> Path:
    """Create a folder, or remove everything in it; returns the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def time_in_turns(jobs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job in each round. The jobs take turns, so a slow minute of the machine slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name, job in jobs.items():
            seconds[name].append(job())
            print(f"  round {number + 1} of {rounds}: {name} {seconds[name][-1]:.2f} s")
    return seconds


def machine_info() -> dict[str, Any]:
    """The machine, torch's threads and library versions of this run."""
    import torch

    return {**machine.machine_info("torch", "transformers"), "threads": torch.get_num_threads()}
