"""Two-sample tests: distances between two sets that do not depend on units, and how often chance yields as much."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strop_job.audit.calibration.observed import Floats

Array = NDArray[np.float64]
LEAST_PERMUTATIONS = 999
LEVEL = 0.01
"""Family-wise: the share of data sets without any difference in which chance may name one. It guards against noise
only; what decides is the size of the effect."""


def standardized(first: Floats, second: Floats) -> tuple[Array, Array]:
    """Both with the standard deviation of both together as the unit, column by column; constant columns are dropped.

    The unit is of both sets together: a difference is then bounded by 2, however little one set varies.
    """
    both = np.concatenate([first, second]).astype(np.float64)
    centre, deviation = both.mean(axis=0), both.std(axis=0)
    kept = deviation > 1e-6 * np.maximum(np.abs(both).max(axis=0, initial=0.0), 1e-12)
    scaled = (both[:, kept] - centre[kept]) / deviation[kept]
    return scaled[: len(first)], scaled[len(first) :]


def distances(rows: Array) -> Array:
    """[n, n]: Euclidean."""
    squares = (rows**2).sum(axis=1)
    found: Array = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0.0))
    np.fill_diagonal(found, 0.0)
    return found


def energy(between: Array, first: int) -> float:
    """The energy coefficient of the first rows against the others, from the distances of all rows.

    H = (2 E|X-Y| - E|X-X'| - E|Y-Y'|) / 2 E|X-Y| (Szekely and Rizzo 2013): 0 for equal distributions, 1 for two
    different constants. The expectations leave out the pairs of a sample with itself, so that H of two samples of one
    distribution is 0 on average, whatever their sizes; it may be negative.
    """
    second = len(between) - first
    across = float(between[:first, first:].mean())
    if across <= 0.0:
        return 0.0
    inside = [
        float(block.sum()) / (n * (n - 1)) if n > 1 else 0.0
        for block, n in ((between[:first, :first], first), (between[first:, first:], second))
    ]
    return (2 * across - sum(inside)) / (2 * across)


def permutations(tests: int) -> int:
    """So many random splits that chance alone can be told from an effect after Holm's correction for `tests` tests."""
    return max(LEAST_PERMUTATIONS, math.ceil(tests / LEVEL))


def chance(between: Array, first: int, tests: int, seed: int = 0) -> float:
    """The share of random splits of all rows, in sets as large, that lie as far apart as these.

    A permutation test: exact for independent samples, with no assumption on their distribution.
    """
    total, count = len(between), permutations(tests)
    random = np.random.default_rng(seed)
    inside = np.zeros((total, count + 1), np.float32)
    inside[:first, 0] = 1.0
    order = random.random((count, total)).argsort(axis=1)[:, :first]
    inside[order.T, np.arange(1, count + 1)] = 1.0
    matrix = between.astype(np.float32)
    rows = matrix.sum(axis=1) @ inside
    within = np.einsum("ij,ij->j", inside, matrix @ inside)
    across, without = rows - within, matrix.sum() - 2 * rows + within
    second = total - first
    pairs = max(first * (first - 1), 1), max(second * (second - 1), 1)
    statistic = 2 * across / (first * second) - within / pairs[0] - without / pairs[1]
    return float((statistic >= statistic[0] - 1e-6 * abs(statistic[0])).mean())


def holm(chances: Sequence[float], tests: int, level: float = LEVEL) -> list[bool]:
    """Which of these survive Holm's correction (1979) for `tests` tests in all; the others are taken as 1."""
    kept = [False] * len(chances)
    for rank, at in enumerate(sorted(range(len(chances)), key=lambda i: chances[i])):
        if chances[at] > level / (tests - rank):
            break
        kept[at] = True
    return kept


def shift(first: Floats, second: Floats) -> tuple[int, float]:
    """The column that differs most, and by how many of the second set's standard deviations its mean does."""
    deviation = np.maximum(second.astype(np.float64).std(axis=0), 1e-12)
    moved = (first.astype(np.float64).mean(axis=0) - second.astype(np.float64).mean(axis=0)) / deviation
    at = int(np.abs(moved).argmax())
    return at, float(moved[at])
