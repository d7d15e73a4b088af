"""What a variant is fed while it is timed: the same arrays for every variant, at the optimum shape."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_api.model import DType, InputTensor, ModelSource

Arrays = dict[str, NDArray[Any]]

TOKEN_LOW, TOKEN_HIGH = 1, 100
"""Synthetic integers lie in this range, ends included: inside any vocabulary, and never a padding zero."""


def optimum_shape(tensor: InputTensor, model: ModelSource) -> tuple[int, ...]:
    """The input's shape with every dynamic dimension at its `opt`."""
    return _shape(tensor, _optimum(model))


def synthetic(model: ModelSource, seed: int, **sizes: int) -> Arrays:
    """Seeded inputs: floats are standard normal, integers `TOKEN_LOW` to `TOKEN_HIGH`, masks ones, token types zeros.

    A full mask is the dearest case: no runtime may skip padding. Integer inputs by the name `*mask*` are masks, by
    `*token_type*` token types. `sizes` are dimensions at another size than their `opt`.
    """
    random = np.random.default_rng(seed)
    chosen = _optimum(model) | sizes
    return {tensor.name: _array(tensor, _shape(tensor, chosen), random) for tensor in model.inputs}


def _optimum(model: ModelSource) -> dict[str, int]:
    return {dimension.name: dimension.opt for dimension in model.dimensions}


def _shape(tensor: InputTensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else sizes[size] for size in tensor.shape)


def _array(tensor: InputTensor, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    dtype, name = np.dtype(tensor.dtype.value), tensor.name.lower()
    if tensor.dtype in (DType.FLOAT32, DType.FLOAT16):
        return random.standard_normal(shape).astype(dtype)
    if tensor.dtype is DType.BOOL or "mask" in name:
        return np.ones(shape, dtype)
    if "token_type" in name:
        return np.zeros(shape, dtype)
    if tensor.dtype is DType.UINT8:
        return random.integers(0, 256, shape).astype(dtype)
    return random.integers(TOKEN_LOW, TOKEN_HIGH + 1, shape).astype(dtype)


def shapes_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, list[int]]:
    """For the facts: each input's shape."""
    return {name: list(array.shape) for name, array in arrays.items()}
