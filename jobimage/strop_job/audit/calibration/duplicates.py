"""Near-duplicates: samples whose fingerprints lie closer together than those of unrelated samples usually do."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strop_job.audit.calibration.observed import Floats

RADII = (0.15, 0.25)
"""Shares of the median distance of two reference samples within which two samples are near: a few words changed,
another brightness, a little noise. The one counts that shows more: narrow where a set is dense, wide where it is
thin."""
MOST_USUAL = 256
"""Reference samples of which it is looked up how near the others are: among all of them, as for the other set."""
WITHIN = 5.0
"""Deviations at which a column is cut: one broken value shall not make a sample unlike everything."""


@dataclass(frozen=True)
class Near:
    """How many samples have a near neighbour."""

    share: float
    usual: float
    """The same within the reference, which is what data of this kind shows without any leak."""

    @property
    def excess(self) -> float:
        """Share above what is usual."""
        return self.share - self.usual


def across(prints: Floats, reference: Floats) -> Near:
    """Samples with a near neighbour in the reference; those that share one neighbour count once.

    A copy has an original of its own. What is merely poor, such as texts cut short, is all near one poor sample.
    """
    mine, theirs = comparable(prints, reference), comparable(reference, reference)
    distance, neighbour = nearest(mine, theirs)
    some = np.unique(np.linspace(0, len(theirs) - 1, min(len(theirs), MOST_USUAL)).round().astype(np.intp))

    def share(radius: float) -> float:
        return len(np.unique(neighbour[distance < radius])) / len(mine)

    usual, _ = nearest(theirs[some], theirs, skipping=some)
    return _worst(share, median_distance(theirs[some]), usual)


def within(prints: Floats, reference: Floats) -> Near:
    """Samples with a near neighbour in their own set; near is relative to how far apart its samples usually are."""
    mine, theirs = comparable(prints, reference), comparable(reference, reference)
    scale = min(median_distance(mine) / (median_distance(theirs) or 1.0), 1.0)
    distance, _ = nearest(mine, mine, skipping=np.arange(len(mine)))

    def share(radius: float) -> float:
        return float((distance < scale * radius).mean())

    usual, _ = nearest(theirs, theirs, skipping=np.arange(len(theirs)))
    return _worst(share, median_distance(theirs), usual)


def _worst(share: Callable[[float], float], usual_distance: float, theirs: NDArray[np.float64]) -> Near:
    """`theirs`: distances of reference samples to the nearest other one."""
    if usual_distance <= 0.0:
        return Near(0.0, 0.0)
    radii = (radius * usual_distance for radius in RADII)
    found = [Near(share(radius), float((theirs < radius).mean())) for radius in radii]
    return max(found, key=lambda near: near.excess)


def comparable(prints: Floats, reference: Floats) -> Floats:
    """Every column in units of the reference's deviation: a column of large numbers counts no more than another."""
    centre, deviation = reference.mean(axis=0, dtype=np.float64), reference.std(axis=0, dtype=np.float64)
    kept = deviation > 1e-6 * np.maximum(np.abs(reference).max(axis=0, initial=0.0), 1e-12)
    scaled: Floats = np.clip((prints[:, kept] - centre[kept]) / deviation[kept], -WITHIN, WITHIN).astype(np.float32)
    return scaled


def nearest(
    first: Floats, second: Floats, *, skipping: NDArray[np.intp] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """For each of the first, its distance to the nearest of the second, and which; `skipping`: itself, by its row."""
    squares = _squares(first, second)
    if skipping is not None:
        squares[np.arange(len(first)), skipping] = np.inf
    which = squares.argmin(axis=1)
    found: NDArray[np.float64] = np.sqrt(np.maximum(squares[np.arange(len(squares)), which], 0.0))
    return found, which


def median_distance(prints: Floats) -> float:
    """Of two different samples; 0 where there are no two."""
    if len(prints) < 2:
        return 0.0
    return float(np.sqrt(max(np.median(_squares(prints, prints)[np.triu_indices(len(prints), 1)]), 0.0)))


def _squares(first: Floats, second: Floats) -> NDArray[np.float64]:
    one, other = first.astype(np.float64), second.astype(np.float64)
    found: NDArray[np.float64] = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * one @ other.T
    return found
