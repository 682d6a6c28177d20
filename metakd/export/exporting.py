"""From a classifier to its exported files: each is compared with it, and one that loses too much is not handed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from metakd.data.encoding import EncodedRows
from metakd.errors import InputError
from metakd.export.gate import Loss, measure_loss
from metakd.export.layout import FILES
from metakd.export.onnx_files import write_onnx
from metakd.export.quantisation import WAYS
from metakd.export.sessions import load_onnx
from metakd.training.inference import LoadedClassifier, predict_logits

LARGEST_DIFFERENCE = 1e-3  # of a logit in fp32, for logits of about 10


@dataclass(frozen=True)
class Reference:
    """What exported files are compared with.

    Args:
        rows: with labels, tokenised for the files.
        logits: of the model that is exported [n, C].
        max_loss: points of accuracy that a file may lose, with 95 % confidence.
    """

    rows: EncodedRows
    logits: np.ndarray
    max_loss: float

    def loss(self, file: Path, threads: int = 1) -> Loss:
        """What an ONNX file loses."""
        return measure_loss(self.logits, load_onnx(file, threads).logits(self.rows), self.rows.labels)


def export_files(
    classifier: LoadedClassifier, folder: Path, formats: Sequence[str], reference: Reference, accelerator: Accelerator
) -> dict[str, tuple[str, Loss]]:
    """Write the files of these formats with the tokenizer; returns how each was made and what it loses.

    Args:
        classifier: what is written; the reference's model itself, or with fewer tokens.
        formats: among those of `FILES`.

    Raises:
        InputError: a file is not what the classifier is, or loses too much; says what was tried.
    """
    classifier.tokenizer.save_pretrained(folder)
    classifier.model.config.save_pretrained(folder)
    whole = folder / FILES["onnx"]
    write_onnx(classifier, whole)
    rows = reference.rows
    logits, exact = load_onnx(whole).logits(rows), predict_logits(classifier.model, rows, accelerator)
    if (difference := float(np.abs(logits - exact).max())) > LARGEST_DIFFERENCE:
        raise InputError(
            f"{classifier.model.name_or_path}: logits of the ONNX file differ by {difference:.2g}, a fault of the "
            "exporter for this family; it is not handed on"
        )
    loss = measure_loss(reference.logits, logits, rows.labels)
    if loss.largest_difference > LARGEST_DIFFERENCE and loss.highest > reference.max_loss:  # for want of tokens
        raise InputError(
            f"with the tokens of this table alone: {in_words(loss)}; trim with a table that has more of the words "
            "of future texts, or export all tokens"
        )
    made = {whole.name: ("32 bits", loss)}
    for name in formats:
        if name != "onnx":
            file = folder / FILES[name]
            made[file.name] = choose(name, whole, file, reference)
    if "onnx" not in formats:
        whole.unlink()
        del made[whole.name]
    return made


def choose(name: str, whole: Path, file: Path, reference: Reference) -> tuple[str, Loss]:
    """Write a file of a format in the first way that loses little enough; returns the way and what it loses."""
    tried = []
    for way in WAYS[name]:
        way.write(whole, file, reference.rows)
        loss = reference.loss(file)
        if loss.highest <= reference.max_loss:
            return way.name, loss
        tried.append(f"{way.name}: {in_words(loss)}")
    raise InputError(
        f"no {name} file is known to lose at most {reference.max_loss:g} points, so none is handed on; on "
        f"{len(reference.rows)} rows:\n  "
        + "\n  ".join(tried)
        + "\nUse more labelled rows, a larger --max_loss, or other --formats"
    )


def in_words(loss: Loss) -> str:
    scores = f"agreement {100 * loss.agreement:.2f} %, accuracy {100 * loss.accuracy:.2f} %"
    return f"{scores}, loses {loss.points:.2f} points and with 95 % confidence at most {loss.highest:.2f}"
