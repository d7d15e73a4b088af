"""How much of the metric was lost, with its interval: the method follows from what the metric is made of."""

from collections.abc import Callable

import numpy as np

from strop_job.judgement.evidence import MetricEvidence
from strop_job.judgement.statistics import (
    Floats,
    Interval,
    Ints,
    bootstrap,
    macro_f1,
    paired_difference,
    paired_ratio,
)

POINTS = 100.0
"""Points per unit of a metric."""


def loss_points(metric: MetricEvidence, level: float, seed: int) -> Interval | None:
    """The loss in points (100 times the metric's unit); None when no raw samples were kept.

    0/1 figures (accuracy, recall at 1): Tango's score interval for paired proportions. Other means, and metrics that
    are recomputed: paired bootstrap.
    """
    if (counts := _paired_counts(metric)) is not None:
        _, lost, gained, samples = counts
        return _times(paired_difference(lost, gained, samples, level), POINTS)
    return _resampled(metric, level, seed, lambda original, optimized: POINTS * (original - optimized))


def loss_relative(metric: MetricEvidence, level: float, seed: int) -> Interval | None:
    """The loss as a share of the original's metric; None when no raw samples were kept or the original's is zero."""
    if metric.original == 0:
        return None
    if (counts := _paired_counts(metric)) is not None and metric.higher_is_better:
        ratio = paired_ratio(*counts, level)
        return Interval(1 - ratio.point, 1 - ratio.high, 1 - ratio.low)
    return _resampled(metric, level, seed, lambda original, optimized: (original - optimized) / abs(original))


def method(metric: MetricEvidence) -> str:
    """How the interval is made, for the report."""
    if _paired_counts(metric) is not None:
        return "score interval for paired proportions (Tango 1998)"
    if metric.per_sample is None and metric.predictions is None:
        return "no raw samples, no interval"
    return "paired bootstrap over samples"


def _paired_counts(metric: MetricEvidence) -> tuple[int, int, int, int] | None:
    """Samples good in both, lost, gained, and all; None when a figure is neither 0 nor 1."""
    if metric.per_sample is None or not all(np.isin(side, (0.0, 1.0)).all() for side in metric.per_sample):
        return None
    original, optimized = (side == (1.0 if metric.higher_is_better else 0.0) for side in metric.per_sample)
    counts = (original & optimized, original & ~optimized, ~original & optimized)
    both, lost, gained = (int(np.count_nonzero(mask)) for mask in counts)
    return both, lost, gained, len(original)


def _resampled(
    metric: MetricEvidence, level: float, seed: int, loss: Callable[[float, float], float]
) -> Interval | None:
    """Paired bootstrap of `loss(metric of the original, metric of the engine)`."""
    sides = _statistics(metric)
    if sides is None:
        return None
    first, second, count = sides
    sign = 1.0 if metric.higher_is_better else -1.0
    return bootstrap(lambda drawn: sign * loss(first(drawn), second(drawn)), count, level=level, seed=seed)


Recompute = Callable[[Ints], float]


def _statistics(metric: MetricEvidence) -> tuple[Recompute, Recompute, int] | None:
    if metric.predictions is not None and metric.name == "f1_macro":
        labels, original, optimized = metric.predictions
        return (
            lambda drawn: macro_f1(labels[drawn], original[drawn]),
            lambda drawn: macro_f1(labels[drawn], optimized[drawn]),
            len(labels),
        )
    if metric.per_sample is None:
        return None
    means: tuple[Floats, Floats] = metric.per_sample
    return (
        lambda drawn: float(means[0][drawn].mean()),
        lambda drawn: float(means[1][drawn].mean()),
        len(means[0]),
    )


def _times(interval: Interval, factor: float) -> Interval:
    return Interval(interval.point * factor, interval.low * factor, interval.high * factor)
