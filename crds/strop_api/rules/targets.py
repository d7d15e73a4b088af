"""Rules on gates and output."""

from strop_api.model import BOUNDED, ERRORS
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.rule import Rule, quoted, words
from strop_api.steps import Precision, QuantizeMethod
from strop_api.support import QUANTIZATIONS, Quantization
from strop_api.targets import FidelityGate, LatencyGate, MetricDropGate, MetricMinGate, SpeedupGate, SpeedupOver


def _one_bound(gate: MetricDropGate) -> bool:
    return (gate.max_points is None) != (gate.max_relative is None)


def _some_latency(gate: LatencyGate) -> bool:
    return gate.p50_max_microseconds is not None or gate.p99_max_microseconds is not None


def _p50_below_p99(gate: LatencyGate) -> bool:
    if gate.p50_max_microseconds is None or gate.p99_max_microseconds is None:
        return True
    return gate.p50_max_microseconds <= gate.p99_max_microseconds


def _some_fidelity(gate: FidelityGate) -> bool:
    return any(bound is not None for bound in (gate.cosine_min, gate.agreement_min, gate.sqnr_min_decibels))


def _cosine(gate: FidelityGate) -> bool:
    return gate.cosine_min is None or float(gate.cosine_min) <= 1


def _confidence(gate: MetricDropGate | MetricMinGate | SpeedupGate | LatencyGate) -> bool:
    return gate.confidence is None or 50 < float(gate.confidence.removesuffix("%")) < 100


def _some_speedup(gate: SpeedupGate) -> bool:
    return float(gate.min) > 0


def _confidence_rule(place: str) -> Rule:
    return Rule(
        "confidence-in-range",
        place,
        "!has(self.confidence) || (double(self.confidence.replace('%', '')) > 50.0"
        " && double(self.confidence.replace('%', '')) < 100.0)",
        _confidence,
        "confidence must lie between 50% and 100%, both excluded; 95% is usual",
        ".confidence",
    )


GATES = (
    Rule(
        "one-bound-of-metric-drop",
        "spec.gates.metricDrop",
        "has(self.maxPoints) != has(self.maxRelative)",
        _one_bound,
        "set exactly one of maxPoints and maxRelative",
    ),
    _confidence_rule("spec.gates.metricDrop"),
    _confidence_rule("spec.gates.metricMin"),
    _confidence_rule("spec.gates.speedup"),
    _confidence_rule("spec.gates.latency"),
    Rule(
        "speedup-above-zero",
        "spec.gates.speedup",
        "double(self.min) > 0.0",
        _some_speedup,
        "min must be above zero; 1.0 means as fast as the baseline",
        ".min",
    ),
    Rule(
        "some-bound-of-latency",
        "spec.gates.latency",
        "has(self.p50MaxMicroseconds) || has(self.p99MaxMicroseconds)",
        _some_latency,
        "set p50MaxMicroseconds, p99MaxMicroseconds or both",
    ),
    Rule(
        "median-below-p99",
        "spec.gates.latency",
        "!has(self.p50MaxMicroseconds) || !has(self.p99MaxMicroseconds)"
        " || self.p50MaxMicroseconds <= self.p99MaxMicroseconds",
        _p50_below_p99,
        "p99MaxMicroseconds must not be smaller than p50MaxMicroseconds",
        ".p99MaxMicroseconds",
    ),
    Rule(
        "some-bound-of-fidelity",
        "spec.gates.fidelity",
        "has(self.cosineMin) || has(self.agreementMin) || has(self.sqnrMinDecibels)",
        _some_fidelity,
        "set at least one of cosineMin, agreementMin and sqnrMinDecibels",
    ),
    Rule(
        "cosine-up-to-one",
        "spec.gates.fidelity",
        "!has(self.cosineMin) || double(self.cosineMin) <= 1.0",
        _cosine,
        "a cosine is at most 1",
        ".cosineMin",
    ),
)

HALVED = tuple(
    runtime for runtime, pairs in QUANTIZATIONS.items() if Quantization(Precision.FP16, QuantizeMethod.CAST) in pairs
)
"""Runtimes that can be compared with their own FP16."""


def _over_fp16(spec: ModelOptimizationSpec) -> bool:
    speedup = spec.gates.speedup
    if speedup is None or speedup.over is not SpeedupOver.FP16:
        return True
    return all(target.runtime in HALVED for target in spec.targets)


def _enough_calls(spec: ModelOptimizationSpec) -> bool:
    latency = spec.gates.latency
    return latency is None or latency.p99_max_microseconds is None or spec.benchmark.calls >= 300


def _something_to_realise(spec: ModelOptimizationSpec) -> bool:
    return spec.gates.realised_precision is None or any(step.quantize is not None for step in spec.steps)


def _something_to_audit(spec: ModelOptimizationSpec) -> bool:
    if spec.gates.calibration is None:
        return True
    static = any(step.quantize is not None and step.quantize.method is QuantizeMethod.STATIC for step in spec.steps)
    return static and spec.data.calibration is not None


def _reachable_minimum(spec: ModelOptimizationSpec) -> bool:
    gate = spec.gates.metric_min
    if gate is None:
        return True
    bound = float(gate.min)
    if spec.task.metric in BOUNDED:
        return 0 < bound <= 1
    return bound > 0 or spec.task.metric not in ERRORS


TOGETHER = (
    Rule(
        "metric-min-in-range",
        "spec",
        "!has(self.gates) || !has(self.gates.metricMin)"
        f" || (!(self.task.metric in {quoted(sorted(BOUNDED))}) || double(self.gates.metricMin.min) <= 1.0)"
        f" && (self.task.metric == 'custom' || double(self.gates.metricMin.min) > 0.0)",
        _reachable_minimum,
        f"min is in the metric's own unit: above 0, and at most 1 for {words(sorted(BOUNDED))} (0.9, not 90)",
        ".gates.metricMin.min",
    ),
    Rule(
        "fp16-exists-on-the-runtime",
        "spec",
        "!has(self.gates) || !has(self.gates.speedup) || self.gates.speedup.over != 'FP16' || "
        f"self.targets.all(t, t.runtime in {quoted(HALVED)})",
        _over_fp16,
        f"over FP16 needs a runtime that takes fp16: {words(HALVED)}; compare over Original or BestUnquantized",
        ".gates.speedup.over",
    ),
    Rule(
        "calls-for-p99",
        "spec",
        "!has(self.gates) || !has(self.gates.latency) || !has(self.gates.latency.p99MaxMicroseconds)"
        " || self.benchmark.calls >= 300",
        _enough_calls,
        "a gate on p99 needs at least 300 calls",
        ".benchmark.calls",
    ),
    Rule(
        "precision-to-realise",
        "spec",
        "!has(self.gates) || !has(self.gates.realisedPrecision)"
        " || (has(self.steps) && self.steps.exists(s, has(s.quantize)))",
        _something_to_realise,
        "realisedPrecision needs a Quantize step",
        ".gates.realisedPrecision",
    ),
    Rule(
        "calibration-to-audit",
        "spec",
        "!has(self.gates) || !has(self.gates.calibration) || (has(self.data.calibration) && has(self.steps)"
        " && self.steps.exists(s, has(s.quantize) && s.quantize.method == 'Static'))",
        _something_to_audit,
        "nothing is calibrated that could be held against it: it needs a Quantize step of method Static",
        ".gates.calibration",
    ),
    Rule(
        "output-is-a-folder",
        "spec.output",
        "!self.uri.startsWith('oci://')",
        lambda output: not output.uri.startswith("oci://"),
        "an output is a folder of an object store: name it by s3://",
        ".uri",
    ),
)
