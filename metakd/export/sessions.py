"""Run an exported classifier: its folder is loaded with its tokenizer, and rows go through it in batches by length."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from metakd.data.batches import plan_inference
from metakd.data.encoding import EncodedRows, encode
from metakd.data.labels import Labels
from metakd.data.tables import UNLABELLED
from metakd.errors import InputError
from metakd.export.onnx_files import LABELS, MAX_LENGTH, PROBLEM, require_export_packages
from metakd.models.loading import load_tokenizer
from metakd.models.model_files import reading

BATCH_SIZE = 32


@dataclass(frozen=True)
class OnnxClassifier:
    """An ONNX file, ready to predict.

    Args:
        session: of onnxruntime.
        tokenizer: its own.
        labels: of its logits.
        max_length: tokens that a row is cut to.
    """

    session: Any
    tokenizer: PreTrainedTokenizerBase
    labels: Labels
    max_length: int

    def encode_texts(self, table: str | Path) -> EncodedRows:
        """The texts of a table, tokenised for this model; labels are not read."""
        return encode(table, self.tokenizer, self.max_length, required=UNLABELLED)

    def logits(self, rows: EncodedRows, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Logits of every row [n, C]."""
        values = np.zeros((len(rows), len(self.labels.names)), dtype=np.float32)
        for chosen in plan_inference(rows.lengths, batch_size, 0, 1):
            values[chosen] = self.run({name: tensor.numpy() for name, tensor in rows.batch(chosen).items()})
        return values

    def run(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of a padded batch [B, C]."""
        names = [entry.name for entry in self.session.get_inputs()]
        return self.session.run(None, {name: batch[name] for name in names})[0]


def load_onnx(file: Path, threads: int = 1) -> OnnxClassifier:
    """The classifier in an ONNX file, with the tokenizer beside it.

    Args:
        threads: that it computes with.

    Raises:
        InputError: the file is missing, damaged, or not from export.py.
    """
    require_export_packages()
    import onnxruntime

    if not file.is_file():
        raise InputError(f"{file}: no such file; write it with export.py")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    with reading(file, "ONNX model"):
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        facts = session.get_modelmeta().custom_metadata_map
    try:
        labels, max_length = Labels(tuple(json.loads(facts[LABELS])), facts[PROBLEM]), int(facts[MAX_LENGTH])
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{file} does not say its labels and length; write it with export.py") from None
    return OnnxClassifier(session, load_tokenizer(str(file.parent)), labels, max_length)
