"""Write a classifier as an ONNX file, and as one with 8-bit weights. Needs requirements-export.txt."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

LABELS, MAX_LENGTH, PROBLEM = "labels", "max_length", "problem"  # what the file says of itself
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
    undo = shorten_last_layer(classifier.model)
    try:
        with quiet():
            program = torch.onnx.export(
                Logits(classifier.model, list(batch)).eval(), tuple(batch.values()), dynamo=True, verbose=False,
                input_names=list(batch), output_names=["logits"], dynamic_shapes=(tuple(axes for _ in batch),),
            )  # fmt: skip
    except Exception as error:  # of many kinds, with many pages of text
        kind, lines = classifier.model.config.model_type, str(error).strip().splitlines()
        raise InputError(
            f"a {kind} cannot be written as ONNX: {lines[0] if lines else type(error).__name__}"
        ) from error
    finally:
        undo()
    assert program is not None
    proto = program.model_proto
    facts = {
        LABELS: json.dumps(list(classifier.labels.names)),
        PROBLEM: classifier.labels.problem,
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


@dataclass(frozen=True)
class Quantisation:
    """A way to 8-bit weights, with a scale for each output of a matrix; activations are quantised as they come.

    Args:
        name: for people.
        keep: of the matrix products: "" quantises all, "head" keeps what follows the layers in fp32, "words" the
            embeddings too.
    """

    name: str
    keep: str = ""


# Tried in this order until one loses little enough. Weights have 7 bits, since processors without VNNI overflow at 8.
QUANTISATIONS = (
    Quantisation("all weights in 8 bits"),
    Quantisation("the layers and embeddings in 8 bits, the classifier in fp32", keep="head"),
    Quantisation("the layers in 8 bits, classifier and embeddings in fp32", keep="words"),
)


def write_int8(source: Path, file: Path, way: Quantisation) -> None:
    """Write an ONNX file with 8-bit weights."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = ["MatMul", "Gemm", "Gather"] if way.keep != "words" else ["MatMul", "Gemm"]
    with quiet():
        quantize_dynamic(
            source, file, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
            op_types_to_quantize=kinds, nodes_to_exclude=head_nodes(source) if way.keep else [],
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip


def head_nodes(source: Path) -> list[str]:
    """The matrix products after the last layer: those whose result no attention reads."""
    import onnx

    graph: Any = onnx.load(source, load_external_data=False).graph
    products = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    return products[-2:]  # BERT's pooler and classifier; of other families the last two products
