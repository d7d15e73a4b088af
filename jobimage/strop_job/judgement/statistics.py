"""Intervals that have a formula: proportions, paired proportions and their ratios, quantiles. All pure.

Levels are two-sided unless the name says otherwise; a one-sided bound at confidence c is the end of the two-sided
interval at level 2c - 1. What must be resampled stands in `resampling`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.95
"""The level of every interval that is only shown."""


@dataclass(frozen=True)
class Interval:
    """A point estimate and the two ends of its interval, in the unit of the estimate."""

    point: float
    low: float
    high: float


def one_sided(confidence: float) -> float:
    """The two-sided level whose ends are one-sided bounds at `confidence` (0.95 gives 0.90)."""
    if not 0.5 < confidence < 1:
        raise ValueError(f"a one-sided confidence lies between 50% and 100%, not {confidence:.3%}")
    return 2 * confidence - 1


def normal_quantile(level: float) -> float:
    """The z of a two-sided interval at `level`: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(successes: float, trials: float, level: float = LEVEL) -> Interval:
    """Score interval of a proportion (Wilson 1927; equation 4 of Newcombe 1998, Statistics in Medicine 17:857)."""
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials is no proportion")
    share, z = successes / trials, normal_quantile(level)
    centre = share + z * z / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low = 0.0 if successes == 0 else (centre - reach) / scale
    high = 1.0 if successes == trials else (centre + reach) / scale
    return Interval(share, low, high)


def paired_difference(lost: float, gained: float, samples: float, level: float = LEVEL) -> Interval:
    """Score interval of the difference of paired proportions, first minus second (Tango 1998, Stat. Med. 17:891).

    `lost` counts samples right in the first and wrong in the second, `gained` the reverse, `samples` all. The ends
    solve |z(d)| = z: the difference at which the score test no longer rejects. Holds its level with no discordant pair
    at all, where a bootstrap or a Wald interval has no width. Counts may be fractions: samples that hang together count
    as fewer (Rao and Scott 1992, Biometrics 48:577).
    """
    if min(lost, gained) < 0 or lost + gained > samples or samples == 0:
        raise ValueError(f"{lost} lost and {gained} gained of {samples} samples are no paired counts")
    z, point = normal_quantile(level), (lost - gained) / samples
    low = _bisect(lambda d: difference_score(lost, gained, samples, d) - z, -1.0, point)
    high = _bisect(lambda d: difference_score(lost, gained, samples, d) + z, point, 1.0)
    return Interval(point, low, high)


def difference_score(lost: float, gained: float, samples: float, difference: float) -> float:
    """The score statistic for H0 `p1 - p2 = difference`; decreasing in `difference` (Tango 1998, equations 6 and 7)."""
    excess = lost - gained - samples * difference
    a, b = 2.0 * samples, -lost - gained + (2 * samples - lost + gained) * difference
    c = -gained * difference * (1 - difference)
    q21 = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = samples * (2 * q21 + difference * (1 - difference))
    if variance <= 0:
        return 0.0 if abs(excess) < 1e-12 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)


def paired_ratio(both: int, lost: int, gained: int, samples: int, level: float = LEVEL) -> Interval:
    """Score interval of a ratio of paired proportions, second over first (Nam and Blackwelder 2002, Stat. Med. 21:689).

    `both` counts samples right in both, `lost` those right in the first only, `gained` those right in the second only.
    """
    if both + lost == 0:
        raise ValueError("a ratio over a proportion of zero")
    z, point = normal_quantile(level), (both + gained) / (both + lost)
    counts = (both, lost, gained, samples)
    low = 0.0 if point == 0 else _bisect(lambda ratio: ratio_score(*counts, ratio) - z, 1e-9, point)
    high = _bisect(lambda ratio: ratio_score(*counts, ratio) + z, max(point, 1e-9), max(100.0, 100 * point))
    return Interval(point, low, high)


def ratio_score(both: float, lost: float, gained: float, samples: float, ratio: float) -> float:
    """The score statistic for H0 `p2 = ratio * p1`; constrained maximum likelihood estimates in closed form."""
    second, first = (both + gained) / samples, (both + lost) / samples
    p10, p01 = gained / samples, lost / samples
    root = math.sqrt(max((second - ratio**2 * first) ** 2 + 4 * ratio**2 * p10 * p01, 0.0))
    gain = max(-second + ratio**2 * (first + 2 * p10) + root, 0.0) / (2 * ratio * (ratio + 1))
    loss = max(ratio * gain - (ratio - 1) * (both + lost + gained) / samples, 0.0)
    excess, variance = second - ratio * first, ratio * (gain + loss) / samples
    if variance <= 0:
        return 0.0 if abs(excess) < 1e-12 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of a decreasing function between `low` and `high`, to 1e-12; the nearer end when it has none there."""
    if function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def quantile_interval(values: Floats, quantile: float, level: float = LEVEL) -> Interval:
    """Distribution-free interval of a quantile from order statistics (David and Nagaraja 2003, section 7.1).

    Ranks come from the exact binomial distribution. With too few values for an end, that end is infinite.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count, tail = len(ordered), (1 - level) / 2
    cumulative = binomial_cdf(count, quantile)
    below = int(np.searchsorted(cumulative, tail, side="right"))
    above = int(np.searchsorted(cumulative, 1 - tail, side="left")) + 1
    low = float(ordered[below - 1]) if below >= 1 else -math.inf
    high = float(ordered[above - 1]) if above <= count else math.inf
    return Interval(float(np.quantile(ordered, quantile)), low, high)


def binomial_cdf(count: int, share: float) -> Floats:
    """P(X <= k) of a binomial, for k from 0 to `count`."""
    k = np.arange(count + 1)
    logs = np.array([math.lgamma(i + 1) for i in range(count + 1)])
    density = logs[count] - logs - logs[::-1] + k * math.log(share) + (count - k) * math.log1p(-share)
    cumulative: Floats = np.minimum(np.cumsum(np.exp(density)), 1.0)
    return cumulative


def macro_f1(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Unweighted mean over the classes that occur in labels or predictions of 2TP / (2TP + FP + FN)."""
    return f1_of_codes(*class_codes(labels, predictions))


def class_codes(labels: NDArray[Any], predictions: NDArray[Any]) -> tuple[Ints, Ints]:
    """Both as numbers from 0, the same class the same number."""
    _, codes = np.unique(np.concatenate([labels.ravel(), predictions.ravel()]), return_inverse=True)
    return codes[: labels.size], codes[labels.size :]


def f1_of_codes(true: Ints, guessed: Ints) -> float:
    """`macro_f1` of classes that are numbered already: what a resample computes again and again."""
    size = 1 + max(int(true.max()), int(guessed.max()))
    hits = np.bincount(true[true == guessed], minlength=size)
    seen = np.bincount(true, minlength=size) + np.bincount(guessed, minlength=size)
    return float(np.mean(2 * hits[seen > 0] / seen[seen > 0]))
