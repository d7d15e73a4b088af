"""From one batch's tensors to the figures that are kept of each sample: quantiles, moments, means along axes."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from strop_job.audit.calibration.observed import Floats

MOST_VALUES = 4096
"""Quantiles of a larger tensor are taken from so many evenly spaced values; its extremes are exact."""
MOST_CATEGORIES = 4096
PROBABILITIES: Floats = np.concatenate(
    ([0, 0.001, 0.005, 0.01], np.linspace(0.02, 0.98, 49), [0.99, 0.995, 0.999, 1])
).astype(np.float32)
LEVELS = len(PROBABILITIES)
PARTS = 32
"""Means along an axis are kept for at most so many parts of it."""
TINY = 1e-30


def quantiles(batch: NDArray[np.generic]) -> Floats:
    """[n, LEVELS] of an array [n, ...]."""
    flat = batch.reshape(len(batch), -1).astype(np.float32, copy=False)
    few = flat
    if flat.shape[1] > MOST_VALUES:
        few = flat[:, np.linspace(0, flat.shape[1] - 1, MOST_VALUES).astype(np.intp)]
    ordered = np.sort(few, axis=1)
    found: Floats = ordered[:, np.round(PROBABILITIES * (ordered.shape[1] - 1)).astype(np.intp)]
    found[:, 0], found[:, -1] = flat.min(axis=1), flat.max(axis=1)
    return found


def moments(batch: NDArray[np.generic]) -> Floats:
    """[n, 4]: mean, standard deviation, and the 2% and 98% quantiles of each sample's values."""
    flat = batch.reshape(len(batch), -1).astype(np.float32, copy=False)
    spread = quantiles(flat)
    low, high = (int(np.searchsorted(PROBABILITIES, p)) for p in (0.02, 0.98))
    centre, deviation = flat.mean(axis=1, dtype=np.float64), flat.std(axis=1, dtype=np.float64)
    return np.stack([centre, deviation, spread[:, low], spread[:, high]], axis=1).astype(np.float32)


def texture(batch: NDArray[np.generic]) -> Floats:
    """[n, rank]: along each axis, the mean step between neighbours over the standard deviation.

    1.13 for white noise (2/sqrt(pi)), near 0 where neighbours are alike: noise, blur and shuffling move it, and a
    change of scale does not.
    """
    values = batch.astype(np.float32, copy=False)
    deviation = values.reshape(len(values), -1).std(axis=1)
    steps = [
        np.abs(np.diff(values, axis=axis)).reshape(len(values), -1).mean(axis=1)
        for axis in range(1, values.ndim)
        if values.shape[axis] > 1
    ]
    columns = [step / np.maximum(deviation, TINY) * (deviation > TINY) for step in steps]
    return np.stack(columns, axis=1) if columns else np.zeros((len(values), 0), np.float32)


def along(batch: NDArray[np.generic], axis: int) -> Floats:
    """[n, size]: the mean over every other axis, summed wide: the rounding of a sum must not look like a difference."""
    others = tuple(at for at in range(1, batch.ndim) if at != axis)
    means: Floats = batch.mean(axis=others, dtype=np.float64).astype(np.float32) if others else batch.astype(np.float32)
    return means


def parts(values: Floats) -> Floats:
    """[n, at most PARTS]: means of neighbouring columns."""
    if values.shape[1] <= PARTS:
        return values
    cuts = np.linspace(0, values.shape[1], PARTS + 1).astype(np.intp)[:-1]
    sums = np.add.reduceat(values, cuts, axis=1)
    widths = np.diff(np.append(cuts, values.shape[1]))
    return (sums / widths).astype(np.float32)


def projected(values: Floats, salt: str) -> Floats:
    """[n, at most PARTS]: a fixed random projection, which keeps distances (Johnson and Lindenstrauss 1984).

    Channels have no order, so that means of neighbours would say little.
    """
    width = values.shape[1]
    if width <= PARTS:
        return values
    random = np.random.default_rng(zlib.crc32(f"{salt}/{width}".encode()))
    signs = random.choice(np.array([-1.0, 1.0]), size=(width, PARTS))
    found: Floats = (values.astype(np.float64) @ signs / np.sqrt(PARTS)).astype(np.float32)
    return found


def views_of_input(batch: NDArray[np.generic]) -> dict[str, Floats]:
    """What is compared of an input: moments, texture, and the means along every axis."""
    views = {"moments": moments(batch), "texture": texture(batch)}
    for axis in range(1, batch.ndim):
        views[f"axis {axis}"] = parts(along(batch, axis))
    return views


def views_inside(batch: NDArray[np.generic], name: str) -> dict[str, Floats]:
    """What is compared of an activation or output: moments, and the means along its first and its last axis."""
    views = {"moments": moments(batch)}
    for axis in {1, batch.ndim - 1} - {0}:
        views[f"axis {axis}"] = projected(along(batch, axis), name)
    return views


def confidence(scores: NDArray[np.generic]) -> Floats:
    """[n, 2] of scores [n, classes]: the share of the first class, and its lead over the second, as probabilities.

    Scores that are probabilities already are taken as they are; others go through a softmax.
    """
    values = scores.astype(np.float64)
    if values.min() < 0 or np.abs(values.sum(axis=1) - 1).max() > 1e-3:
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        values = powers / powers.sum(axis=1, keepdims=True)
    best = np.sort(values, axis=1)[:, -2:]
    return np.stack([best[:, 1], best[:, 1] - best[:, 0]], axis=1).astype(np.float32)


def views_of_categories(rows: NDArray[np.integer]) -> dict[str, Floats]:
    """What can be compared of integers whose values are names: lengths and repetition, not magnitudes.

    `length`: places up to the constant tail (padding); `start`: places of the constant head; then the shares of
    distinct values and of the commonest one.
    """
    flat = rows.reshape(len(rows), -1)
    found = [_shape_of(row) for row in flat]
    return {"lengths": np.array(found, np.float32)}


def _shape_of(row: NDArray[np.integer]) -> tuple[float, float, float, float]:
    changes = np.flatnonzero(np.diff(row))
    length = int(changes[-1]) + 1 if len(changes) else 0
    start = int(changes[0]) + 1 if len(changes) else 0
    _, counts = np.unique(row, return_counts=True)
    return float(length), float(start if start > 1 else 0), float(len(counts)), float(counts.max() / len(row))


def uneven(views: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """The samples' views one below the other; one whose width varies with the sample is left out."""
    common = set.intersection(*(set(one) for one in views))
    kept = [name for name in views[0] if name in common and len({one[name].shape[1] for one in views}) == 1]
    return {name: np.concatenate([one[name] for one in views]) for name in kept}
