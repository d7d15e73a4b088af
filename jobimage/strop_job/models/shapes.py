"""Sizes of the dynamic dimensions at which a model is tried, and inputs made up for them. NumPy alone, no torch."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from strop_api.model import Dimension, DType, InputTensor, ModelSource

Sizes = Mapping[str, int]
"""A size for each dynamic dimension, by name."""
Arrays = dict[str, NDArray[np.generic]]
"""Tensors by name."""

POINTS_LIMIT = 2048
"""Largest product of the dynamic sizes tried: a check of shapes, not of endurance."""
ELEMENTS_LIMIT = 2**22
"""Most elements of one input that is tried."""


def shape_at(tensor: InputTensor, sizes: Sizes) -> tuple[int, ...]:
    """The tensor's shape when the dynamic dimensions have these sizes."""
    return tuple(sizes[d] if isinstance(d, str) else d for d in tensor.shape)


def optimum(dimensions: Sequence[Dimension]) -> dict[str, int]:
    """The sizes an engine is tuned for."""
    return {d.name: d.opt for d in dimensions}


def named(at: Sizes) -> str:
    """`batch 8, sequence 64`."""
    return ", ".join(f"{name} {size}" for name, size in at.items()) or "its fixed size"


def trial_sizes(model: ModelSource) -> list[dict[str, int]]:
    """Smallest, tuned, largest, odd and crossed sizes, each once; too large ones are capped, never below `min`."""
    dims = model.dimensions
    wanted = [
        {d.name: d.min for d in dims},
        optimum(dims),
        {d.name: d.max for d in dims},
        {d.name: min(d.max, max(d.min, ((d.min + d.opt) // 2) | 1)) for d in dims},
        {d.name: d.min if i % 2 else d.max for i, d in enumerate(dims)},
    ]
    unique: list[dict[str, int]] = []
    for sizes in wanted:
        capped = cap(sizes, model)
        if capped not in unique:
            unique.append(capped)
    return unique


def cap(sizes: Sizes, model: ModelSource) -> dict[str, int]:
    """The same sizes, the largest halved until the inputs are small enough to be tried quickly."""
    least = {d.name: d.min for d in model.dimensions}
    capped = dict(sizes)
    while _too_large(capped, model.inputs):
        name = max(capped, key=lambda n: capped[n] / least[n])
        if capped[name] // 2 < least[name]:
            break
        capped[name] //= 2
    return capped


def _too_large(sizes: Sizes, inputs: Sequence[InputTensor]) -> bool:
    largest = max(prod(shape_at(tensor, sizes)) for tensor in inputs)
    return prod(sizes.values()) > POINTS_LIMIT or largest > ELEMENTS_LIMIT


def synthetic(inputs: Sequence[InputTensor], sizes: Sizes, *, seed: int, integers_below: int) -> Arrays:
    """Inputs of the right types and shapes, the same for the same seed.

    Floats are standard normal. Integers are uniform in [0, `integers_below`), and in {0, 1} with a leading 1 for names
    that speak of a mask, in {0} for those that speak of token types: a mask of 713 means nothing to an encoder.
    """
    random = np.random.default_rng([seed, *sizes.values()])
    return {t.name: _made_up(t, shape_at(t, sizes), random, integers_below) for t in inputs}


def _made_up(
    tensor: InputTensor, shape: tuple[int, ...], random: np.random.Generator, integers_below: int
) -> NDArray[np.generic]:
    dtype = np.dtype(tensor.dtype.value)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if "mask" in tensor.name.lower():
        mask = random.integers(0, 2, shape)
        mask[..., :1] = 1
        return mask.astype(dtype)
    if "type" in tensor.name.lower() or "segment" in tensor.name.lower():
        return np.zeros(shape, dtype)
    below = {DType.BOOL: 2, DType.UINT8: min(256, integers_below)}.get(tensor.dtype, integers_below)
    return random.integers(0, below, shape).astype(dtype)
