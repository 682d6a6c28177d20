"""Rows per second of trained classifiers, side by side."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import machine_info, time_in_turns
from tabulate import tabulate

from metakd.cli import run
from metakd.data.encoding import EncodedRows
from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.training.inference import LoadedClassifier, load_trained_classifier, predict_logits
from metakd.training.runtime import start


def main(
    models: list[Path], table: Path, out: Path, rounds: int = 5, rows: int = 512, threads: int | None = None
) -> None:
    """Time several models on the same rows in turns, and compare their speed with the first one's.

    Tokenising is not timed. Batches are those of evaluation: 64 rows of similar length.

    Args:
        models: folders of classifiers, as a list '[a, b]'; the first is the one that the others are compared with.
        table: texts.
        out: JSON file.
        rounds: timed passes of each model, after one that is not timed; the median counts.
        rows: that are timed, from the beginning of the table.
        threads: of torch; by default torch's own choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if len(models) < 2:
        raise InputError(f"models: {list(map(str, models))}; name at least two folders")
    accelerator = start("fp32")

    def predict(classifier: LoadedClassifier, encoded: EncodedRows) -> float:
        begun = time.perf_counter()
        predict_logits(classifier.model, encoded, accelerator)
        return time.perf_counter() - begun

    passes, parameters = {}, {}
    for folder in models:
        classifier = load_trained_classifier(folder, None, accelerator)
        encoded = classifier.encode_texts(table)
        encoded = encoded.select(np.arange(min(rows, len(encoded))))
        passes[str(folder)] = partial(predict, classifier, encoded)
        parameters[str(folder)] = sum(p.numel() for p in classifier.model.parameters())
    for warm_up in passes.values():
        warm_up()
    seconds = time_in_turns(passes, rounds)
    medians = {name: median(values) for name, values in seconds.items()}
    first = medians[str(models[0])]
    results = [
        {
            "model": name,
            "rows_per_second": len(encoded) / medians[name],
            "ratio": first / medians[name],
            "parameters": parameters[name],
            "seconds": seconds[name],
        }
        for name in passes
    ]
    write_json(out, {"rows": len(encoded), "table": str(table), "models": results, "machine": machine_info()})
    lines = [[r["model"], r["rows_per_second"], r["ratio"], f"{r['parameters']:,}"] for r in results]
    print(tabulate(lines, ["model", "rows/s", "to the first", "parameters"], floatfmt=("", ".1f", ".2f", "")))


if __name__ == "__main__":
    run(main)
