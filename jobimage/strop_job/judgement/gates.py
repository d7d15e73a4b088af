"""The judgement: every gate of a spec held against what was measured. Pure: nothing is measured or published here.

One small function per gate, in the order of GATES; each yields its verdicts, or nothing when the spec does not ask.
A gate whose figure is missing is NotMeasured, and NotMeasured never passes. All must pass, so no correction for the
number of gates is needed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from strop_api.base import percent, quantity
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome
from strop_api.status import GateStatus, GateVerdict, Latency, MetricFigures, Speedup, Throughput
from strop_api.targets import Gates, LatencyGate, MetricDropGate, SpeedupOver, Target
from strop_job.benchmark.variants import LEAST_CALLS_FOR_P99, Variant
from strop_job.judgement.capacity import peak_memory, throughput, throughput_figures
from strop_job.judgement.case import Case, asked_precision
from strop_job.judgement.evidence import Evidence, gather
from strop_job.judgement.figures import bytes_text, microseconds_text
from strop_job.judgement.headline import (
    baseline,
    compare,
    latency_figures,
    metric_figures,
    sparsity_notes,
    speed_notes,
    speedup_figures,
)
from strop_job.judgement.losses import loss_points, loss_relative
from strop_job.judgement.statistics import LEVEL, quantile_interval
from strop_job.judgement.truth import compile_parity, fidelity, realised_precision
from strop_job.judgement.verdicts import (
    at_least,
    at_most,
    level_for,
    loss_words,
    not_a_number,
    speed_words,
    unmeasured,
    verdict,
)
from strop_job.stages import Artifact

DEFAULT_DROP = MetricDropGate(max_points="1.0")
"""Applies when a spec names no gate at all."""


@dataclass(frozen=True)
class Judgement:
    """Every gate's verdict and the headline figures. A figure that was not measured is None."""

    gates: list[GateStatus]
    passed: bool
    metric: MetricFigures | None
    latency: Latency | None
    speedup: Speedup | None
    throughput: Throughput | None = None
    peak_memory_bytes: int | None = None
    """Where the engine lives: resident on a processor, else on the device."""
    notes: tuple[str, ...] = ()
    """What a reader must be told though no gate asked, such as "not faster"."""

    @property
    def outcome(self) -> Outcome:
        """Published when every gate passed, GateMissed, or NotMeasured when none was missed but a figure lacks."""
        if self.passed:
            return Outcome.PUBLISHED
        missed = any(gate.verdict is GateVerdict.MISSED for gate in self.gates)
        return Outcome.GATE_MISSED if missed else Outcome.NOT_MEASURED

    @property
    def message(self) -> str:
        """The first things to say: each gate that was missed, else each without a figure, or that all passed."""
        if self.passed:
            return f"all {len(self.gates)} gates passed"
        missed = [gate.message for gate in self.gates if gate.verdict is GateVerdict.MISSED]
        return "; ".join(missed or [gate.message for gate in self.gates if gate.verdict is not GateVerdict.PASSED])


def judge(
    spec: ModelOptimizationSpec,
    target: Target,
    verify: Artifact | None,
    benchmark: Artifact | None,
    engine_size_bytes: int | None,
) -> Judgement:
    """Reads the raw samples back and judges them; running it again costs no measurement."""
    return judge_evidence(spec, target, gather(verify, benchmark, engine_size_bytes))


def judge_evidence(spec: ModelOptimizationSpec, target: Target, seen: Evidence) -> Judgement:
    """Every gate in the order of GATES, and the headline figures. Raises InvalidInput for a senseless confidence."""
    gates = Gates(metric_drop=DEFAULT_DROP) if spec.gates == Gates() else spec.gates
    case = Case(gates, target, seen, spec.seed, asked_precision(spec))
    verdicts = [status for gate in GATES for status in gate(case)]
    over = gates.speedup.over if gates.speedup else SpeedupOver.BEST_UNQUANTIZED
    comparison = compare(seen.latencies, over, LEVEL, spec.seed)
    return Judgement(
        gates=verdicts,
        passed=all(status.verdict is GateVerdict.PASSED for status in verdicts),
        metric=metric_figures(seen.metric, spec.seed),
        latency=latency_figures(seen.latencies.get(Variant.OPTIMIZED)),
        speedup=speedup_figures(comparison, over),
        throughput=throughput_figures(seen.capacity),
        peak_memory_bytes=seen.capacity.held_bytes(on_device=target.accelerator is not None) if seen.capacity else None,
        notes=(
            *speed_notes(
                seen.latencies,
                case.asked,
                spec.seed,
                said=baseline(seen.latencies, over) if _speed_is_said(verdicts) else None,
            ),
            *sparsity_notes(seen.latencies, spec.seed),
        ),
    )


def _speed_is_said(verdicts: list[GateStatus]) -> bool:
    """A speed gate that did not pass has said all there is to say."""
    return any(status.gate == "speedup" and status.verdict is not GateVerdict.PASSED for status in verdicts)


# --- the gates ------------------------------------------------------------------------------------------------------


