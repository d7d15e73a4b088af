"""Constants of a graph that may be the sizes of the example it was exported with: candidates, found by reading."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from strop_job.audit.graph.reading import Reading

SHAPE_INPUTS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "ConstantOfShape": (0,), "Slice": (1, 2), "Resize": (3,),
    "Range": (1,), "Split": (1,), "Pad": (1,), "OneHot": (1,), "Upsample": (1,), "Unsqueeze": (), "Col2Im": (0,),
}  # fmt: skip
"""Which inputs of an operator say sizes."""
ARITHMETIC = frozenset(
    {"Concat", "Unsqueeze", "Squeeze", "Cast", "Mul", "Add", "Sub", "Div", "Where", "Max", "Min", "Identity", "Reshape",
     "Gather", "Slice"}
)  # fmt: skip
"""What shapes are computed with."""
TOGETHER = frozenset(
    {"Add", "Sub", "Mul", "Div", "Where", "Concat", "MatMul", "Pow", "Max", "Min", "And", "Or", "Equal"}
)
"""Operators whose operands must agree in their sizes."""
LONGEST = 8
"""A shape has at most so many entries."""


@dataclass(frozen=True)
class Suspect:
    """One number in one constant, as one node takes it."""

    node: int
    """Index of the node that takes the constant."""
    slot: int
    tensor: str
    position: int
    """Which entry of a shape, or which axis of an operand."""
    value: int
    operand: bool = False
    """Whether the constant's own size is the number, and not an entry of it."""
    consumer: int = -1
    """Index of the node whose shape it is part of; `node` where it is taken directly."""
    rank: int = 0
    """Of an operand."""


def suspects(reading: Reading) -> list[Suspect]:
    """In the order of the nodes."""
    found = [*_in_shapes(reading), *_operands(reading)]
    return sorted(dict.fromkeys(found), key=lambda one: (one.consumer, one.node, one.slot, one.position))


def _in_shapes(reading: Reading) -> Iterator[Suspect]:
    for at, node in enumerate(reading.nodes):
        for slot in SHAPE_INPUTS.get(node.op_type, ()):
            if slot < len(node.input) and node.input[slot]:
                yield from _entries(reading, at, slot, at, set())


def _entries(reading: Reading, at: int, slot: int, consumer: int, seen: set[str]) -> Iterator[Suspect]:
    """Entries above 1 of a constant in this slot, or of those that its shape is computed from."""
    tensor = reading.nodes[at].input[slot]
    value = reading.value(tensor) if tensor else None
    if value is not None:
        if value.dtype.kind == "i" and value.ndim <= 1 and value.size <= LONGEST:
            for position, entry in enumerate(np.atleast_1d(value).tolist()):
                if 1 < entry < 2**31 - 1:
                    yield Suspect(at, slot, tensor, position, int(entry), consumer=consumer)
        return
    maker = reading.made_by.get(tensor)
    if maker is None or tensor in seen or reading.nodes[maker].op_type not in ARITHMETIC:
        return
    seen.add(tensor)
    inner = reading.nodes[maker]
    slots = (
        range(1) if inner.op_type in ("Gather", "Slice", "Reshape", "Squeeze", "Unsqueeze") else range(len(inner.input))
    )
    for each in slots:
        yield from _entries(reading, maker, each, consumer, seen)


def _operands(reading: Reading) -> Iterator[Suspect]:
    """Constants that meet a live tensor and bring an axis of their own."""
    known = _shapes(reading)
    for at, node in enumerate(reading.nodes):
        if node.op_type not in TOGETHER or not any(name in reading.live for name in node.input):
            continue
        for slot, tensor in enumerate(node.input):
            shape = known.get(tensor, ()) if tensor not in reading.live else ()
            for axis, size in enumerate(shape):
                if size > 1:
                    yield Suspect(at, slot, tensor, axis, size, operand=True, consumer=at, rank=len(shape))


def _shapes(reading: Reading) -> dict[str, tuple[int, ...]]:
    """Of constants, and of what is computed from constants alone, where onnx can infer it."""
    shapes = {name: tuple(weight.dims) for name, weight in reading.constants.items()}
    try:
        inferred = onnx.shape_inference.infer_shapes(reading.model)
    except Exception:  # a graph that onnx cannot infer still has its constants
        return shapes
    for value in inferred.graph.value_info:
        dims = value.type.tensor_type.shape.dim
        if value.name not in reading.live and all(dim.HasField("dim_value") for dim in dims):
            shapes.setdefault(value.name, tuple(dim.dim_value for dim in dims))
    return shapes
