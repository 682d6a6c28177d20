"""Speed and size of classifiers side by side: torch in fp32 and bf16, ONNX files, by batch size and threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from common import machine_info
from tabulate import tabulate

from metakd.cli import run
from metakd.data.batches import plan_inference
from metakd.data.encoding import Batch, EncodedRows
from metakd.errors import InputError
from metakd.evaluation.model_facts import weight_bytes
from metakd.export.sessions import load_onnx, onnx_file
from metakd.manifests import write_json
from metakd.ranges import Range
from metakd.training.inference import load_trained_classifier
from metakd.training.runtime import has_bf16, start

Timed = dict[tuple[str, int, int], list[list[float]]]  # seconds of each batch, by round; by name, batch size, threads


@dataclass(frozen=True)
class Candidate:
    """A classifier in one form.

    Args:
        name: of its folder or file, and the form.
        megabytes: of its weights.
        batches: a table's rows by batch size.
        run: from a batch and a number of threads to its logits.
    """

    name: str
    megabytes: float
    batches: dict[int, list[Batch]]
    run: Callable[[Batch, int], Any]


def main(
    models: list[Path],
    table: Path,
    out: Path,
    batch_sizes: list[Annotated[int, Range(1)]] = [1, 8, 64],  # noqa: B006
    threads: list[Annotated[int, Range(1)]] = [1],  # noqa: B006
    rows: Annotated[int, Range(1)] = 256,
    rounds: Annotated[int, Range(1)] = 3,
) -> None:
    """Time classifiers on the processor in turns, beside the first one in stock PyTorch and fp32.

    Tokenising is not timed. A batch is of rows of similar length, as predict.py makes them; the median round counts.
    The latency is that of a batch, over all batches of all rounds.

    Args:
        models: folders of classifiers, and ONNX files, as a list '[a, b/model.onnx]'; the first is the one that the
            others are compared with. Folders are run in fp32 and, where the processor has it, in bf16.
        table: texts.
        out: JSON file.
        batch_sizes: rows of a batch.
        threads: numbers of threads.
        rows: that are timed, evenly from the table.
        rounds: timed passes of each, after one that is not timed.
    """
    if not models:
        raise InputError("--models is []; name at least one folder")
    if onnx_file(models[0]) is not None:
        raise InputError(f"{models[0]} is an ONNX file; name the folder that others are compared with first")
    candidates = [each for model in models for each in forms(model, table, rows, batch_sizes, threads)]
    seconds: Timed = {}
    for count in threads:
        torch.set_num_threads(count)
        for size in batch_sizes:
            for number in range(rounds + 1):
                for each in candidates:
                    timed = [time_batch(each, batch, count) for batch in each.batches[size]]
                    if number:  # the first round warms up
                        seconds.setdefault((each.name, size, count), []).append(timed)
            print(f"  {size} rows a batch, {count} threads: done")
    results = [figures(each, key, seconds) for each in candidates for key in seconds if key[0] == each.name]
    first = {(r["batch_size"], r["threads"]): r["rows_per_second"] for r in results if r["model"] == candidates[0].name}
    for result in results:
        result["ratio"] = result["rows_per_second"] / first[result["batch_size"], result["threads"]]
    timed_rows = sum(len(batch["input_ids"]) for batch in candidates[0].batches[batch_sizes[0]])
    write_json(out, {"table": str(table), "rows": timed_rows, "rounds": rounds, "models": results,
                     "machine": machine_info()})  # fmt: skip
    headers = ["model", "MB", "batch", "threads", "rows/s", "to the first", "p50 ms", "p95 ms"]
    print(tabulate([list(result.values()) for result in results], headers, floatfmt=("", ".1f", "", "", ".0f", ".2f")))


def forms(model: Path, table: Path, rows: int, batch_sizes: list[int], threads: list[int]) -> Iterator[Candidate]:
    """The forms that a classifier can be run in."""
    file = onnx_file(model)
    if file is not None:
        sessions = {count: load_onnx(file, count) for count in threads}
        encoded = sessions[threads[0]].encode_texts(table)
        megabytes = file.stat().st_size / 1e6
        yield Candidate(
            str(file),
            megabytes,
            batches_of(encoded, rows, batch_sizes),
            lambda batch, count: sessions[count].model(batch),
        )
        return
    kinds = [("stock fp32", "off", torch.float32), ("fp32", "auto", torch.float32)]
    kinds += [("bf16", "auto", torch.bfloat16)] * has_bf16()
    for name, tuning, dtype in kinds:
        classifier = load_trained_classifier(model, None, start("fp32"), tuning)
        classifier.model.to("cpu")
        compute, context = classifier.compute, torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext()
        batches = batches_of(classifier.encode_texts(table), rows, batch_sizes)

        def predict(batch: Batch, count: int, compute: Any = compute, context: Any = context) -> Any:
            with torch.inference_mode(), context:
                return compute(batch)

        yield Candidate(f"{model} {name}", weight_bytes(model) / 1e6, batches, predict)


def batches_of(encoded: EncodedRows, rows: int, batch_sizes: list[int]) -> dict[int, list[Batch]]:
    """Batches of rows that lie evenly in a table."""
    chosen = encoded.spread(rows)
    return {size: [chosen.batch(n) for n in plan_inference(chosen.lengths, size, 0, 1)] for size in batch_sizes}


def time_batch(candidate: Candidate, batch: Batch, threads: int) -> float:
    begun = time.perf_counter()
    candidate.run(batch, threads)
    return time.perf_counter() - begun


def figures(candidate: Candidate, key: tuple[str, int, int], seconds: Timed) -> dict[str, Any]:
    """What is reported of a candidate at one batch size and number of threads."""
    rounds = seconds[key]
    latencies = np.concatenate(rounds) * 1000
    rows = sum(len(batch["input_ids"]) for batch in candidate.batches[key[1]])
    speed = rows / float(np.median([sum(timed) for timed in rounds]))
    return {
        "model": candidate.name, "megabytes": candidate.megabytes, "batch_size": key[1], "threads": key[2],
        "rows_per_second": speed, "ratio": 0.0, "p50_ms": float(np.percentile(latencies, 50)),
        "p95_ms": float(np.percentile(latencies, 95)),
    }  # fmt: skip


if __name__ == "__main__":
    run(main)
