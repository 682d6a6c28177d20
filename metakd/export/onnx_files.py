"""Write a classifier as an ONNX file. Needs requirements-export.txt."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metakd.cpu.first_token import shorten_last_layer
from metakd.data.encoding import model_inputs
from metakd.errors import InputError
from metakd.models.views import compute_views
from metakd.training.dry_run import example_rows
from metakd.training.inference import LoadedClassifier

DOMAIN, LABELS, MAX_LENGTH, PROBLEM = "domain", "labels", "max_length", "problem"  # what the file says of itself
MISSING = "is not installed; run: pip install -r requirements-export.txt"


def require_export_packages() -> None:
    """Raise InputError unless the optional packages are there."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            __import__(name)
        except ImportError:
            raise InputError(f"{name} {MISSING}") from None


class Logits(nn.Module):
    """A classifier as a function of its inputs alone, in this order.

    Args:
        names: of the inputs.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        batch = dict(zip(self.names, inputs, strict=True))
        return compute_views(self.model, batch).logits


def write_onnx(classifier: LoadedClassifier, file: Path) -> None:
    """Write a classifier in fp32; its inputs are [batch, length] for any batch and any length up to max_length.

    The last layer of BERT-like models is computed for the first token alone, which is all that their heads read.

    Raises:
        InputError: the exporter does not know an operation of this family.
    """
    batch = model_inputs(example_rows(classifier.tokenizer, classifier.max_length).batch(np.arange(2)))
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=classifier.max_length)}
    model = classifier.model
    attention, undo = model.config._attn_implementation, shorten_last_layer(model)
    try:
        if attention == "sdpa":  # whose graph looks for rows without any token, which there are none of, in every layer
            model.set_attn_implementation("eager")
        with quiet():
            program = torch.onnx.export(
                Logits(model, list(batch)).eval(), tuple(batch.values()), dynamo=True, verbose=False,
                input_names=list(batch), output_names=["logits"], dynamic_shapes=(tuple(axes for _ in batch),),
            )  # fmt: skip
    except Exception as error:  # of many kinds, with many pages of text
        kind, lines = model.config.model_type, str(error).strip().splitlines()
        raise InputError(
            f"a {kind} cannot be written as ONNX: {lines[0] if lines else type(error).__name__}"
        ) from error
    finally:
        model.set_attn_implementation(attention)
        undo()
    assert program is not None
    proto = program.model_proto
    facts = {
        LABELS: json.dumps(list(classifier.labels.names)),
        PROBLEM: classifier.labels.problem,
        DOMAIN: classifier.labels.domain,
        MAX_LENGTH: str(classifier.max_length),
    }
    for name, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, value
    file.write_bytes(proto.SerializeToString())


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters say about their own parts; also for the root logger, which onnxruntime talks to."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def input_names(file: Path) -> list[str]:
    """The inputs of an ONNX file."""
    import onnx

    graph: Any = onnx.load(file, load_external_data=False).graph
    return [entry.name for entry in graph.input]
