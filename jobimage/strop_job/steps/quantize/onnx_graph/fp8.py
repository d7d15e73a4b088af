"""FP8 (E4M3) with ranges observed beforehand: Q/DQ pairs around activations, weights stored in 8 bits.

The largest magnitude seen maps to the format's largest number, 448, per tensor for activations and per output channel
for weights (Micikevicius et al., "FP8 formats for deep learning", 2022). Biases and sums stay in floating point.
"""

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from strop_api.steps import QuantizeStep
from strop_job.backends.graphs import drop_unread_weights, sort_nodes
from strop_job.calibration import TensorRange
from strop_job.steps.quantize.onnx_graph.opsets import raised
from strop_job.steps.quantize.onnx_graph.prepare import Selection

QUANTIZABLE: frozenset[str] = frozenset({"Conv", "MatMul", "Gemm"})
LARGEST = 448.0
"""Largest number of the format."""
LEAST_OPSET = 19
"""The first in which QuantizeLinear yields FP8."""
ZERO = "strop/fp8_zero"


def fp8(
    model: onnx.ModelProto, step: QuantizeStep, selection: Selection, ranges: Mapping[str, TensorRange], index: int
) -> onnx.ModelProto:
    """The graph with Q/DQ pairs before both operands of what is selected. The model given is left as it is."""
    made = raised(model, LEAST_OPSET, index)
    writer = _Writer(made.graph, ranges, per_channel=step.per_channel)
    for node in selection.nodes(made):
        for at in (0, 1):
            node.input[at] = writer.quantized(node, at)
    writer.finish()
    return made


class _Writer:
    """Adds each pair once, however many nodes read the tensor."""

    def __init__(self, graph: onnx.GraphProto, ranges: Mapping[str, TensorRange], *, per_channel: bool) -> None:
        self._graph, self._ranges, self._per_channel = graph, ranges, per_channel
        self._weights = {w.name: w for w in graph.initializer}
        self._made: dict[tuple[str, int | None], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []

    def quantized(self, node: onnx.NodeProto, at: int) -> str:
        """Name of the operand after its pair; the operand itself when nothing is known of it."""
        name = node.input[at]
        axis = channel_axis(node, at, self._weights) if self._per_channel and name in self._weights else None
        if (name, axis) not in self._made:
            if name in self._weights:
                self._made[name, axis] = self._weight(name, axis)
            else:
                self._made[name, axis] = self._activation(name) if name in self._ranges else name
        return self._made[name, axis]

    def finish(self) -> None:
        """Puts what was made into the graph; weights that nobody reads any more go."""
        self._constants.append(helper.make_tensor(ZERO, TensorProto.FLOAT8E4M3FN, [], [0.0]))
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(self._constants)
        sort_nodes(self._graph)
        drop_unread_weights(self._graph)

    def _activation(self, name: str) -> str:
        seen = self._ranges[name]
        scale = self._scale(f"{name}/fp8", np.float32(max(abs(seen.low), abs(seen.high))))
        self._add("QuantizeLinear", [name, scale, ZERO], f"{name}/fp8")
        return self._add("DequantizeLinear", [f"{name}/fp8", scale, ZERO], f"{name}/fp8/float")

    def _weight(self, name: str, axis: int | None) -> str:
        values = numpy_helper.to_array(self._weights[name]).astype(np.float32)
        stored = f"{name}/fp8" if axis is None else f"{name}/fp8/{axis}"
        others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
        largest = np.max(np.abs(values), axis=others, initial=0.0)
        scale = self._scale(stored, largest)
        steps = scales(largest) if axis is None else scales(largest).reshape(_along(values.ndim, axis))
        self._constants.append(numpy_helper.from_array(to_fp8(values / steps), stored))
        attributes = {} if axis is None else {"axis": axis}
        return self._add("DequantizeLinear", [stored, scale], f"{stored}/float", **attributes)

    def _scale(self, stored: str, largest: NDArray[np.float32] | np.float32) -> str:
        self._constants.append(numpy_helper.from_array(scales(largest), f"{stored}/scale"))
        return f"{stored}/scale"

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: int) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}/{operator}", **attributes))
        return output


def scales(largest: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """Step between numbers of the format; 1 where there is nothing but zeros."""
    found = np.asarray(largest, np.float32) / np.float32(LARGEST)
    return np.where(found > 0, found, np.float32(1.0)).astype(np.float32)


def to_fp8(values: NDArray[np.float32]) -> NDArray[np.generic]:
    """Rounded to the nearest number of the format, its ends included."""
    return np.clip(values, -LARGEST, LARGEST).astype(ml_dtypes.float8_e4m3fn)


def channel_axis(node: onnx.NodeProto, at: int, weights: Mapping[str, TensorProto]) -> int | None:
    """Axis of the output channels of a weight; None where one scale must do."""
    rank = len(weights[node.input[at]].dims)
    if at != 1:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 1 if rank == 2 else None


def _along(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(-1 if i == axis else 1 for i in range(rank))
