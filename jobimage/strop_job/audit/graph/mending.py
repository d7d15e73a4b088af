"""Putting a live size in the place of a suspect constant: where the graph then serves other sizes, it was the cause."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from strop_job.audit.graph.baked import Suspect
from strop_job.audit.graph.interface import Interface
from strop_job.audit.graph.reading import Reading

PREFIX = "strop/audit"


@dataclass(frozen=True)
class Mend:
    """A suspect, and the dynamic axis whose size it would be: `value` = `times` x the axis in the example."""

    suspect: Suspect
    axis: str
    times: int = 1


def mended(reading: Reading, interface: Interface, mends: Sequence[Mend]) -> onnx.ModelProto:
    """A copy of the model in which these constants follow the inputs, and nothing inside is declared any more."""
    copy = onnx.ModelProto()
    copy.CopyFrom(reading.model)
    del copy.graph.value_info[:]
    made = {axis: _sizes(interface, axis, at) for at, axis in enumerate(dict.fromkeys(m.axis for m in mends))}
    first = [node for nodes, _ in made.values() for node in nodes]
    scalars = {axis: name for axis, (_, name) in made.items()}
    for (node, slot), group in _by_place(mends).items():
        nodes, name = _replacement(reading, group, scalars, f"{PREFIX}/{node}.{slot}")
        first += nodes
        copy.graph.node[node].input[slot] = name
    kept = list(copy.graph.node)
    constants = [node for node in kept if node.op_type == "Constant"]
    rest = [node for node in kept if node.op_type != "Constant"]
    del copy.graph.node[:]
    copy.graph.node.extend([*constants, *first, *rest])
    return copy


def _by_place(mends: Iterable[Mend]) -> dict[tuple[int, int], list[Mend]]:
    groups: dict[tuple[int, int], list[Mend]] = {}
    for mend in mends:
        groups.setdefault((mend.suspect.node, mend.suspect.slot), []).append(mend)
    return groups


def _sizes(interface: Interface, axis: str, at: int) -> tuple[list[onnx.NodeProto], str]:
    """Nodes that yield the axis' size, int64 of one element."""
    given, position = interface.place(axis)
    name = f"{PREFIX}/axis{at}"
    return [
        helper.make_node("Shape", [given], [f"{name}/shape"]),
        _constant(np.array([position], np.int64), f"{name}/at"),
        helper.make_node("Gather", [f"{name}/shape", f"{name}/at"], [name], axis=0),
    ], name


def _replacement(
    reading: Reading, group: Sequence[Mend], scalars: Mapping[str, str], name: str
) -> tuple[list[onnx.NodeProto], str]:
    if not group[0].suspect.operand:
        return _recomputed(reading, group, scalars, name)
    nodes: list[onnx.NodeProto] = []
    source = group[0].suspect.tensor
    for index, mend in enumerate(group):
        made, source = _cut(reading, mend, scalars, (source, f"{name}/{index}"))
        nodes += made
    return nodes, source


def _recomputed(
    reading: Reading, group: Sequence[Mend], scalars: Mapping[str, str], name: str
) -> tuple[list[onnx.NodeProto], str]:
    """The shape with some entries taken from axes: each is zero in the constant, and added as its axis x times."""
    value = reading.value(group[0].suspect.tensor)
    assert value is not None  # a suspect's constant has a value
    base = np.array(np.atleast_1d(value), np.int64)
    base[[mend.suspect.position for mend in group]] = 0
    total = f"{name}/base"
    nodes = [_constant(base, total)]
    for index, mend in enumerate(group):
        factor = np.zeros(base.shape, np.int64)
        factor[mend.suspect.position] = mend.times
        part = f"{name}/{index}"
        nodes += [
            _constant(factor, f"{part}/factor"),
            helper.make_node("Mul", [f"{part}/factor", scalars[mend.axis]], [f"{part}/live"]),
            helper.make_node("Add", [total, f"{part}/live"], [part]),
        ]
        total = part
    return [*nodes, *_as_before(value, total, name)], name


def _as_before(value: "np.typing.NDArray[np.generic]", source: str, name: str) -> list[onnx.NodeProto]:
    """In the constant's own rank and type."""
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    shape = _constant(np.array(value.shape, np.int64), f"{name}/rank")
    return [
        shape,
        helper.make_node("Reshape", [source, f"{name}/rank"], [f"{name}/int64"]),
        helper.make_node("Cast", [f"{name}/int64"], [name], to=kind),
    ]


def _cut(
    reading: Reading, mend: Mend, scalars: Mapping[str, str], tensors: tuple[str, str]
) -> tuple[list[onnx.NodeProto], str]:
    """An operand at the live size, from one tensor to another: repeated where all is alike, else its beginning."""
    source, name = tensors
    suspect = mend.suspect
    value = reading.value(suspect.tensor)
    rank = suspect.rank
    axis = suspect.position
    alike = value is not None and bool((value == np.take(value, [0], axis=axis)).all())
    start, axes = (
        _constant(np.array([0], np.int64), f"{name}/start"),
        _constant(np.array([axis], np.int64), f"{name}/axes"),
    )
    one = _constant(np.array([1], np.int64), f"{name}/one")
    end = f"{name}/one" if alike else scalars[mend.axis]
    cut = helper.make_node("Slice", [source, f"{name}/start", end, f"{name}/axes"], [f"{name}/cut"])
    if not alike:
        return [start, axes, cut, helper.make_node("Identity", [f"{name}/cut"], [name])], name
    ones, place = np.ones(rank, np.int64), np.zeros(rank, np.int64)
    ones[axis], place[axis] = 0, 1
    return [
        start, axes, one, cut,
        _constant(ones, f"{name}/ones"), _constant(place, f"{name}/place"),
        helper.make_node("Mul", [f"{name}/place", scalars[mend.axis]], [f"{name}/live"]),
        helper.make_node("Add", [f"{name}/ones", f"{name}/live"], [f"{name}/target"]),
        helper.make_node("Expand", [f"{name}/cut", f"{name}/target"], [name]),
    ], name  # fmt: skip


def _constant(value: "np.typing.NDArray[np.generic]", name: str) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
