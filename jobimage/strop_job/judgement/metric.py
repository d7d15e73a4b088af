"""The gates on the task's metric: how much of it was lost, and how good it is."""

import math
from collections.abc import Iterator

from strop_api.base import percent
from strop_api.status import GateStatus
from strop_job.judgement.case import Case
from strop_job.judgement.evidence import MetricEvidence
from strop_job.judgement.losses import figure_interval, loss_points, loss_relative, too_few_groups
from strop_job.judgement.verdicts import (
    at_least,
    at_most,
    level_for,
    loss_words,
    metric_words,
    not_a_number,
    unmeasured,
    verdict,
)


def metric_drop(case: Case) -> Iterator[GateStatus]:
    """The loss of the metric against the original: point estimate, or one-sided non-inferiority with a confidence."""
    gate, metric, name = case.gates.metric_drop, case.seen.metric, "metricDrop"
    if gate is None:
        return
    if metric is None:
        yield unmeasured(name, "the metric was not measured")
        return
    relative = gate.max_relative is not None
    bound = percent(gate.max_relative) if gate.max_relative is not None else float(gate.max_points or 0)
    if not math.isfinite(metric.optimized) or not math.isfinite(metric.original):
        yield not_a_number(name, metric, bound)
        return
    if relative and metric.original == 0:
        yield unmeasured(name, f"the original's {metric.name} is 0, so no relative loss exists; use maxPoints")
        return
    level = level_for(gate.confidence, name)
    interval = (loss_relative if relative else loss_points)(metric, level, case.seed)
    if gate.confidence is not None and (lacking := _no_confidence(metric, measured=interval is not None)):
        yield unmeasured(name, lacking)
        return
    loss = metric.loss / abs(metric.original) if relative else metric.loss * 100
    sure = gate.confidence is None or (interval is not None and at_most(interval.high, bound))
    words = loss_words(metric, gate, loss, interval, bound, level)
    yield verdict(name, at_most(loss, bound), loss, bound, words, interval, sure=sure)


def metric_min(case: Case) -> Iterator[GateStatus]:
    """An absolute bound on the metric, the least, or the largest where smaller is better: point, or one-sided bound."""
    gate, metric, name = case.gates.metric_min, case.seen.metric, "metricMin"
    if gate is None:
        return
    bound = float(gate.min)
    if metric is None:
        yield unmeasured(name, "the metric was not measured")
        return
    if not math.isfinite(metric.optimized):
        yield not_a_number(name, metric, bound)
        return
    interval = figure_interval(metric, level_for(gate.confidence, name), case.seed)
    if gate.confidence is not None and (lacking := _no_confidence(metric, measured=interval is not None)):
        yield unmeasured(name, lacking)
        return
    keeps, worst = (at_least, "low") if metric.higher_is_better else (at_most, "high")
    sure = gate.confidence is None or keeps(getattr(interval, worst), bound)
    words = metric_words(metric, gate, interval, bound)
    yield verdict(name, keeps(metric.optimized, bound), metric.optimized, bound, words, interval, sure=sure)


def _no_confidence(metric: MetricEvidence, *, measured: bool) -> str | None:
    """Why none can be given, in words; None where it can."""
    if not measured:
        return f"no raw samples of {metric.name} were kept, so no confidence can be given"
    return too_few_groups(metric)
