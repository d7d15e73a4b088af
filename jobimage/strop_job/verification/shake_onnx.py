"""ONNX graphs whose constants differ in their last bits."""

from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from strop_job.backends.graphs import MODEL_FILE, load, save
from strop_job.stages import Artifact
from strop_job.verification.rounding import shake

SMOOTH = frozenset(
    {
        "Add", "BatchNormalization", "Conv", "ConvTranspose", "Div", "Gather", "Gemm", "GRU", "LayerNormalization",
        "LSTM", "MatMul", "Mul", "RNN", "Sub", "InstanceNormalization", "GroupNormalization",
    }
)  # fmt: skip
"""What follows their constants without a jump. Others ask whether a number is exact: an exponent, a size, a bound."""
SCALES = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


def shaken(graph: Artifact, seed: int, folder: Path) -> Artifact:
    """A copy in an empty folder: weights and tables in floats, and scales, are moved; a lone number is left alone."""
    model = load(graph)
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    for at, weight in enumerate(model.graph.initializer):
        if weight.data_type == TensorProto.FLOAT and _moves(weight, readers.get(weight.name, set())):
            values = shake(numpy_helper.to_array(weight), seed + at)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return Artifact(graph.kind, folder, save(model, folder / MODEL_FILE), graph.facts)


def _moves(weight: onnx.TensorProto, readers: set[str]) -> bool:
    if readers and readers <= SCALES:
        return True
    size = 1
    for length in weight.dims:
        size *= length
    return size > 1 and readers <= SMOOTH
