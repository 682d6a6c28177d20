"""Rows per second of trained classifiers, side by side in one run."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from metakd.cli import run
from metakd.errors import InputError
from metakd.manifests import write_json


def main(models: str, table: Path, out: Path, rounds: int = 5, rows: int = 512, threads: int | None = None) -> None:
    """Time several models on the same rows, in turns, and print medians and ratios to the first.

    Tokens are made before; batches are those of evaluation (64 rows of similar length).

    Args:
        models: folders of classifiers, separated by commas; the first is what the others are compared with.
        table: texts.
        out: JSON file.
        rounds: timed passes of each model, after one that is not timed.
        rows: of the table that are timed, from its beginning.
        threads: of torch; by default as many as it takes.
    """
    import numpy as np
    import torch

    from metakd.training.inference import load_for_inference, logits_of
    from metakd.training.runtime import start

    if threads is not None:
        torch.set_num_threads(threads)
    names = models.split(",")
    if len(names) < 2:
        raise InputError(f"--models {models}: name at least two folders, separated by commas")
    accelerator = start("fp32")
    loaded = [load_for_inference(Path(name), None, accelerator) for name in names]
    encoded = []
    for model in loaded:
        every = model.encode_texts(table)
        encoded.append(every.select(np.arange(min(rows, len(every)))))
    seconds: list[list[float]] = [[] for _ in names]
    for turn in range(rounds + 1):
        for number, (model, part) in enumerate(zip(loaded, encoded, strict=True)):
            begun = time.perf_counter()
            logits_of(model.model, part, accelerator, names[number])
            if turn:
                seconds[number].append(time.perf_counter() - begun)
    count = len(encoded[0])
    medians = [statistics.median(found) for found in seconds]
    parameters = [sum(p.numel() for p in model.model.parameters()) for model in loaded]
    result = [
        {
            "model": name,
            "rows_per_second": count / median,
            "ratio": medians[0] / median,
            "parameters": size,
            "seconds": found,
        }
        for name, median, size, found in zip(names, medians, parameters, seconds, strict=True)
    ]
    write_json(out, {"rows": count, "threads": torch.get_num_threads(), "table": str(table), "models": result})
    print(f"{count} rows, {torch.get_num_threads()} threads, median of {rounds}")
    for line in result:
        speed = f"{line['rows_per_second']:>9.1f} rows/s  x{line['ratio']:<6.2f}"
        print(f"{speed} {line['parameters']:>11,} parameters  {line['model']}")


if __name__ == "__main__":
    run(main)
