"""Run an exported classifier with onnxruntime, as a classifier of torch is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from metakd.data.batches import plan_inference
from metakd.data.encoding import Batch, EncodedRows
from metakd.data.labels import Labels
from metakd.data.logits_files import prediction_columns
from metakd.errors import InputError
from metakd.export.onnx_files import DOMAIN, LABELS, MAX_LENGTH, PROBLEM, require_export_packages
from metakd.models.loading import load_tokenizer
from metakd.models.model_files import explaining
from metakd.training.inference import Classifier, LoadedClassifier, load_trained_classifier, require_room
from metakd.training.runtime import start

# Of 8-bit students rows/s are highest at 8 to 16 rows a batch, whose activations fit into the cache.
BATCH_SIZE = 16
# onnxruntime's kernel for a sum and its layer normalisation is slower than both by themselves: without it an 8-bit
# student of 3 layers runs 1.2 times as many rows/s (onnxruntime 1.32, AMD EPYC Zen 4).
SLOW_FUSIONS = ["SkipLayerNormFusion"]


class OnnxNetwork(nn.Module):
    """A session of onnxruntime as a function from a batch to logits [B, C].

    Args:
        session: of onnxruntime.
        name_or_path: of its file.
    """

    def __init__(self, session: Any, name_or_path: str) -> None:
        super().__init__()
        self.session, self.name_or_path = session, name_or_path
        self.names = [entry.name for entry in session.get_inputs()]

    def forward(self, batch: Batch) -> Tensor:
        return torch.from_numpy(self.session.run(None, {name: batch[name].cpu().numpy() for name in self.names})[0])


@dataclass(frozen=True)
class OnnxClassifier(Classifier):
    """An ONNX file, ready to predict.

    Args:
        model: runs it.
    """

    model: OnnxNetwork

    @property
    def compute(self) -> Callable[[Batch], Tensor]:
        """A function from a batch to the logits [B, C]."""
        return self.model

    def logits(self, rows: EncodedRows, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Logits of every row [n, C]."""
        values = np.zeros((len(rows), len(self.labels.names)), dtype=np.float32)
        for chosen in plan_inference(rows.lengths, batch_size, 0, 1):
            values[chosen] = self.model(rows.batch(chosen))
        return values


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
    damaged = f"no ONNX model could be loaded from {str(file)!r}; copy it again, or export the model again"
    with explaining(lambda why: f"{damaged} ({why})"):
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
        )
        facts = session.get_modelmeta().custom_metadata_map
    try:
        labels = Labels(tuple(json.loads(facts[LABELS])), facts[PROBLEM], facts.get(DOMAIN, ""))
        max_length = int(facts[MAX_LENGTH])
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{file} does not say its labels and length; write it with export.py") from None
    return OnnxClassifier(load_tokenizer(str(file.parent)), labels, max_length, OnnxNetwork(session, str(file)))


def onnx_file(model: Path) -> Path | None:
    """The ONNX file that a path names: itself, or the smallest one of a folder without weights of torch."""
    if model.suffix == ".onnx":
        return model
    files = sorted(model.glob("*.onnx"), key=lambda file: file.stat().st_size)
    return files[0] if files and not any(model.glob("*.safetensors")) else None


def load_predictor(
    model: Path, max_length: int | None, accelerator: Accelerator, cpu_tuning: str = "auto"
) -> LoadedClassifier | OnnxClassifier:
    """The classifier in a folder, whether of torch or exported, or in an ONNX file.

    Args:
        max_length: by default that of its training.
        cpu_tuning: see `load_trained_classifier`.

    Raises:
        InputError: there is none, or an exported one takes shorter rows.
    """
    file = onnx_file(model)
    if file is None:
        return load_trained_classifier(model, max_length, accelerator, cpu_tuning)
    classifier = load_onnx(file, torch.get_num_threads())
    if max_length is not None and max_length > classifier.max_length:
        raise InputError(f"max_length is {max_length}, but {file} takes up to {classifier.max_length} tokens")
    classifier = replace(classifier, max_length=max_length or classifier.max_length)
    require_room(classifier.max_length, classifier.tokenizer)
    return classifier


def load_for_columns(
    model: Path, kinds: list[str], abstain_below: float | None, max_length: int | None, cpu_tuning: str
) -> tuple[LoadedClassifier | OnnxClassifier, Accelerator, list[str]]:
    """The classifier of `load_predictor`, the process it runs in, and the columns of its predictions.

    Args:
        kinds: of columns: predictions, probabilities, logits.
        abstain_below: the confidence below which it gives no class.

    Raises:
        InputError: there is none, or its labels have no such columns.
    """
    accelerator = start("auto", cpu_tuning)
    classifier = load_predictor(model, max_length, accelerator, cpu_tuning)
    problem, names = classifier.labels.problem, prediction_columns(classifier.labels, kinds)
    if names == ["guid"]:
        raise InputError(f"--columns {','.join(kinds)}: a {problem} has none of these")
    if abstain_below is not None and problem != "single_label":
        raise InputError(f"--abstain_below needs one class per row; {model} is a {problem} model")
    return classifier, accelerator, names
