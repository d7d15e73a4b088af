"""Categories: how far the calibration set knows what is common in the reference set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
RUN = 8
"""So many equal values in a row are taken for padding."""
COMMON_SHARE = 0.1
"""A value is common when at least this share of a set's samples holds it."""


@dataclass(frozen=True)
class Common:
    """Values that are common in one of two sets, and how many samples of each hold them."""

    values: Ints
    calibration: NDArray[np.float64]
    """Share of the calibration samples that hold each value."""
    reference: NDArray[np.float64]

    @property
    def distance(self) -> float:
        """Sum of |difference| over sum of the larger share (weighted Jaccard distance): 0 equal, 1 nothing shared."""
        larger = np.maximum(self.calibration, self.reference).sum()
        return float(np.abs(self.calibration - self.reference).sum() / larger) if larger else 0.0


def common(calibration: Sequence[Ints], reference: Sequence[Ints]) -> Common:
    """Over the samples' sets of values: long samples count no more than short ones."""
    shares = [_shares(rows) for rows in (calibration, reference)]
    values = sorted({v for one in shares for v, share in one.items() if share >= COMMON_SHARE})
    columns = [np.array([one.get(v, 0.0) for v in values]) for one in shares]
    return Common(np.array(values, np.int64), *columns)


def _shares(rows: Sequence[Ints]) -> dict[int, float]:
    found, counts = np.unique(np.concatenate([np.unique(row) for row in rows]), return_counts=True)
    return dict(zip(found.tolist(), (counts / len(rows)).tolist(), strict=True))


def unseen_share(calibration: Ints, reference: Ints) -> float:
    """Share of the reference's samples whose class no calibration sample has."""
    return float((~np.isin(reference, calibration)).mean())


def effective(classes: Ints) -> float:
    """How many classes of equal size are as uneven: the exponential of the entropy (Hill 1973)."""
    _, counts = np.unique(classes, return_counts=True)
    shares = counts / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def filling(rows: Sequence[Ints]) -> dict[int, float]:
    """Values that are the longest run of a sample, of RUN places or more, and the share of the samples of which."""
    longest = [_longest_run(row) for row in rows]
    found, counts = np.unique([value for value, length in longest if length >= RUN], return_counts=True)
    return {int(value): float(count) / len(rows) for value, count in zip(found, counts, strict=True)}


def _longest_run(row: Ints) -> tuple[int, int]:
    """Value and length."""
    starts = np.concatenate(([0], np.flatnonzero(np.diff(row)) + 1))
    lengths = np.diff(np.append(starts, len(row)))
    at = int(lengths.argmax())
    return int(row[starts[at]]), int(lengths[at])
