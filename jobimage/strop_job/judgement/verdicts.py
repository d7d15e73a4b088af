"""Verdicts and their words: a figure, the bound it was held against, and one sentence with units."""

import math

from strop_api.base import percent
from strop_api.status import GateStatus, GateVerdict
from strop_api.targets import MetricDropGate, MetricMinGate, SpeedupGate
from strop_job.errors import InvalidInput
from strop_job.judgement.evidence import Evidence, MetricEvidence
from strop_job.judgement.figures import figure, percent_text, points_text
from strop_job.judgement.headline import PHRASES, speed_text
from strop_job.judgement.looks import spent_confidence
from strop_job.judgement.statistics import LEVEL, Interval, one_sided, wilson


def loss_words(
    metric: MetricEvidence, gate: MetricDropGate, loss: float, interval: Interval | None, bound: float, level: float
) -> str:
    """The loss, its interval at `level`, and on which side of the bound it lies."""
    relative = gate.max_relative is not None
    text = percent_text if relative else points_text
    sign = 1 if loss >= 0 else -1
    unit = " of the original's" if relative else " points"
    change = f"{metric.name} is {text(abs(loss))}{unit} {'worse' if loss >= 0 else 'better'}"
    if interval is None or math.isinf(interval.high):  # one group bounds nothing
        return f"{change}, {_side(loss, bound)} {text(bound)}"
    low, high = sorted((sign * interval.low, sign * interval.high))
    shown = f"{change} ({level * 100:.4g}% {text(low)} to {text(high)})"
    if gate.confidence is None:
        return f"{shown}, {_side(loss, bound)} {text(bound)}"
    worst = f"at {gate.confidence} confidence at most {text(interval.high)} worse"
    return f"{shown}; {worst}, {_side(interval.high, bound)} {text(bound)}"


def metric_words(metric: MetricEvidence, gate: MetricMinGate, interval: Interval | None, bound: float) -> str:
    """The metric, what it surely is where a confidence was asked for, and on which side of the bound that lies."""
    higher, shown = metric.higher_is_better, f"{metric.name} {metric.optimized:.4g}"
    if interval is None or gate.confidence is None:
        return f"{shown} {_reaches(metric.optimized, bound, higher=higher)} {bound:g}"
    end, words = (interval.low, "least") if higher else (interval.high, "most")
    reaches = _reaches(end, bound, higher=higher)
    return f"{shown}: at {gate.confidence} confidence at {words} {end:.4g}, which {reaches} {bound:g}"


def _reaches(value: float, bound: float, *, higher: bool) -> str:
    if higher:
        return "reaches" if at_least(value, bound) else "is below"
    return "is within" if at_most(value, bound) else "is above"


def speed_words(gate: SpeedupGate, seen: Interval, bound: float, level: float) -> str:
    """The speed-up, its interval at `level`, and on which side of the bound it lies."""
    shown, over = f"speed-up {speed_text(seen, level)}", PHRASES[gate.over]
    if gate.confidence is None:
        return f"{shown} {'reaches' if at_least(seen.point, bound) else 'is below'} {bound:g}x over {over}"
    reaches = "reaches" if at_least(seen.low, bound) else "is below"
    return f"{shown}: at {gate.confidence} confidence at least {seen.low:.2f}x, which {reaches} {bound:g}x over {over}"


def at_most(value: float, bound: float) -> bool:
    """`value <= bound`, forgiving the last bits: 0.9 - 0.891 is a loss of 0.009, not of 0.009000000000000008."""
    return value <= bound + 1e-9 * max(1.0, abs(bound))


def at_least(value: float, bound: float) -> bool:
    """`value >= bound`, forgiving the last bits."""
    return value >= bound - 1e-9 * max(1.0, abs(bound))


def _side(value: float, bound: float) -> str:
    return "within" if at_most(value, bound) else "beyond"


def fidelity_at_least(seen: Evidence, key: str, name: str, words: str, bound: float, form: str) -> GateStatus:
    """The verdict on one figure of fidelity; NotMeasured when it is absent or not a number."""
    value = seen.fidelity.get(key)
    if value is None or math.isnan(value):
        return unmeasured(name, f"{words} was not measured")
    passed = at_least(value, bound)
    verb = "reaches" if passed else "is below"
    return verdict(name, passed, value, bound, f"{words} {form.format(value)} {verb} {form.format(bound)}")


def agreement_interval(seen: Evidence) -> dict[str, str | None]:
    """The ends of Wilson's interval, as fields of a GateStatus; none without the number of samples."""
    share, metric = seen.fidelity.get("agreement"), seen.metric
    if share is None or metric is None or not 0 <= share <= 1:
        return {}
    interval = wilson(round(share * metric.samples), metric.samples)
    return {"low": figure(interval.low), "high": figure(interval.high)}


def level_for(confidence: str | None, gate: str, look: int = 1, max_looks: int = 1) -> float:
    """The two-sided level of the interval: 95% shown, or the one whose end is the one-sided bound asked for.

    One look of several uses its share of the error alone. Raises InvalidInput for a senseless confidence.
    """
    if confidence is None:
        return LEVEL
    try:
        one_sided(percent(confidence))
        return one_sided(spent_confidence(percent(confidence), look, max_looks))
    except ValueError as error:
        raise InvalidInput(str(error), field=f"spec.gates.{gate}.confidence", mend="95% is usual") from error


def verdict(
    name: str,
    passed: bool,
    measured: float,
    bound: float,
    message: str,
    interval: Interval | None = None,
    *,
    sure: bool = True,
) -> GateStatus:
    """Passed or missed by the point estimate, with its figures in the contract's form.

    `sure` is False where a confidence was asked for and its bound does not keep what the point estimate keeps: then the
    gate is inconclusive and does not pass.
    """
    found = GateVerdict.MISSED if not passed else GateVerdict.PASSED if sure else GateVerdict.INCONCLUSIVE
    message = f"inconclusive: {message}" if found is GateVerdict.INCONCLUSIVE else message
    return GateStatus(
        gate=name,
        verdict=found,
        measured=figure(measured),
        bound=figure(bound),
        low=figure(interval.low) if interval else None,
        high=figure(interval.high) if interval else None,
        message=message[:256],
    )


def unmeasured(name: str, message: str) -> GateStatus:
    """A gate that has nothing to be held against, and why; it never passes."""
    return GateStatus(gate=name, verdict=GateVerdict.NOT_MEASURED, message=message[:256])


def not_a_number(name: str, metric: MetricEvidence, bound: float) -> GateStatus:
    """A broken engine misses; a broken original leaves nothing to compare with."""
    if not math.isfinite(metric.original):
        return unmeasured(name, f"the original's {metric.name} is not a number")
    message = f"the engine's {metric.name} is not a number"
    return GateStatus(gate=name, verdict=GateVerdict.MISSED, bound=figure(bound), message=message)
