"""What the benchmarks share: rows to run on, and where a result was measured."""

from __future__ import annotations

import os
import platform
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from metakd.data.tables import Row, write_rows

# Tokens a row at 0, 10, ... 100 %: books of the Amazon reviews cut to 128 tokens, and the quick task.
LENGTHS = {
    "long": [3, 43, 69, 93, 115, 128, 128, 128, 128, 128, 128],
    "short": [4, 12, 16, 19, 22, 25, 28, 31, 35, 41, 64],
}
MAX_LENGTH = {"long": 128, "short": 64}
SENTENCE = """\
good bad fine great poor awful book film story plot read watch buy phone screen time people way day man thing
woman life child world school state family student group country problem hand part place case week company
system program question work government number night point home water room mother area money fact month lot
right study job word business issue side kind head house service friend father power hour game line end member"""
WORDS = SENTENCE.split()


def generated(path: Path, kind: str, count: int, domains: tuple[str, ...] = ("one", "two"), seed: int = 0) -> None:
    """Write a table of random words, one token each, whose rows are as long as real ones."""
    generator = random.Random(seed)
    rows: list[Row] = []
    for i in range(count):
        tokens = int(np.interp(generator.random(), np.linspace(0, 1, 11), LENGTHS[kind]))
        label = generator.choice(["negative", "positive"])
        words = [*generator.choices(WORDS, k=max(1, tokens - 3)), "great" if label == "positive" else "awful"]
        rows.append({"guid": str(i), "text_a": " ".join(words), "text_b": "", "label": label,
                     "domain": domains[i % len(domains)], "weight": generator.random()})  # fmt: skip
    write_rows(path, rows)


def in_turns(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; they take turns, so that a slow minute of the machine hits all."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, contestant in contestants.items():
            found[name].append(contestant())
            print(f"  round {number + 1} of {rounds}: {name} {found[name][-1]:.2f} s")
    return found


def median(values: list[float]) -> float:
    return float(statistics.median(values))


def machine() -> dict[str, Any]:
    """Where and with what a benchmark ran."""
    import torch
    import transformers

    name, info = platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        name = next((s.split(":")[1].strip() for s in info.read_text().splitlines() if "model name" in s), name)
    return {
        "processor": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "transformers": transformers.__version__,
    }  # fmt: skip
