"""What the ONNX graph tells of an engine's compute: multiply-accumulates by node, and weights that are 2:4 sparse."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import JsonValue

from strop_job.backends.tensorrt.options import Shape

GROUP, ZEROS = 4, 2
"""2:4 sparsity: of four weights in a row along the summed dimension at least two are zero."""
COMPUTE = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class NodeCompute:
    """Multiply-accumulates of one call, by the names of the nodes that do them."""

    macs: Mapping[str, int]
    uncounted: Mapping[str, int] = field(default_factory=dict)
    """Nodes that multiply and are in no figure here, by operator."""
    note: str = ""
    """Why nothing was counted."""

    def facts(self, shapes: Mapping[str, Shape]) -> dict[str, JsonValue]:
        """As JSON, with the input shapes that they are for."""
        return {
            "shapes": {name: list(shape) for name, shape in shapes.items()},
            "macsByNode": dict(self.macs),
            "uncounted": dict(self.uncounted),
            "note": self.note,
        }


def sparse_nodes(model: onnx.ModelProto) -> tuple[int, int]:
    """Nodes whose weight is 2:4 sparse, and nodes with a weight."""
    weights = {w.name: w for w in model.graph.initializer}
    stored = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    eligible = counted = 0
    for node in model.graph.node:
        name = stored.get(node.input[1], node.input[1]) if node.op_type in COMPUTE else ""
        if name in weights:
            counted += 1
            eligible += is_sparse(_rows(node, numpy_helper.to_array(weights[name])))
    return eligible, counted


def _rows(node: onnx.NodeProto, weight: NDArray[np.generic]) -> NDArray[np.generic]:
    """The weight with the summed dimension last: the channels of a convolution, the rows of a product's right side."""
    if node.op_type == "Conv":
        return np.moveaxis(weight, 1, -1)
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return weight if transposed or weight.ndim < 2 else np.swapaxes(weight, -1, -2)


def is_sparse(rows: NDArray[np.generic]) -> bool:
    """Whether every group of four along the last dimension has two zeros."""
    if rows.ndim < 2 or rows.shape[-1] % GROUP:
        return False
    groups = rows.reshape(*rows.shape[:-1], -1, GROUP)
    return bool(((groups == 0).sum(axis=-1) >= ZEROS).all())
