"""An ONNX graph as its auditors read it: who makes a tensor, who reads it, which ones are constants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

STANDARD = frozenset({"", "ai.onnx"})
MOVES = frozenset(
    {
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Gather", "Expand", "Tile",
        "DepthToSpace", "SpaceToDepth", "Split", "Pad", "Dropout", "GatherElements", "GatherND",
    }
)  # fmt: skip
"""Operators that move values and do not change them."""


@dataclass(frozen=True)
class Reading:
    """The main graph of a model, indexed. Graphs inside nodes are not looked into."""

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    """In the order of the file, which is topological."""
    made_by: Mapping[str, int]
    """Index of the node that yields a tensor."""
    read_by: Mapping[str, tuple[int, ...]]
    """Indices of the nodes that take a tensor."""
    constants: Mapping[str, onnx.TensorProto]
    """Initializers and the values of Constant nodes."""
    live: frozenset[str] = field(default_factory=frozenset)
    """Tensors that depend on an input."""

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """The node that yields a tensor; None for inputs and initializers."""
        at = self.made_by.get(tensor)
        return None if at is None else self.nodes[at]

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that take a tensor."""
        return [self.nodes[at] for at in self.read_by.get(tensor, ())]

    def value(self, tensor: str) -> NDArray[np.generic] | None:
        """A constant's value; None for anything else, and for one whose bytes lie outside and were not loaded."""
        proto = self.constants.get(tensor)
        if proto is None or proto.data_location == onnx.TensorProto.EXTERNAL:
            return None
        value: NDArray[np.generic] = numpy_helper.to_array(proto)
        return value

    def label(self, node: onnx.NodeProto) -> str:
        """What people call it: its name, or the operator and what it yields."""
        return node.name or f"{node.op_type} that yields {node.output[0]}"


def read(model: onnx.ModelProto) -> Reading:
    """Indexes a model."""
    nodes = tuple(model.graph.node)
    constants = {weight.name: weight for weight in model.graph.initializer}
    constants |= {
        node.output[0]: value
        for node in nodes
        if node.op_type == "Constant"
        for a in node.attribute
        if (value := _constant(a)) is not None
    }
    readers: dict[str, list[int]] = {}
    for at, node in enumerate(nodes):
        for name in taken(node):
            readers.setdefault(name, []).append(at)
    return Reading(
        model,
        nodes,
        {name: at for at, node in enumerate(nodes) for name in node.output if name},
        {name: tuple(dict.fromkeys(who)) for name, who in readers.items()},
        constants,
        _live(model, nodes, set(constants)),
    )


def _constant(attribute: onnx.AttributeProto) -> onnx.TensorProto | None:
    """What a Constant node holds, a tensor or plain numbers; None for text and sparse tensors."""
    if attribute.HasField("t"):
        return attribute.t
    numbers: dict[str, type[np.generic]] = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
    }
    if attribute.name not in numbers:
        return None
    value = np.asarray(onnx.helper.get_attribute_value(attribute), numbers[attribute.name])
    return numpy_helper.from_array(value)


def _live(model: onnx.ModelProto, nodes: tuple[onnx.NodeProto, ...], constants: set[str]) -> frozenset[str]:
    live = {value.name for value in model.graph.input} - constants
    for node in nodes:
        if live.intersection(taken(node)):
            live.update(name for name in node.output if name)
    return frozenset(live)


def taken(node: onnx.NodeProto) -> Iterator[str]:
    """Every tensor that a node takes, those that its inner graphs take from outside included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inside in inner.node:
                yield from taken(inside)


def named(names: list[str], most: int = 3) -> str:
    """`a`, `b`, `c` and 4 more."""
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
