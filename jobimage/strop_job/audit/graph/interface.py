"""What a graph takes: inputs, named dynamic axes, the sizes at which it is tried, and values made up for them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from strop_api.model import ModelSource
from strop_job.errors import Unsupported
from strop_job.models.onnx_files import graph_inputs
from strop_job.verification.parity import sizes_to_try

Arrays = dict[str, NDArray[np.generic]]
Sizes = dict[str, int]

ALONE_BATCHES = (1, 2, 3, 5, 8, 11)
"""Batches at which a graph that comes with no spec is tried: one, and even and odd ones."""
ALONE_SIZES = (16, 32, 8, 64, 224, 128, 640, 1, 2, 512, 16000)
"""Sizes of other dynamic axes, of which the first that the graph takes is used."""
ALONE_ELEMENTS = 1 << 25
"""Numbers in all inputs of one call, at most, where no spec asks for more: 128 MiB of floats."""


@dataclass(frozen=True)
class Given:
    """One input."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str, ...]
    """Fixed sizes, and names of dynamic axes."""


@dataclass(frozen=True)
class Interface:
    """All inputs, and the sizes that a graph promises to serve."""

    inputs: tuple[Given, ...]
    batch: str | None
    """The axis that all inputs with a first axis lead with; None where they differ or it is fixed."""
    sizes: tuple[Sizes, ...]
    """Sizes to try, each naming all dynamic axes."""
    promised: bool
    """Whether a spec says that these sizes must be served, and every output leads with the batch."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the dynamic axes."""
        found = (axis for given in self.inputs for axis in given.shape if isinstance(axis, str))
        return tuple(dict.fromkeys(found))

    def affordable(self, sizes: Mapping[str, int]) -> bool:
        """Whether inputs of these sizes are made up: all that a spec promises, and elsewhere what is not too large."""
        return self.promised or sum(prod(_shape(given, sizes)) for given in self.inputs) <= ALONE_ELEMENTS

    def place(self, name: str) -> tuple[str, int]:
        """An input and the axis of it that has this name."""
        return next((given.name, given.shape.index(name)) for given in self.inputs if name in given.shape)


def of_spec(model: ModelSource) -> Interface:
    """As a spec says it; a dimension with one size is no dynamic one."""
    fixed = {d.name: d.min for d in model.dimensions if d.min == d.max}
    inputs = tuple(
        Given(t.name, np.dtype(t.dtype.value), tuple(fixed.get(a, a) if isinstance(a, str) else a for a in t.shape))
        for t in model.inputs
    )
    sizes = [{name: size for name, size in one.items() if name not in fixed} for one in sizes_to_try(model)]
    return Interface(inputs, _batch(inputs), tuple(sizes), promised=True)


def of_graph(model: onnx.ModelProto) -> Interface:
    """As the graph itself declares it; axes without a name are taken to be one where they stand at one place.

    Raises Unsupported for an input for which no value can be made up.
    """
    inputs = tuple(Given(v.name, _dtype(v), tuple(_axes(v))) for v in graph_inputs(model))
    batch = _batch(inputs)
    inputs = tuple(_with_state_batch(given, batch) for given in inputs)
    return at_other_sizes(Interface(inputs, batch, (), promised=False), ALONE_SIZES[0])


def _of_sizes(interface: Interface, sizes: Iterable[Sizes]) -> Interface:
    """The same at these sizes, without those that are too large to be tried."""
    return replace(interface, sizes=tuple(one for one in sizes if interface.affordable(one)))


def along_others(interface: Interface, base: Sizes) -> Interface:
    """The same, each axis but the batch at sizes around one that is served: half, one less, one more."""
    others = [name for name in base if name != interface.batch]
    moved = [
        {**base, name: max(1, size)} for name in others for size in (base[name] // 2, base[name] - 1, base[name] + 1)
    ]
    return _of_sizes(interface, (base, *moved))


def at_other_sizes(interface: Interface, size: int) -> Interface:
    """What a graph that comes alone takes, tried with all dynamic axes but the batch at one size."""
    batches = ALONE_BATCHES if interface.batch else (1,)
    others = [name for name in interface.names if name != interface.batch]
    sizes = [{**({interface.batch: b} if interface.batch else {}), **dict.fromkeys(others, size)} for b in batches]
    return _of_sizes(interface, sizes)


def _batch(inputs: tuple[Given, ...]) -> str | None:
    """The one dynamic first axis; a state or a table beside it may lead with a number."""
    first = {given.shape[0] for given in inputs if given.shape and isinstance(given.shape[0], str)}
    return str(next(iter(first))) if len(first) == 1 else None


def _with_state_batch(given: Given, batch: str | None) -> Given:
    """A recurrent state, [layers, batch, width], whose second axis has no name."""
    if batch is None or len(given.shape) < 3 or isinstance(given.shape[0], str) or given.shape[1] != "axis 1":
        return given
    return Given(given.name, given.dtype, (given.shape[0], batch, *given.shape[2:]))


def fixed_first_axes(interface: Interface) -> list[tuple[Given, int]]:
    """Inputs whose first axis is a number: of several rows, or of a graph in which no input leads with a dynamic one.

    Beside a dynamic batch, one row is shared by all samples, and an input that has the batch elsewhere is a state.
    """
    found = []
    for given in interface.inputs:
        size = given.shape[0] if len(given.shape) > 1 else ""
        if isinstance(size, int) and (interface.batch is None or (size > 1 and interface.batch not in given.shape)):
            found.append((given, size))
    return found


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[np.generic]:
    kind = value.type.tensor_type.elem_type
    if kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        what = "text" if kind == onnx.TensorProto.STRING else "no tensor of a known type"
        raise Unsupported(f"input `{value.name}` is {what}", field="spec.model.inputs", mend="name tensors of numbers")
    dtype: np.dtype[np.generic] = helper.tensor_dtype_to_np_dtype(kind)
    return dtype


def _axes(value: onnx.ValueInfoProto) -> Iterator[int | str]:
    for at, dim in enumerate(value.type.tensor_type.shape.dim):
        fixed = dim.HasField("dim_value") and dim.dim_value >= 0  # some exporters write -1 for a dynamic axis
        yield dim.dim_value if fixed else dim.dim_param or f"axis {at}"


def made_up(interface: Interface, sizes: Mapping[str, int], below: int, seed: int = 0) -> Arrays:
    """Inputs at these sizes: floats are normal, integers in [0, `below`), masks ones and zeros, token types zeros."""
    random = np.random.default_rng([seed, *sizes.values()])
    return {given.name: _values(given, _shape(given, sizes), below, random) for given in interface.inputs}


def _shape(given: Given, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in given.shape)


def _values(given: Given, shape: tuple[int, ...], below: int, random: np.random.Generator) -> NDArray[np.generic]:
    name = given.name.lower()
    if given.dtype.kind not in "iub":
        return random.standard_normal(shape, np.float32).astype(given.dtype)
    if "mask" in name:
        mask = random.integers(0, 2, shape)
        mask[..., :1] = 1
        return mask.astype(given.dtype)
    if "type" in name or "segment" in name:
        return np.zeros(shape, given.dtype)
    limit = {"b": 2}.get(given.dtype.kind, min(below, 100) if given.dtype.itemsize == 1 else below)
    return random.integers(0, limit, shape).astype(given.dtype)
