"""Batches cut to what a model takes: its batch dimension may be fixed, bounded or shared by all inputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_api.model import Dimension, ModelSource

Arrays = dict[str, NDArray[Any]]


def batch_dimension(model: ModelSource) -> int | Dimension:
    """The first axis of the first input: a fixed size, or the dimension it is named after."""
    first = model.inputs[0].shape[0] if model.inputs[0].shape else 1
    if isinstance(first, int):
        return first
    return next(d for d in model.dimensions if d.name == first)


def batch_size(model: ModelSource, wanted: int) -> int:
    """`wanted` samples a call, or the nearest number the model takes."""
    size = batch_dimension(model)
    return size if isinstance(size, int) else min(max(wanted, size.min), size.max)


def least_batch(model: ModelSource) -> int:
    """The smallest number of samples the model takes in one call."""
    size = batch_dimension(model)
    return size if isinstance(size, int) else size.min


def fitted(inputs: Mapping[str, NDArray[Any]], model: ModelSource) -> Arrays:
    """A last, short batch filled up by repeating its samples, where the model takes no fewer."""
    missing = least_batch(model) - len(next(iter(inputs.values())))
    if missing <= 0:
        return dict(inputs)
    return {name: np.resize(array, (len(array) + missing, *array.shape[1:])) for name, array in inputs.items()}


def resized(inputs: Mapping[str, NDArray[Any]], model: ModelSource, sizes: Mapping[str, int], first: int = 0) -> Arrays:
    """Real samples at other sizes: every named axis is cut, or filled by repeating, to its size in `sizes`.

    `first` is the sample that comes first.
    """
    shaped: Arrays = {}
    for tensor in model.inputs:
        array = inputs[tensor.name]
        for axis, size in enumerate(tensor.shape):
            wanted = sizes[size] if isinstance(size, str) else size
            start = first if axis == 0 else 0
            array = np.take(array, (np.arange(wanted) + start) % array.shape[axis], axis=axis)
        shaped[tensor.name] = array
    return shaped
