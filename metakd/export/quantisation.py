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

    with quiet():
        quantize_dynamic(source, file, **options(source, keep))


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
        quantize_static(
            source, file, Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax, **options(source, keep),
        )  # fmt: skip


def options(source: Path, keep: Keep) -> dict[str, Any]:
    """What both ways have in common: a scale for each output of a matrix, and which matrices stay in fp32."""
    from onnxruntime.quantization import QuantType

    return {
        "weight_type": QuantType.QInt8, "per_channel": True,
        "reduce_range": True,  # 7 bits: processors without VNNI overflow at 8
        "op_types_to_quantize": ["MatMul", "Gemm"] + ["Gather"] * (keep != "words"),
        "nodes_to_exclude": [] if keep == "nothing" else head_nodes(source),
        "extra_options": {"MatMulConstBOnly": True},
    }  # fmt: skip


def head_nodes(source: Path) -> list[str]:
    """The matrix products after the last layer: those whose result no attention reads."""
    import onnx

    graph: Any = onnx.load(source, load_external_data=False).graph
    products = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    return products[-2:]  # BERT's pooler and classifier; of other families the last two products


def calibration_batches(rows: EncodedRows, names: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches of rows that lie evenly in a table, as inputs of a session."""
    chosen = rows.select(np.linspace(0, len(rows) - 1, min(CALIBRATION_ROWS, len(rows))).astype(np.int64))
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
