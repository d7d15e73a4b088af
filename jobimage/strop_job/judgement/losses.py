"""How much of the metric was lost, with its interval: the method follows from what the metric is made of.

Samples of one group (a document, a speaker) hang together: then whole groups are resampled, the same on both sides, and
the metric is computed anew from all samples drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_job.judgement.evidence import MetricEvidence
from strop_job.judgement.resampling import Statistic, bootstrap, studentized_mean, times_drawn
from strop_job.judgement.statistics import (
    Floats,
    Interval,
    Ints,
    class_codes,
    f1_of_codes,
    paired_difference,
    paired_ratio,
    wilson,
)

POINTS = 100.0
"""Points per unit of a metric."""
FEW_GROUPS, LEAST_GROUPS = 20, 8
"""Below the first the report says that the interval is wide for it; below the second no confidence is given."""
RARE_UNITS = 20
"""With fewer units that differ a bootstrap has hardly seen what it resamples, and none at all would be certainty."""
RARE_CORRELATION = 0.2
"""Correlation inside a group that is assumed where too few differ to see it."""

Bools = NDArray[np.bool_]


def loss_points(metric: MetricEvidence, level: float, seed: int) -> Interval | None:
    """The loss in points (100 times the metric's unit); None when no raw samples were kept.

    0/1 figures (accuracy, recall at 1) without groups: Tango's score interval for paired proportions. Everything else:
    paired bootstrap over samples or groups, never narrower than what so few differences allow, nor, for a mean over
    groups, than its studentized form, which follows skewed losses.
    """
    if (counts := paired_counts(metric)) is not None and metric.groups is None:
        _, lost, gained, samples = counts
        return _times(paired_difference(lost, gained, samples, level), POINTS)
    found = _resampled(metric, level, seed, lambda original, optimized: original - optimized)
    if found is None:
        return None
    skewed = _studentized(metric, level, seed)
    return _times(found if skewed is None else _wider(found, skewed), POINTS)


def loss_relative(metric: MetricEvidence, level: float, seed: int) -> Interval | None:
    """The loss as a share of the original's metric; None when no raw samples were kept or the original's is zero."""
    if metric.original == 0:
        return None
    counts = paired_counts(metric)
    if counts is not None and metric.groups is None and metric.higher_is_better:
        ratio = paired_ratio(*counts, level)
        return Interval(1 - ratio.point, 1 - ratio.high, 1 - ratio.low)
    return _resampled(metric, level, seed, _share_lost, scale=1 / abs(metric.original))


def figure_interval(metric: MetricEvidence, level: float, seed: int) -> Interval | None:
    """The engine's own metric: Wilson's interval for 0/1 figures without groups, else a bootstrap.

    None when no raw samples were kept. A bootstrap of 0/1 figures that are nearly all alike is never narrower than
    Wilson's interval at the effective number of samples.
    """
    right = _right(metric)
    if right is not None and metric.groups is None and metric.per_sample is not None:
        found = wilson(int(right.sum()), len(right), level)
        return found if metric.higher_is_better else Interval(1 - found.point, 1 - found.high, 1 - found.low)
    sides = _sides(metric)
    if sides is None:
        return None
    found = bootstrap(sides.optimized, sides.units, level=level, seed=seed)
    if right is None or min(_touched(metric, right), _touched(metric, ~right)) >= RARE_UNITS:
        return found
    fewer = wilson(right.sum() / (deff := _assumed_effect(metric, sides)), len(right) / deff, level)
    if not metric.higher_is_better:
        fewer = Interval(1 - fewer.point, 1 - fewer.high, 1 - fewer.low)
    return _wider(found, fewer)


def method(metric: MetricEvidence) -> str:
    """How the interval is made, for the report."""
    if metric.per_sample is None and metric.predictions is None:
        return "no raw samples, no interval"
    if metric.groups is not None:
        groups = int(metric.groups.max()) + 1
        few = ", wide because groups are few" if groups < FEW_GROUPS else ""
        return f"paired bootstrap over {groups:,} groups (Field and Welsh 2007){few}"
    if paired_counts(metric) is not None:
        return "score interval for paired proportions (Tango 1998)"
    return "paired bootstrap over samples"


def too_few_groups(metric: MetricEvidence) -> str | None:
    """Why no confidence can be given, in words; None where it can."""
    groups = None if metric.groups is None else int(metric.groups.max()) + 1
    if groups is None or groups >= LEAST_GROUPS:
        return None
    return f"spec.data.evaluation.groups tells {groups} groups apart, and a confidence needs {LEAST_GROUPS}"


def paired_counts(metric: MetricEvidence) -> tuple[int, int, int, int] | None:
    """Samples good in both, lost, gained, and all; None when a figure is neither 0 nor 1."""
    if metric.per_sample is None or not all(np.isin(side, (0.0, 1.0)).all() for side in metric.per_sample):
        return None
    original, optimized = (side == (1.0 if metric.higher_is_better else 0.0) for side in metric.per_sample)
    counts = (original & optimized, original & ~optimized, ~original & optimized)
    both, lost, gained = (int(np.count_nonzero(mask)) for mask in counts)
    return both, lost, gained, len(original)


# --- what is resampled ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sides:
    """The metric of both on any choice of units."""

    original: Statistic
    optimized: Statistic
    units: int
    samples: int


def _resampled(
    metric: MetricEvidence, level: float, seed: int, loss: Callable[[Floats, Floats], Floats], scale: float = 1.0
) -> Interval | None:
    """Paired bootstrap of `loss(original, engine)`; `scale` takes a difference of the metric to a loss."""
    sides = _sides(metric)
    if sides is None:
        return None
    sign = 1.0 if metric.higher_is_better else -1.0
    found = bootstrap(
        lambda drawn: sign * loss(sides.original(drawn), sides.optimized(drawn)), sides.units, level=level, seed=seed
    )
    fewer = _rare_difference(metric, sides, level)
    return found if fewer is None else _wider(found, _times(fewer, scale))


def _studentized(metric: MetricEvidence, level: float, seed: int) -> Interval | None:
    """Of a mean over groups, where enough of them differ: its losses are mostly skewed."""
    if metric.per_sample is None or metric.groups is None:
        return None
    original, optimized = metric.per_sample if metric.higher_is_better else metric.per_sample[::-1]
    lost = original - optimized
    if _touched(metric, lost != 0) < RARE_UNITS:
        return None
    sums, sizes = np.bincount(metric.groups, weights=lost), np.bincount(metric.groups)
    return studentized_mean(sums.astype(np.float64), sizes.astype(np.float64), level=level, seed=seed)


def _share_lost(original: Floats, optimized: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        lost: Floats = (original - optimized) / np.abs(original)
    return np.where(np.isnan(lost), np.inf, lost)


def _sides(metric: MetricEvidence) -> _Sides | None:
    if metric.predictions is not None and metric.name == "f1_macro":
        labels, original, optimized = metric.predictions
        units = len(labels) if metric.groups is None else int(metric.groups.max()) + 1
        first, second = (_macro_f1s(labels, answers, metric.groups) for answers in (original, optimized))
        return _Sides(first, second, units, len(labels))
    if metric.per_sample is None:
        return None
    samples = len(metric.per_sample[0])
    codes = np.arange(samples) if metric.groups is None else metric.groups
    first, second = (_means(side, codes) for side in metric.per_sample)
    return _Sides(first, second, int(codes.max()) + 1, samples)


def _means(figures: Floats, codes: Ints) -> Statistic:
    """The mean over all samples of the units drawn."""
    sums, sizes = np.bincount(codes, weights=figures), np.bincount(codes)

    def means(drawn: Ints) -> Floats:
        found: Floats = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
        return found

    return means


def _macro_f1s(labels: NDArray[Any], answers: NDArray[Any], groups: Ints | None) -> Statistic:
    """Macro F1 over all samples of the units drawn."""
    true, guessed = class_codes(labels, answers)
    if groups is None:
        return lambda drawn: np.array([f1_of_codes(true[row], guessed[row]) for row in drawn])
    units, hit = int(groups.max()) + 1, true == guessed
    shape = (units, 1 + max(int(true.max()), int(guessed.max())))
    hits = _by_group(groups[hit], true[hit], shape)
    seen = _by_group(groups, true, shape) + _by_group(groups, guessed, shape)

    def figures(drawn: Ints) -> Floats:
        times = times_drawn(drawn, units).astype(np.float64)
        both, each = times @ hits, times @ seen
        scores: Floats = np.divide(2 * both, each, out=np.zeros_like(each), where=each > 0)
        return np.asarray(scores.sum(axis=1) / (each > 0).sum(axis=1))

    return figures


def _by_group(groups: Ints, classes: Ints, shape: tuple[int, int]) -> Floats:
    """How often each class occurs in each group, [groups, classes]."""
    counts = np.bincount(groups * shape[1] + classes, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.float64)


# --- few differences ------------------------------------------------------------------------------------------------


def _rare_difference(metric: MetricEvidence, sides: _Sides, level: float) -> Interval | None:
    """The score interval of the difference, where fewer than RARE_UNITS units differ and figures lie between 0 and 1.

    A figure between 0 and 1 loses at most 1, so counting every worse sample as lost is on the safe side. Groups count
    as fewer samples by Kish's design effect, 1 + (samples a group - 1) RARE_CORRELATION.
    """
    changed = _changed(metric)
    if changed is None:
        return None
    worse, better = changed
    if _touched(metric, worse | better) >= RARE_UNITS:
        return None
    effect = _assumed_effect(metric, sides)
    return paired_difference(worse.sum() / effect, better.sum() / effect, sides.samples / effect, level)


def _changed(metric: MetricEvidence) -> tuple[Bools, Bools] | None:
    """Samples that the engine answers worse, and better; None for figures without bounds, whose losses have none."""
    if metric.predictions is not None and metric.per_sample is None:
        labels, original, optimized = metric.predictions
        before, after = original == labels, optimized == labels
        return before & ~after, ~before & after
    if metric.per_sample is None or any((side < 0).any() or (side > 1).any() for side in metric.per_sample):
        return None
    original, optimized = metric.per_sample if metric.higher_is_better else metric.per_sample[::-1]
    return original > optimized, optimized > original


def _right(metric: MetricEvidence) -> Bools | None:
    """Samples that the engine answers rightly; None where answers are better or worse, not right or wrong."""
    if metric.predictions is not None and metric.per_sample is None:
        labels, _, optimized = metric.predictions
        return np.asarray(optimized == labels)
    if metric.per_sample is None or not np.isin(metric.per_sample[1], (0.0, 1.0)).all():
        return None
    return np.asarray(metric.per_sample[1] == (1.0 if metric.higher_is_better else 0.0))


def _touched(metric: MetricEvidence, mask: Bools) -> int:
    """Units with a sample in the mask."""
    return int(mask.sum()) if metric.groups is None else len(np.unique(metric.groups[mask]))


def _assumed_effect(metric: MetricEvidence, sides: _Sides) -> float:
    return assumed_effect(sides.samples, None if metric.groups is None else sides.units)


def assumed_effect(samples: int, groups: int | None) -> float:
    """How many samples weigh as one, where the data cannot tell; 1 without groups."""
    return 1.0 if groups is None else 1 + (samples / groups - 1) * RARE_CORRELATION


def _wider(found: Interval, other: Interval) -> Interval:
    return Interval(found.point, min(found.low, other.low), max(found.high, other.high))


def _times(interval: Interval, factor: float) -> Interval:
    return Interval(interval.point * factor, interval.low * factor, interval.high * factor)
