"""Bounds on a percentile of latency, from order statistics, for calls that hang together within a round."""

import math
from dataclasses import dataclass

import numpy as np

from strop_job.judgement.evidence import Latencies
from strop_job.judgement.statistics import Interval, binomial_cdf, normal_quantile
from strop_job.judgement.student import t_quantile


@dataclass(frozen=True)
class Bounded:
    """A percentile with its two-sided interval; the upper end is infinite when there were too few calls for one."""

    interval: Interval
    needed: int
    """Calls, as correlated as these, from which on there is an upper end."""


def calls_needed(share: float, level: float) -> int:
    """Independent calls from which on the largest bounds the quantile `share` from above at a two-sided `level`."""
    return math.ceil(math.log((1 - level) / 2) / math.log(share))


def bounded_quantile(found: Latencies, share: float, level: float) -> Bounded:
    """The quantile `share` and its interval from order statistics (David and Nagaraja 2003, section 7.1).

    Calls of one round share the machine's mood, so n of them tell less than n independent ones: ranks are those of the
    effective number of calls, n over the design effect of exceeding the quantile, round by round, further reduced
    because that effect is itself estimated from so many rounds (Korn and Graubard 1998, Survey Methodology 24:193).
    Needs calls of two rounds at least.
    """
    ordered = np.sort(found.microseconds)
    point, count = float(np.quantile(ordered, share)), len(ordered)
    weight = _calls_that_weigh_one(found, point, level)
    needed = math.ceil(calls_needed(share, level) * weight)
    effective, tail = max(1, int(count / weight)), (1 - level) / 2
    cumulative = binomial_cdf(effective, share)
    below = int(np.searchsorted(cumulative, tail, side="right"))
    above = int(np.searchsorted(cumulative, 1 - tail, side="left")) + 1
    low = float(ordered[math.floor(below * count / effective) - 1]) if below >= 1 else -math.inf
    high = float(ordered[min(count, math.ceil(above * count / effective)) - 1]) if above <= effective else math.inf
    return Bounded(Interval(point, low, high), needed)


def _calls_that_weigh_one(found: Latencies, point: float, level: float) -> float:
    """Calls over effective calls, at least 1."""
    _, codes = np.unique(found.rounds, return_inverse=True)
    sizes = np.bincount(codes)
    rounds, calls = len(sizes), int(sizes.sum())
    beyond = np.bincount(codes, weights=found.microseconds > point)
    share = beyond.sum() / calls
    if not 0 < share < 1:
        return 1.0
    spread = rounds / (rounds - 1) * float(np.sum((beyond - share * sizes) ** 2)) / calls**2
    effect = max(1.0, spread / (share * (1 - share) / calls))
    widened = t_quantile(0.5 + level / 2, rounds - 1) / normal_quantile(level)
    return float(effect * widened**2)
