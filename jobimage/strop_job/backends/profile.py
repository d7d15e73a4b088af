"""Which number formats ONNX Runtime really computes with: multiply-accumulates counted from an execution profile.

The profile lists operand types and shapes of every node that ran, contrib operators included, which ONNX's own shape
inference does not know. Kernels that have pre-packed their weights no longer list them; those come from the file.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from strop_job.backends.base import Layer, NumberFormat
from strop_job.backends.graphs import all_nodes

INTEGERS = frozenset({"int8", "uint8"})
CONV_WEIGHT_INPUT = {
    "Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3,
    "ConvTranspose": 1, "QLinearConvTranspose": 3,
}  # fmt: skip
TRANSPOSED_CONVS = frozenset({"ConvTranspose", "QLinearConvTranspose"})
RECURRENT_GATES = {"LSTM": 4, "DynamicQuantizeLSTM": 4, "GRU": 3, "RNN": 1}
"""Matrix products of a recurrent cell, for its input and for its state."""
MATMULS = frozenset(
    {
        "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
        "QLinearMatMul", "QGemm", "MatMulNBits",
    }
)  # fmt: skip
INTEGER_INSIDE = frozenset({"DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""Take floats and quantize them themselves."""
FOUR_BITS_INSIDE = frozenset({"MatMulNBits"})
"""Take floats and weights of 4 bits."""
FLOATS = {"float": NumberFormat.FP32, "float16": NumberFormat.FP16, "bfloat16": NumberFormat.BF16}
COUNTED = frozenset(CONV_WEIGHT_INPUT) | frozenset(RECURRENT_GATES) | MATMULS
MULTIPLIES = re.compile(r"Attention|Einsum|Gemm|MatMul|Conv(?!ert)|MoE|LSTM|GRU|TRTKernel")
"""In the names of operators that multiply and accumulate; new ones come with every release of ONNX Runtime."""


def is_heavy(operator: str) -> bool:
    """Whether it multiplies and accumulates: what makes a model slow, and what a quantizer is for."""
    return operator in COUNTED or MULTIPLIES.search(operator) is not None


def is_uncounted(operator: str) -> bool:
    """Whether it is compute that is not counted; an engine that has some says so."""
    return is_heavy(operator) and operator not in COUNTED


@dataclass(frozen=True)
class Compute:
    """What one call executed."""

    layers: tuple[Layer, ...]
    note: str
    uncounted: Mapping[str, int]
    """Operators that compute and are not counted, and how often each ran."""


def node_counts(path: Path) -> Counter[str]:
    """Nodes by operator type, subgraphs included."""
    return Counter(node.op_type for node in all_nodes(onnx.load(str(path), load_external_data=False).graph))


def compute_by_format(profile: Path, engine: Path) -> Compute:
    """Sums the multiply-accumulates of the convolutions and matrix products in a profile of one call."""
    graph = onnx.load(str(engine), load_external_data=False).graph
    weights = _conv_weights(graph)
    layers: list[Layer] = []
    uncounted: Counter[str] = Counter()
    for event in json.loads(profile.read_text()):
        arguments = event.get("args", {})
        operator = arguments.get("op_name", "")
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        if is_uncounted(operator):
            uncounted[operator] += 1
        name = event["name"].removesuffix("_kernel_time")
        layers.append(
            Layer(name, operator, _format(operator, arguments), _macs(operator, arguments, weights.get(name)))
        )
    note = "".join(f"{n} {op} not counted; " for op, n in sorted(uncounted.items())).rstrip("; ")
    return Compute(tuple(layers), note, uncounted)


def _conv_weights(graph: onnx.GraphProto) -> Mapping[str, tuple[int, ...]]:
    """Shape of every convolution's weight, by the node's name."""
    shapes = {w.name: tuple(w.dims) for w in graph.initializer}
    return {
        node.name: shapes[node.input[at]]
        for node in all_nodes(graph)
        if (at := CONV_WEIGHT_INPUT.get(node.op_type)) is not None and node.input[at] in shapes
    }


def _macs(operator: str, arguments: Mapping[str, Any], weight: tuple[int, ...] | None) -> int:
    outputs, inputs = _shapes(arguments["output_type_shape"]), _shapes(arguments["input_type_shape"])
    if not outputs or not inputs:
        return 0
    size = math.prod(outputs[0])
    if operator in CONV_WEIGHT_INPUT:
        at = CONV_WEIGHT_INPUT[operator]
        kernel = weight or (inputs[at] if len(inputs) > at else ())
        spread = math.prod(inputs[0]) if operator in TRANSPOSED_CONVS else size
        return spread * math.prod(kernel[1:]) if kernel else 0
    if operator in RECURRENT_GATES:
        return RECURRENT_GATES[operator] * _cells(inputs[0], outputs)
    if operator in MATMULS:
        return size * _inner(inputs[0], outputs[0])
    return 0


def _cells(sequence: tuple[int, ...], outputs: list[tuple[int, ...]]) -> int:
    """Products of one gate of a recurrent layer over a whole sequence: [steps, batch, width] in.

    It yields [steps, directions, batch, state] and the last state, [directions, batch, state]; either may be absent.
    """
    steps, batch, width = sequence
    directions, _, state = outputs[0][-3:] if len(outputs[0]) == 3 else (outputs[0][1], batch, outputs[0][3])
    return steps * batch * directions * state * (width + state)


def _inner(left: tuple[int, ...], out: tuple[int, ...]) -> int:
    """The summed dimension of a product: what is left of the left operand when its rows are taken out.

    Robust to a transposed left operand, because rows and the summed dimension share its last two axes.
    """
    if len(left) < 2 or len(out) < 2:
        return left[-1] if left else 0
    last = left[-2] * left[-1]
    return last // out[-2] if out[-2] and last % out[-2] == 0 else left[-1]


def _format(operator: str, arguments: Mapping[str, Any]) -> NumberFormat:
    kinds = [kind for entry in arguments["input_type_shape"] for kind in entry]
    if operator in FOUR_BITS_INSIDE:
        return NumberFormat.INT4
    if operator in INTEGER_INSIDE or (kinds and kinds[0] in INTEGERS):
        return NumberFormat.INT8
    return FLOATS.get(kinds[0], NumberFormat.UNKNOWN) if kinds else NumberFormat.UNKNOWN


def _shapes(entries: list[dict[str, list[int]]]) -> list[tuple[int, ...]]:
    return [tuple(shape) for entry in entries for shape in entry.values()]
