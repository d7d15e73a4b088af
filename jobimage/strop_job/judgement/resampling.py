"""Intervals by resampling whole units (samples, groups of samples, rounds of calls): for what has no formula.

Every function is seeded: the same samples give the same interval for ever. What is drawn are units that may be taken
as independent of each other; what hangs together inside one is drawn together (Field and Welsh 2007, JRSS B 69:369).
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from strop_job.judgement.statistics import LEVEL, Floats, Interval, Ints
from strop_job.judgement.student import t_quantile

RESAMPLES, MOST_RESAMPLES = 2000, 20_000
"""Bootstrap resamples: the 2.5% quantile of 2,000 has a relative standard error near 14% of its tail probability."""
TAIL_RESAMPLES = 40
"""Resamples wanted beyond each end."""
ELEMENTS = 1 << 21
"""Entries that are drawn at a time: 16 MiB of indices."""

Statistic = Callable[[Ints], Floats]
"""Units drawn, [resamples, units], to one figure a resample."""


def bootstrap(statistic: Statistic, units: int, *, level: float = LEVEL, seed: int) -> Interval:
    """Expanded percentile bootstrap (Hesterberg 2015, The American Statistician 69:371, section 3.3) over `units`.

    `statistic` gets the indices that were drawn; pairing is kept by indexing both sides with them. The plain percentile
    interval is too narrow by sqrt((n-1)/n) and by z instead of t; the expanded one takes quantiles further out, so that
    few units give a wide interval and many the plain one. A single unit bounds nothing: its ends are infinite.
    """
    if units < 1:
        raise ValueError("nothing to resample")
    point = float(statistic(np.arange(units)[None])[0])
    if units == 1:
        return Interval(point, -math.inf, math.inf)
    tail = expanded_tail(level, units)
    wanted = min(MOST_RESAMPLES, max(RESAMPLES, math.ceil(TAIL_RESAMPLES / tail)))
    random, rows = np.random.default_rng(seed), max(1, ELEMENTS // units)
    parts = [statistic(random.integers(0, units, (min(rows, wanted - done), units))) for done in range(0, wanted, rows)]
    low, high = np.quantile(np.concatenate(parts), [tail, 1 - tail], method="inverted_cdf")
    return Interval(point, float(low), float(high))


def studentized_mean(sums: Floats, sizes: Floats, *, level: float, seed: int) -> Interval:
    """Bootstrap-t (Efron and Tibshirani 1993, chapter 12) of sum(sums) / sum(sizes) over units, its error linearised.

    Where a few units lose much and most nothing, the estimate and its spread rise together, and percentiles of the
    estimate alone end too early on the side of the loss.
    """
    units = len(sums)

    def scaled(totals: Floats, weights: Floats, centre: float) -> tuple[Floats, Floats]:
        whole = weights.sum(axis=-1)
        mean = totals.sum(axis=-1) / whole
        off = totals - mean[..., None] * weights
        return mean - centre, np.sqrt((off**2).sum(axis=-1) * units / (units - 1)) / whole

    (point,), (error,) = scaled(sums[None], sizes[None], 0.0)
    random, found = np.random.default_rng(seed), []
    step = max(1, ELEMENTS // units)
    for done in range(0, RESAMPLES, step):
        drawn = random.integers(0, units, (min(step, RESAMPLES - done), units))
        gap, spread = scaled(sums[drawn], sizes[drawn], float(point))
        found.append(gap / np.maximum(spread, 1e-9 * max(float(error), 1e-300)))
    low, high = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(point), float(point - high * error), float(point - low * error))


def expanded_tail(level: float, units: int) -> float:
    """The share of resamples beyond each end of the two-sided interval at `level`."""
    reach = t_quantile(0.5 + level / 2, units - 1) * math.sqrt(units / (units - 1))
    return max(NormalDist().cdf(-reach), 1e-9)


def median_ratio(
    baseline: Floats, candidate: Floats, blocks: tuple[Ints, Ints], *, level: float = LEVEL, seed: int
) -> Interval:
    """Block bootstrap of median(baseline) / median(candidate), above 1 when the candidate is faster.

    `blocks` gives each call's round. Calls within a block are correlated (clock, caches, neighbours), rounds are nearly
    independent, so whole rounds are drawn (Kunsch 1989, non-overlapping blocks), the same rounds on both sides: drift
    of the machine cancels. Rounds that one side lacks are left out.
    """
    rounds = np.intersect1d(blocks[0], blocks[1])
    if len(rounds) == 0:
        raise ValueError("the two variants share no round")
    above, below = (_medians(values, ids, rounds) for values, ids in zip((baseline, candidate), blocks, strict=True))
    return bootstrap(lambda drawn: above(drawn) / below(drawn), len(rounds), level=level, seed=seed)


def _medians(values: Floats, ids: Ints, rounds: Ints) -> Statistic:
    """The median of all calls of the rounds drawn: values are sorted once, and counted as often as their round came."""
    kept = np.isin(ids, rounds)
    order = np.argsort(values[kept], kind="stable")
    ordered, owner = values[kept][order], np.searchsorted(rounds, ids[kept][order])

    def medians(drawn: Ints) -> Floats:
        found = np.empty(len(drawn))
        step = max(1, ELEMENTS // len(ordered))
        for start in range(0, len(drawn), step):
            times = times_drawn(drawn[start : start + step], len(rounds))
            reached = np.cumsum(times[:, owner], axis=1, dtype=np.int32)
            total = reached[:, -1:]
            low, high = (np.argmax(reached > place, axis=1) for place in ((total - 1) // 2, total // 2))
            found[start : start + step] = (ordered[low] + ordered[high]) / 2
        return found

    return medians


def times_drawn(drawn: Ints, units: int) -> Ints:
    """How often each unit was drawn, [resamples, units]."""
    flat = drawn + np.arange(len(drawn))[:, None] * units
    return np.bincount(flat.ravel(), minlength=len(drawn) * units).reshape(len(drawn), units)
