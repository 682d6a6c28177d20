"""Export a classifier to ONNX, in fp32 and with 8-bit weights; a file that loses too much is not handed on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from metakd.cli import run
from metakd.errors import InputError, nearest
from metakd.manifests import write_json
from metakd.ranges import Range
from metakd.steps import Step

if TYPE_CHECKING:
    import numpy as np

    from metakd.data.encoding import EncodedRows
    from metakd.export.gate import Loss

FORMATS = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
LARGEST_DIFFERENCE = 1e-3  # of a logit in fp32, for logits of about 10


def main(
    model: Path,
    table: Path,
    out: Path,
    formats: str = "onnx,onnx-int8",
    max_loss: Annotated[float, Range(0)] = 0.5,
    remake: bool = False,
) -> None:
    """Write OUT/model.onnx and OUT/model-int8.onnx, with the tokenizer and export.json, from which anyone can predict.

    Each file is compared with the model on labelled rows. An 8-bit file is handed on only if it loses at most
    --max_loss points of accuracy in future rows with 95 % confidence; so use enough rows, e.g. the dev rows of all
    domains. Several ways to 8 bits are tried, from the smallest file on. Needs requirements-export.txt.

    Args:
        model: folder of a classifier of one class per row.
        table: labelled rows that it was not trained on: the dev table.
        out: folder of the files.
        formats: onnx, onnx-int8 or both, separated by a comma.
        max_loss: points of accuracy.
        remake: make the folder anew if other code made it.
    """
    wanted = formats.split(",")
    for name in wanted:
        if name not in FORMATS:
            raise InputError(f"--formats: {name!r} is not among {list(FORMATS)}{nearest(name, FORMATS)}")
    step = Step(out, {"formats": wanted, "max_loss": max_loss}, {"model": model, "table": table}, remake=remake)
    if step.finished():
        return
    from metakd.data.tables import domain_names
    from metakd.export.onnx_files import require_export_packages, write_onnx
    from metakd.training.inference import load_to_rewrite, predict_logits

    require_export_packages()
    classifier, accelerator = load_to_rewrite(model)
    if classifier.labels.problem != "single_label":
        raise InputError(f"{model} is a {classifier.labels.problem} model; only one class per row can be compared")
    rows = classifier.encode(table, domain_names(table))
    logits = predict_logits(classifier.model, rows, accelerator)
    with step.workspace() as folder:
        if folder is None:
            return
        classifier.tokenizer.save_pretrained(folder)
        classifier.model.config.save_pretrained(folder)
        whole, small = (folder / name for name in FORMATS.values())
        write_onnx(classifier, whole)
        difference = compare(whole, rows, logits)
        if difference.largest_difference > LARGEST_DIFFERENCE:
            raise InputError(
                f"{model}: logits of the ONNX file differ by {difference.largest_difference:.2g}, a fault of the "
                "exporter for this family; it is not handed on"
            )
        files = {whole: ("32 bits", difference)}
        if "onnx-int8" in wanted:
            files[small] = smaller(whole, small, rows, logits, max_loss)
        if "onnx" not in wanted:
            whole.unlink()
            del files[whole]
        facts = {
            file.name: {"way": way, "bytes": file.stat().st_size, **asdict(loss)} for file, (way, loss) in files.items()
        }
        write_json(
            folder / "export.json", {"files": facts, "max_loss": max_loss, "table": str(table), "rows": len(rows)}
        )
    for file, (way, loss) in files.items():
        print(f"{out / file.name}: {facts[file.name]['bytes'] / 1e6:.1f} MB, {way}; {in_words(loss)}")


def smaller(whole: Path, small: Path, rows: EncodedRows, logits: np.ndarray, max_loss: float) -> tuple[str, Loss]:
    """Write the smallest 8-bit file that loses little enough; returns how it was made and what it loses.

    Raises:
        InputError: there is none; says what was tried.
    """
    from metakd.export.onnx_files import QUANTISATIONS, write_int8

    tried = []
    for way in QUANTISATIONS:
        write_int8(whole, small, way)
        loss = compare(small, rows, logits)
        if loss.highest <= max_loss:
            return way.name, loss
        tried.append(f"{way.name}: {in_words(loss)}")
    raise InputError(
        f"no 8-bit file is known to lose at most {max_loss:g} points, so none is handed on; on {len(rows)} rows:\n  "
        + "\n  ".join(tried)
        + "\nUse more labelled rows, a larger --max_loss, or --formats onnx"
    )


def compare(file: Path, rows: EncodedRows, logits: np.ndarray) -> Loss:
    """What an ONNX file loses against the model with these logits [n, C]."""
    from metakd.export.gate import measure_loss
    from metakd.export.sessions import load_onnx

    return measure_loss(logits, load_onnx(file).logits(rows), rows.labels)


def in_words(loss: Loss) -> str:
    scores = f"agreement {100 * loss.agreement:.2f} %, accuracy {100 * loss.accuracy:.2f} %"
    return f"{scores}, loses {loss.points:.2f} points and with 95 % confidence at most {loss.highest:.2f}"


if __name__ == "__main__":
    run(main)
