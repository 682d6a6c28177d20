"""Ways from an ONNX file in fp32 to one with 8-bit weights, from the smallest on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metakd.data.batches import plan_inference
from metakd.data.encoding import EncodedRows
from metakd.export.onnx_files import input_names, quiet

# "nothing": all matrices have 8 bits. "head": what follows the layers stays in fp32. "words": the embeddings too.
# Embeddings have a scale for each token: with one for all, a few large values would cost the others their bits.
Keep = Literal["nothing", "head", "words"]
CALIBRATION_ROWS, CALIBRATION_BATCH = 512, 32


@dataclass(frozen=True)
class Way:
    """A way to 8-bit weights.

    Args:
        name: for people.
        write: from the fp32 file, the new file and rows to calibrate on.
    """

    name: str
    write: Callable[[Path, Path, EncodedRows], None]


def write_dynamic(source: Path, file: Path, rows: EncodedRows, keep: Keep) -> None:
    """Write a file whose activations are quantised as they come; the rows are not used."""
    from onnxruntime.quantization import quantize_dynamic

    small = with_small_words(source, file, keep)
    with quiet():
        quantize_dynamic(small, file, **options(source, keep))


def write_static(source: Path, file: Path, rows: EncodedRows, keep: Keep) -> None:
    """Write a file whose activations have scales of their own, from their extremes on some of the rows."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = calibration_batches(rows, input_names(source))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with quiet():
        small = with_small_words(source, file, keep)
        quantize_static(
            small, file, Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax, **options(source, keep),
        )  # fmt: skip


def options(source: Path, keep: Keep) -> dict[str, Any]:
    """What both ways have in common: a scale for each output of a matrix, and which matrices stay in fp32."""
    from onnxruntime.quantization import QuantType

    return {
        "weight_type": QuantType.QInt8, "per_channel": True,
        "reduce_range": True,  # 7 bits: processors without VNNI overflow at 8
        "op_types_to_quantize": ["MatMul", "Gemm"],
        "nodes_to_exclude": [] if keep == "nothing" else head_nodes(source),
        "extra_options": {"MatMulConstBOnly": True},
    }  # fmt: skip


def with_small_words(source: Path, file: Path, keep: Keep) -> Path:
    """The source, or a file in the place of the new one whose embeddings have 8 bits."""
    import onnx

    if keep == "words":
        return source
    model: Any = onnx.load(source)
    tables = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}
    for number, node in enumerate(list(model.graph.node)):
        if node.op_type == "Gather" and node.input[0] in tables:
            replace_gather(model.graph, node, tables[node.input[0]], f"words{number}")
    used = {name for node in model.graph.node for name in node.input}
    for name in tables.keys() - used:
        model.graph.initializer.remove(tables[name])
    onnx.save(model, file)
    return file


def replace_gather(graph: Any, node: Any, table: Any, name: str) -> None:
    """Let a node gather rows of 8-bit numbers, and their scales, instead of rows of a table in fp32."""
    from onnx import TensorProto, helper, numpy_helper

    values = numpy_helper.to_array(table)
    scales = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12) / 127
    small = np.round(values / scales).astype(np.int8)
    graph.initializer.extend([numpy_helper.from_array(small, name), numpy_helper.from_array(scales, f"{name}.scales")])
    place, ids, output = list(graph.node).index(node), node.input[1], node.output[0]
    graph.node.remove(node)
    for offset, new in enumerate([
        helper.make_node("Gather", [name, ids], [f"{name}.rows"]),
        helper.make_node("Cast", [f"{name}.rows"], [f"{name}.floats"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}.scales", ids], [f"{name}.scale"]),
        helper.make_node("Mul", [f"{name}.floats", f"{name}.scale"], [output]),
    ]):  # fmt: skip
        graph.node.insert(place + offset, new)


def head_nodes(source: Path) -> list[str]:
    """The matrix products after the last layer: those whose result no attention reads."""
    import onnx

    graph: Any = onnx.load(source, load_external_data=False).graph
    products = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    head = products[-2:]  # BERT's pooler and classifier; of other families the last two products
    return head + [f"{name}_MatMul" for name in head]  # what quantize_dynamic calls the product of a Gemm


def calibration_batches(rows: EncodedRows, names: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches of rows that lie evenly in a table, as inputs of a session."""
    chosen = rows.spread(CALIBRATION_ROWS)
    for numbers in plan_inference(chosen.lengths, CALIBRATION_BATCH, 0, 1):
        batch = chosen.batch(numbers)
        yield {name: batch[name].numpy() for name in names}


HEAD_KEPT = "the layers and embeddings in 8 bits, the classifier in fp32"
WORDS_KEPT = "the layers in 8 bits, classifier and embeddings in fp32"
# Of each format, tried in this order until one loses little enough.
WAYS = {
    "onnx-int8": (
        Way("all weights in 8 bits", partial(write_dynamic, keep="nothing")),
        Way(HEAD_KEPT, partial(write_dynamic, keep="head")),
        Way(WORDS_KEPT, partial(write_dynamic, keep="words")),
    ),
    "onnx-int8-static": (
        Way(f"{HEAD_KEPT}, activations calibrated", partial(write_static, keep="head")),
        Way(f"{WORDS_KEPT}, activations calibrated", partial(write_static, keep="words")),
    ),
}
