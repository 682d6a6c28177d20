"""Write a model's predictions for a table, or for lines as they come: labels, probabilities, logits."""

from __future__ import annotations

import sys
from functools import partial
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Literal, cast

from metakd.cli import run
from metakd.data.formats import require_format, write
from metakd.errors import InputError, nearest
from metakd.ranges import Count, Fraction
from metakd.steps import Step

COLUMNS = ("predictions", "probabilities", "logits")
STREAM = Path("-")


def main(
    model: Path,
    table: Path,
    out: Path,
    columns: str = "predictions,probabilities,logits",
    abstain_below: Fraction | None = None,
    max_length: Count | None = None,
    skip_bad_lines: bool = False,
    cpu_tuning: Literal["auto", "off"] = "auto",
    remake: bool = False,
) -> None:
    """Write a model's predictions row by row, in the order of the table; labels are not read.

    Columns: guid, prediction, probability.LABEL and logit.LABEL for each label; distill.py --logits reads the file.
    Runs under python or torchrun; a killed run goes on. Logits go to disk, so memory does not grow with the table.
    `--table - --out -` answers lines of JSON from standard input on standard output, as soon as they come.

    Args:
        model: folder of a classifier, or of the files of export.py (the smallest is used; or name a file).
        table: TSV, CSV, JSONL or Parquet with guid, text_a[, text_b]; lines from standard input need no guid.
        out: TSV, CSV, JSONL or Parquet.
        columns: any of predictions, probabilities, logits, separated by commas.
        abstain_below: a row whose likeliest class has a lower probability gets an empty prediction; calibrate.py
            chooses this number.
        max_length: number of tokens that rows are cut to; by default that of the model's training.
        skip_bad_lines: answer a bad line of standard input by its error and go on, instead of ending there.
        cpu_tuning: "off" computes with stock PyTorch on a CPU; the logits are equal, up to rounding.
        remake: make the file anew if other code made it.
    """
    kinds = columns.split(",")
    for kind in kinds:
        if kind not in COLUMNS:
            raise InputError(f"--columns: {kind!r} is not among {list(COLUMNS)}{nearest(kind, COLUMNS)}")
    if (table == STREAM) != (out == STREAM):
        raise InputError(f"--table {table} --out {out}: lines are read and written at once, so both must be -")
    if skip_bad_lines and table != STREAM:
        raise InputError("--skip_bad_lines is about lines from standard input: --table - --out -")
    if out != STREAM:
        require_format(out, "predictions are written as")
    if abstain_below is not None and "predictions" not in kinds:
        raise InputError(f"--abstain_below {abstain_below} is about predictions, which --columns {columns} leaves out")
    if out == STREAM:
        answer_lines(model, kinds, abstain_below, max_length, skip_bad_lines, cpu_tuning)
        return
    settings = {"columns": kinds, "max_length": max_length, "abstain_below": abstain_below}
    inputs: dict[str, str | Path] = {"model": model, "table": table}
    step = Step(out, settings, inputs, {"cpu_tuning": cpu_tuning}, file=True, remake=remake)
    if step.finished():
        return
    from metakd.data.logits_files import prediction_rows
    from metakd.data.row_store import RowStore
    from metakd.export.sessions import load_for_columns
    from metakd.training.inference import fill_store
    from metakd.training.runtime import Together

    classifier, accelerator, names = load_for_columns(model, kinds, abstain_below, max_length, cpu_tuning)
    rows = classifier.encode_texts(table)
    logits_step = Step(
        step.out.with_name(f".{step.out.name}.logits"),
        {"max_length": max_length, "precision": accelerator.mixed_precision},
        inputs,
        remake=remake,
    )
    with logits_step.workspace(Together(accelerator)) as folder:
        if folder is not None:
            width = len(classifier.labels.names)
            fill_store(folder, rows, width, classifier.model, classifier.compute, accelerator, "predicting")
    with step.workspace(Together(accelerator)) as file:
        if file is not None and accelerator.is_main_process:
            store = RowStore(logits_step.out)
            store.require_guids(rows.guids)
            predictions = prediction_rows(rows.guids, store.values, classifier.labels, names, abstain_below or 0)
            write(file, predictions, names, out.suffix)
    if accelerator.is_main_process:
        logits_step.remove_output()
    accelerator.print(f"{len(rows)} rows -> {out}")


def answer_lines(
    model: Path,
    kinds: list[str],
    abstain_below: float | None,
    max_length: int | None,
    skip_bad_lines: bool,
    cpu_tuning: str,
) -> None:
    """Answer lines of standard input on standard output."""
    from metakd.export.sessions import load_for_columns
    from metakd.export.streams import predict_rows, predict_stream

    classifier, accelerator, names = load_for_columns(model, kinds, abstain_below, max_length, cpu_tuning)
    if accelerator.num_processes > 1:
        raise InputError("lines of standard input are answered by one process; run the script by python")
    predict = partial(predict_rows, classifier=classifier, accelerator=accelerator, columns=names,
                      abstain_below=abstain_below or 0)  # fmt: skip
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    source = cast(BufferedReader, sys.stdin.buffer)
    predict_stream(source, sys.stdout, predict, skip_bad_lines)


if __name__ == "__main__":
    run(main)