def metric_drop(case: Case) -> Iterator[GateStatus]:
    """The loss of the metric against the original: point estimate, or one-sided non-inferiority with a confidence."""
    gate, metric = case.gates.metric_drop, case.seen.metric
    if gate is None:
        return
    if metric is None:
        yield unmeasured("metricDrop", "the metric was not measured")
        return
    relative = gate.max_relative is not None
    bound = percent(gate.max_relative) if gate.max_relative is not None else float(gate.max_points or 0)
    if not math.isfinite(metric.optimized) or not math.isfinite(metric.original):
        yield not_a_number("metricDrop", metric, bound)
        return
    if relative and metric.original == 0:
        yield unmeasured("metricDrop", f"the original's {metric.name} is 0, so no relative loss exists; use maxPoints")
        return
    level = level_for(gate.confidence, "metricDrop")
    interval = (loss_relative if relative else loss_points)(metric, level, case.seed)
    loss = metric.loss / abs(metric.original) if relative else metric.loss * 100
    if gate.confidence is not None and interval is None:
        yield unmeasured("metricDrop", f"no raw samples of {metric.name} were kept, so no confidence can be given")
        return
    decider = interval.high if gate.confidence is not None and interval is not None else loss
    words = loss_words(metric, gate, loss, interval, bound, level)
    yield verdict("metricDrop", at_most(decider, bound), loss, bound, words, interval)


def metric_min(case: Case) -> Iterator[GateStatus]:
    """An absolute bound on the metric: the least, or the largest where smaller is better."""
    gate, metric = case.gates.metric_min, case.seen.metric
    if gate is None:
        return
    bound = float(gate.min)
    if metric is None:
        yield unmeasured("metricMin", "the metric was not measured")
        return
    if not math.isfinite(metric.optimized):
        yield not_a_number("metricMin", metric, bound)
        return
    passed = (at_least if metric.higher_is_better else at_most)(metric.optimized, bound)
    side = ("reaches" if passed else "is below") if metric.higher_is_better else ("is within" if passed else "is above")
    yield verdict(
        "metricMin", passed, metric.optimized, bound, f"{metric.name} {metric.optimized:.4g} {side} {bound:g}"
    )


def speedup(case: Case) -> Iterator[GateStatus]:
    """Ratio of median latencies over the baseline: point estimate, or the lower bound with a confidence."""
    gate = case.gates.speedup
    if gate is None:
        return
    level = level_for(gate.confidence, "speedup")
    comparison = compare(case.seen.latencies, gate.over, level, case.seed)
    if isinstance(comparison, str):
        yield unmeasured("speedup", comparison)
        return
    bound = float(gate.min)
    decider = comparison.low if gate.confidence is not None else comparison.point
    words = speed_words(gate, comparison, bound, level)
    yield verdict("speedup", at_least(decider, bound), comparison.point, bound, words, comparison)


def latency(case: Case) -> Iterator[GateStatus]:
    """Absolute bounds on the median and on the 99th percentile."""
    gate, measured = case.gates.latency, case.seen.latencies.get(Variant.OPTIMIZED)
    if gate is None:
        return
    for name, words, share, bound in _latency_bounds(gate):
        if measured is None:
            yield unmeasured(name, "latency was not measured")
        elif share > 0.5 and len(measured.microseconds) < LEAST_CALLS_FOR_P99:
            calls = len(measured.microseconds)
            yield unmeasured(name, f"{calls} calls were timed and a p99 needs {LEAST_CALLS_FOR_P99}")
        else:
            interval = quantile_interval(measured.microseconds, share, LEVEL)
            passed = interval.point <= bound
            side = "is within" if passed else "is above"
            message = f"{words} {microseconds_text(interval.point)} {side} {microseconds_text(bound)}"
            yield verdict(name, passed, interval.point, bound, message, interval)


def size(case: Case) -> Iterator[GateStatus]:
    """Bound on the engine's bytes."""
    gate, measured = case.gates.size, case.seen.engine_size_bytes
    if gate is None:
        return
    if measured is None:
        yield unmeasured("size", "there is no engine to weigh")
        return
    bound = quantity(gate.max)
    side = "is within" if measured <= bound else "is above"
    message = f"the engine's {bytes_text(measured)} {side} {bytes_text(bound)}"
    yield verdict("size", measured <= bound, measured, bound, message)


Gate = Callable[[Case], Iterator[GateStatus]]
GATES: tuple[Gate, ...] = (
    compile_parity,
    metric_drop,
    metric_min,
    speedup,
    latency,
    throughput,
    size,
    peak_memory,
    fidelity,
    realised_precision,
)
"""The whole judgement, in the order of the report."""


def _latency_bounds(gate: LatencyGate) -> Iterator[tuple[str, str, float, int]]:
    if gate.p50_max_microseconds is not None:
        yield "latency.p50MaxMicroseconds", "median latency", 0.5, gate.p50_max_microseconds
    if gate.p99_max_microseconds is not None:
        yield "latency.p99MaxMicroseconds", "p99 latency", 0.99, gate.p99_max_microseconds
