"""What is remembered of a tensor while calibration data streams by: its extremes, and a histogram of fixed size."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS_PER_SIDE = 4096
"""Bins left and right of zero. The range is a power of two, so at least half of them hold values."""
SMALLEST_EXPONENT = -100
"""Magnitudes below 2^-100 all fall into the bins beside zero."""
Counts = NDArray[np.int64]


class NotFiniteError(ValueError):
    """A tensor held NaN or infinity."""


class Extremes:
    """Smallest and largest value seen: all that MinMax needs."""

    def __init__(self) -> None:
        self.minimum, self.maximum, self.size = math.inf, -math.inf, 0

    def add(self, values: NDArray[Any]) -> None:
        """Takes one more array of any shape. Raises NotFiniteError for NaN and infinity."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NotFiniteError
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.size += values.size

    @property
    def magnitude(self) -> float:
        """Largest absolute value seen; 0 before the first."""
        return max(abs(self.minimum), abs(self.maximum)) if self.size else 0.0


class Histogram(Extremes):
    """Counts over (-2^e, 2^e) in bins of equal width; e grows with the data, neighbours merging pairwise.

    Bin i right of zero holds i <= x / width < i + 1; the bins left of zero are its mirror, and -0.0 counts as negative.

    Because the range is a power of two and bins are aligned at zero, merging gives exactly the counts that the larger
    range would have given from the start: the result depends on the values alone, not on how they were cut into
    batches nor on their order. Memory is `2 * BINS_PER_SIDE` counters, whatever the number of samples.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exponent = SMALLEST_EXPONENT
        self.counts: Counts = np.zeros(2 * BINS_PER_SIDE, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Takes one more array of any shape. Raises NotFiniteError for NaN and infinity."""
        if values.size == 0:
            return
        super().add(values)
        needed = math.frexp(self.magnitude)[1]
        if needed > self.exponent:
            self.counts = widened(self.counts, needed - self.exponent)
            self.exponent = needed
        scaled = np.ravel(values).astype(np.float32) * np.float32(2.0) ** self._shift
        bins = scaled.astype(np.intp)
        np.subtract(bins, np.signbit(scaled), out=bins)
        bins += BINS_PER_SIDE
        self.counts += np.bincount(bins, minlength=self.counts.size)

    @property
    def _shift(self) -> int:
        return BINS_PER_SIDE.bit_length() - 1 - self.exponent

    @property
    def width(self) -> float:
        """Width of a bin, in the tensor's unit."""
        return math.ldexp(1.0, -self._shift)

    def magnitudes(self) -> Counts:
        """Counts of absolute values: bin i holds those from i to below i+1 widths."""
        folded: Counts = self.counts[BINS_PER_SIDE:] + self.counts[:BINS_PER_SIDE][::-1]
        return folded

    def clipped_share(self, low: float, high: float) -> float:
        """Share of the values outside [low, high], to the nearest bin."""
        if low <= self.minimum and high >= self.maximum:
            return 0.0
        edges = (np.arange(self.counts.size + 1) - BINS_PER_SIDE) * self.width
        outside = (edges[1:] <= low) | (edges[:-1] >= high)
        return float(self.counts[outside].sum() / max(self.size, 1))


def widened(counts: Counts, doublings: int) -> Counts:
    """The counts over a range 2^doublings times as wide, with as many bins."""
    merged = min(1 << min(doublings, 62), counts.size // 2)
    kept = counts.reshape(-1, merged).sum(axis=1)
    wide = np.zeros_like(counts)
    start = (counts.size - kept.size) // 2
    wide[start : start + kept.size] = kept
    return wide
