"""A model's predictions for a table: labels, probabilities, logits."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.data.formats import FORMATS, write
from metakd.errors import InputError, nearest
from metakd.steps import Step

COLUMNS = ("predictions", "probabilities", "logits")


def main(
    model: Path,
    table: Path,
    out: Path,
    columns: str = "predictions,probabilities,logits",
    max_length: int | None = None,
) -> None:
    """Write a model's predictions row by row, in the table's order, with its guids; labels are not read.

    Columns: guid, prediction, probability.LABEL and logit.LABEL of each label; distill.py --logits reads the file.
    Runs under python or torchrun; a killed run goes on. Values stay on disk until they are written.

    Args:
        model: folder of a classifier.
        table: TSV, CSV, JSONL or Parquet with guid, text_a[, text_b].
        out: TSV, CSV, JSONL or Parquet.
        columns: which of predictions, probabilities, logits, separated by commas.
        max_length: tokens a row is cut to; by default what the model was trained with.
    """
    chosen = columns.split(",")
    for name in chosen:
        if name not in COLUMNS:
            raise InputError(f"--columns: {name!r} is not among {list(COLUMNS)}{nearest(name, COLUMNS)}")
    if out.suffix not in FORMATS:
        raise InputError(
            f"--out {out}: unknown format {out.suffix!r}; a file of predictions ends in {', '.join(FORMATS)}"
        )
    settings = {"columns": chosen, "max_length": max_length}
    step = Step(out, settings, {"model": model, "table": table}, file=True)
    if step.finished():
        return
    from metakd.data.logits_files import prediction_columns, prediction_rows
    from metakd.data.row_store import RowStore
    from metakd.training.inference import fill_store, load_for_inference, logits_by
    from metakd.training.runtime import Together, start

    accelerator = start()
    loaded = load_for_inference(model, max_length, accelerator)
    names = prediction_columns(loaded.labels, chosen)
    if names == ["guid"]:
        raise InputError(f"--columns {columns}: a {loaded.labels.problem} has none of these")
    rows = loaded.encode_texts(table)
    values = Step(
        out.with_name(f".{out.name}.logits"), {"max_length": max_length, "precision": accelerator.mixed_precision},
        {"model": model, "table": table},
    )  # fmt: skip
    with values.workspace(Together(accelerator)) as folder:
        if folder is not None:
            width = len(loaded.labels.names)
            fill_store(folder, rows, width, loaded.model, logits_by(loaded.model), accelerator, "predicting")
    with step.workspace(Together(accelerator)) as file:
        if file is not None and accelerator.is_main_process:
            store = RowStore(values.out)
            store.check(rows.guids)
            write(file, prediction_rows(rows.guids, store.values, loaded.labels, names), names, out.suffix)
    if accelerator.is_main_process:
        values.remove()
    accelerator.print(f"{len(rows)} rows -> {out}")


if __name__ == "__main__":
    run(main)
