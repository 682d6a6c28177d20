"""Rows a second of teacher training, both stages and a whole run, against what people use today."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from timing import MAX_LENGTH, generated, in_turns, machine, median

from metakd.cli import run
from metakd.errors import InputError
from metakd.manifests import write_json


def main(
    out: Path,
    kind: Literal["long", "short"] = "long",
    encoder: str = "runs/models/all-MiniLM-L6-v2",
    table: Path | None = None,
    domain: str = "",
    rows: int = 320,
    whole_rows: int = 160,
    whole_epochs: int = 10,
    rounds: int = 3,
    batch_size: int = 32,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    work: Path = Path("runs/benchmarks"),
) -> None:
    """Time metakd, TextBrewer and the released loop's computation in turns on the same rows and models.

    TextBrewer is installed beside the environment, as tests/references/requirements.txt says. A stage's rows a second
    are those of an epoch; what metakd computes once beforehand is counted in the whole run. Students have 3 layers.
    The others pad all rows to the longest there may be, and compute in fp32.

    Args:
        out: JSON file.
        kind: "long" rows (cut to 128 tokens) or "short" ones (64).
        encoder: that the teacher starts from; data_prep/packaged_minilm.py makes the default.
        table: labelled table of the task; by default rows of random words with the lengths of real ones.
        domain: whose rows of the table are used.
        rows: of an epoch.
        whole_rows: of the whole run of two stages.
        whole_epochs: of each of its stages.
        rounds: of each measurement, whose median counts.
        batch_size: rows a step, for all.
        precision: of metakd; the others compute in fp32.
        work: folder for models and caches.
    """
    try:
        import textbrewer as _  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error}; install it and set PYTHONPATH as tests/references/requirements.txt says") from None
    import numpy as np
    from contestants import released, textbrewer
    from ours import Bench

    from metakd.data.tables import read_rows, write_rows

    work = work / kind
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if table is None:
        table = work / "source.tsv"
        generated(table, kind, max(rows, whole_rows), ("one",))
    found = [row for row in read_rows(table) if not domain or row["domain"] == domain]
    found = [found[i] for i in np.random.default_rng(0).permutation(len(found))[:rows]]
    write_rows(work / "train.tsv", found)
    write_rows(work / "few.tsv", found[:whole_rows])
    bench = Bench(work, encoder, MAX_LENGTH[kind], batch_size, precision, whole_epochs)
    others = {"TextBrewer": textbrewer, "released loop": released}
    seconds: dict[str, dict[str, list[float]]] = {}
    print("teacher training")
    turns: dict[str, Callable[[], float]] = {"metakd": bench.teacher, "released loop": bench.released_teacher}
    seconds["teacher training"] = in_turns(turns, rounds)
    for title, stage in (("stage 1", bench.inner), ("stage 2", bench.last)):
        print(title)
        turns = {"metakd": partial(bench.stage, stage)}
        turns |= {name: partial(bench.others, name, by, [stage]) for name, by in others.items()}
        seconds[title] = in_turns(turns, rounds)
    print("whole run")
    turns = {"metakd": bench.whole}
    turns |= {name: partial(bench.others, name, by, [bench.inner, bench.last]) for name, by in others.items()}
    seconds["whole run"] = in_turns(turns, rounds)

    counts = {part: 2 * whole_epochs * len(bench.few) if part == "whole run" else len(bench.every) for part in seconds}
    speeds = {
        part: {name: counts[part] / median(times) for name, times in by_name.items()}
        for part, by_name in seconds.items()
    }
    losses = {name: {stage: median(v) for stage, v in values.items()} for name, values in bench.losses.items()}
    settings = {"kind": kind, "rows": len(bench.every), "whole_rows": whole_rows, "whole_epochs": whole_epochs,
                "batch_size": batch_size, "rounds": rounds, "table": str(table), "domain": domain,
                "mean_tokens": float(bench.every.lengths.mean()), "precision": bench.precision}  # fmt: skip
    write_json(out, {**settings, "rows_per_second": speeds, "losses": losses, "seconds": seconds, "machine": machine()})
    for part, by_name in speeds.items():
        shown = [
            f"{name} {speed:.1f} rows/s (metakd x{by_name['metakd'] / speed:.1f})" for name, speed in by_name.items()
        ]
        print(f"{part}: {'  '.join(shown)}")
    for name, values in losses.items():
        print(f"losses after the whole run, {name}: { ({stage: round(value, 4) for stage, value in values.items()}) }")


if __name__ == "__main__":
    run(main)
