"""Export a classifier to ONNX, in fp32 and with 8-bit weights; a file that loses too much is not handed on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from metakd.cli import run
from metakd.errors import InputError, nearest
from metakd.export.layout import EXPECTED, EXPORT, FILES
from metakd.machine import machine_info
from metakd.manifests import content_hash, write_json
from metakd.ranges import Range
from metakd.steps import Step


def main(
    model: Path,
    table: Path,
    out: Path,
    formats: str = "onnx,onnx-int8",
    trim: Path | None = None,
    max_loss: Annotated[float, Range(0)] = 0.5,
    remake: bool = False,
) -> None:
    """Write OUT/model.onnx and OUT/model-int8.onnx, with the tokenizer and export.json, from which anyone can predict.

    Each file is compared with the model on labelled rows. An 8-bit file is handed on only if it loses at most
    --max_loss points of accuracy in future rows with 95 % confidence; so use enough rows, e.g. the dev rows of all
    domains. Several ways to 8 bits are tried, from the smallest file on. verify_export.py compares again on another
    machine. Needs requirements-export.txt.

    Args:
        model: folder of a classifier of one class per row.
        table: labelled rows that it was not trained on: the dev table. Of a model that knows one domain's classes
            alone, the rows of that domain count.
        out: folder of the files.
        formats: any of onnx, onnx-int8, onnx-int8-static (its activations are calibrated on rows of the table),
            separated by commas.
        trim: table whose tokens are kept, see trim_vocabulary.py; by default all of the vocabulary.
        max_loss: points of accuracy.
        remake: make the folder anew if other code made it.
    """
    wanted = formats.split(",")
    for name in wanted:
        if name not in FILES:
            raise InputError(f"--formats: {name!r} is not among {list(FILES)}{nearest(name, FILES)}")
    inputs: dict[str, str | Path] = {"model": model, "table": table, **({"trim": trim} if trim else {})}
    step = Step(out, {"formats": wanted, "max_loss": max_loss}, inputs, remake=remake)
    if step.finished():
        return
    from metakd.data.formats import write
    from metakd.data.logits_files import prediction_columns, prediction_rows
    from metakd.data.tables import domain_names
    from metakd.export.exporting import Reference, export_files, in_words
    from metakd.export.onnx_files import require_export_packages
    from metakd.export.trimming import trim as with_tokens_of
    from metakd.training.inference import load_to_rewrite, predict_logits

    require_export_packages()
    classifier, accelerator = load_to_rewrite(model)
    labels, tokens = classifier.labels, classifier.model.config.vocab_size
    if labels.problem != "single_label":
        raise InputError(f"{model} is a {labels.problem} model; only one class per row can be compared")
    domains = domain_names(table, labels.domain)
    rows = classifier.encode(table, domains, labels.domain)
    logits = predict_logits(classifier.model, rows, accelerator)
    if trim is not None:
        classifier = with_tokens_of(classifier, trim, accelerator)
        rows = classifier.encode(table, domains, labels.domain)
    reference = Reference(rows, logits, max_loss)
    with step.workspace() as folder:
        if folder is None:
            return
        made = export_files(classifier, folder, wanted, reference, accelerator)
        columns = prediction_columns(labels, ["logits"])
        write(folder / EXPECTED, prediction_rows(rows.guids, logits, labels, columns), columns, ".tsv")
        files = {
            name: {"way": way, "bytes": (folder / name).stat().st_size, **asdict(loss)}
            for name, (way, loss) in made.items()
        }
        facts = {"files": files, "max_loss": max_loss, "table": str(table), "table_hash": content_hash(table),
                 "rows": len(rows)}  # fmt: skip
        facts |= {"tokens": classifier.model.config.vocab_size, "tokens_of_model": tokens}
        write_json(folder / EXPORT, {**facts, "machine": machine_info("torch", "onnx", "onnxruntime")})
    for name, (way, loss) in made.items():
        print(f"{out / name}: {files[name]['bytes'] / 1e6:.1f} MB, {way}; {in_words(loss)}")


if __name__ == "__main__":
    run(main)
