"""Write a model's predictions for a table: labels, probabilities, logits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from metakd.cli import run
from metakd.data.formats import FORMATS, write
from metakd.errors import InputError, nearest
from metakd.ranges import Count, Fraction
from metakd.steps import Step

COLUMNS = ("predictions", "probabilities", "logits")


def main(
    model: Path,
    table: Path,
    out: Path,
    columns: str = "predictions,probabilities,logits",
    abstain_below: Fraction | None = None,
    max_length: Count | None = None,
    cpu_tuning: Literal["auto", "off"] = "auto",
    remake: bool = False,
) -> None:
    """Write a model's predictions row by row, in the order of the table; labels are not read.

    Columns: guid, prediction, probability.LABEL and logit.LABEL for each label; distill.py --logits reads the file.
    Runs under python or torchrun; a killed run goes on. Logits go to disk, so memory does not grow with the table.

    Args:
        model: folder of a classifier.
        table: TSV, CSV, JSONL or Parquet with guid, text_a[, text_b].
        out: TSV, CSV, JSONL or Parquet.
        columns: any of predictions, probabilities, logits, separated by commas.
        abstain_below: a row whose likeliest class has a lower probability gets an empty prediction; calibrate.py
            chooses this number.
        max_length: number of tokens that rows are cut to; by default that of the model's training.
        cpu_tuning: "off" computes with stock PyTorch on a CPU; the logits are equal, up to rounding.
        remake: make the file anew if other code made it.
    """
    kinds = columns.split(",")
    for kind in kinds:
        if kind not in COLUMNS:
            raise InputError(f"--columns: {kind!r} is not among {list(COLUMNS)}{nearest(kind, COLUMNS)}")
    if out.suffix not in FORMATS:
        raise InputError(f"--out {out}: unknown format {out.suffix!r}; predictions are written as {', '.join(FORMATS)}")
    if abstain_below is not None and "predictions" not in kinds:
        raise InputError(f"--abstain_below {abstain_below} is about predictions, which --columns {columns} leaves out")
    settings = {"columns": kinds, "max_length": max_length, "abstain_below": abstain_below}
    inputs: dict[str, str | Path] = {"model": model, "table": table}
    step = Step(out, settings, inputs, {"cpu_tuning": cpu_tuning}, file=True, remake=remake)
    if step.finished():
        return
    from metakd.data.logits_files import prediction_columns, prediction_rows
    from metakd.data.row_store import RowStore
    from metakd.training.inference import fill_store, load_trained_classifier, logits_fn
    from metakd.training.runtime import Together, start

    accelerator = start("auto", cpu_tuning)
    classifier = load_trained_classifier(model, max_length, accelerator, cpu_tuning)
    names = prediction_columns(classifier.labels, kinds)
    if names == ["guid"]:
        raise InputError(f"--columns {columns}: a {classifier.labels.problem} has none of these")
    if abstain_below is not None and classifier.labels.problem != "single_label":
        raise InputError(f"--abstain_below needs one class per row; {model} is a {classifier.labels.problem} model")
    rows = classifier.encode_texts(table)
    logits_step = Step(
        step.out.with_name(f".{step.out.name}.logits"),
        {"max_length": max_length, "precision": accelerator.mixed_precision},
        inputs,
        remake=remake,
    )
    with logits_step.workspace(Together(accelerator)) as folder:
        if folder is not None:
            width, compute = len(classifier.labels.names), logits_fn(classifier.model)
            fill_store(folder, rows, width, classifier.model, compute, accelerator, "predicting")
    with step.workspace(Together(accelerator)) as file:
        if file is not None and accelerator.is_main_process:
            store = RowStore(logits_step.out)
            store.require_guids(rows.guids)
            predictions = prediction_rows(rows.guids, store.values, classifier.labels, names, abstain_below or 0)
            write(file, predictions, names, out.suffix)
    if accelerator.is_main_process:
        logits_step.remove_output()
    accelerator.print(f"{len(rows)} rows -> {out}")


if __name__ == "__main__":
    run(main)
