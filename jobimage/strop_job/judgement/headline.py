"""The headline figures of a run, as the contract carries them, and what must be said of them unasked."""

from collections.abc import Iterator, Mapping

from strop_api.checks.evidence import NOT_FASTER, SPARSE_WEIGHTS, SPEED_NOT_STATED
from strop_api.findings import Finding, Severity
from strop_api.status import Latency, MetricFigures, Speedup
from strop_api.steps import Precision
from strop_api.targets import SpeedupOver
from strop_job.benchmark.variants import LEAST_CALLS_FOR_P99, LEAST_ROUNDS, UNQUANTIZED, Variant
from strop_job.judgement.evidence import Latencies, MetricEvidence
from strop_job.judgement.figures import figure, points_text, ratio_text
from strop_job.judgement.losses import loss_points
from strop_job.judgement.resampling import median_ratio
from strop_job.judgement.statistics import LEVEL, Interval

PHRASES = {
    SpeedupOver.ORIGINAL: "the original",
    SpeedupOver.BEST_UNQUANTIZED: "the best unquantized variant",
    SpeedupOver.FP16: "FP16",
}
"""What each baseline is called in a sentence."""

NAMES = {Variant.ORIGINAL: "the original", Variant.FP16: "FP16", Variant.BF16: "BF16"}
"""What each unquantized variant is called in a sentence."""

BASELINES = {
    SpeedupOver.ORIGINAL: (Variant.ORIGINAL,),
    SpeedupOver.FP16: (Variant.FP16,),
    SpeedupOver.BEST_UNQUANTIZED: UNQUANTIZED,
}
"""The variants each baseline may be; the fastest that was measured counts."""


def baseline(measured: Mapping[str, Latencies], over: SpeedupOver) -> Variant | None:
    """The fastest measured variant that `over` may mean."""
    found = [name for name in BASELINES[over] if name in measured]
    return min(found, key=lambda name: measured[name].median, default=None)


def compare(measured: Mapping[str, Latencies], over: SpeedupOver, level: float, seed: int) -> Interval | str:
    """Baseline over engine, ratio of medians with its interval; or, in words, why there is none."""
    candidate, base = measured.get(Variant.OPTIMIZED), baseline(measured, over)
    if candidate is None or base is None:
        return f"latency of {PHRASES[over] if candidate is not None else 'the engine'} was not measured"
    return _ratio(candidate, measured[base], level, seed)


def _ratio(candidate: Latencies, base: Latencies, level: float, seed: int) -> Interval | str:
    rounds = len(set(candidate.rounds.tolist()) & set(base.rounds.tolist()))
    if rounds < LEAST_ROUNDS:
        return f"only {rounds} rounds fitted into spec.benchmark.maxSeconds, and {LEAST_ROUNDS} are needed"
    blocks = (base.rounds, candidate.rounds)
    return median_ratio(base.microseconds, candidate.microseconds, blocks, level=level, seed=seed)


def metric_figures(metric: MetricEvidence | None, seed: int) -> MetricFigures | None:
    """Before, after, and the loss in points with its 95% interval; None when a figure is missing or not a number."""
    if metric is None:
        return None
    original, optimized, drop = figure(metric.original), figure(metric.optimized), figure(metric.loss * 100)
    if original is None or optimized is None or drop is None:
        return None
    interval = loss_points(metric, LEVEL, seed)
    return MetricFigures(
        name=metric.name,
        original=original,
        optimized=optimized,
        drop_points=drop,
        low=figure(interval.low) if interval else None,
        high=figure(interval.high) if interval else None,
        samples=metric.samples,
    )


def latency_figures(measured: Latencies | None) -> Latency | None:
    """Median and, from 300 calls on, the 99th percentile."""
    if measured is None:
        return None
    calls = len(measured.microseconds)
    return Latency(
        p50_microseconds=round(measured.median),
        p99_microseconds=round(measured.quantile(0.99)) if calls >= LEAST_CALLS_FOR_P99 else None,
        calls=calls,
    )


def speedup_figures(comparison: Interval | str, over: SpeedupOver) -> Speedup | None:
    """The 95% comparison as the contract carries it."""
    if isinstance(comparison, str):
        return None
    point, low, high = figure(comparison.point), figure(comparison.low), figure(comparison.high)
    if point is None or low is None or high is None:
        return None
    return Speedup(ratio=point, low=low, high=high, over=over.value)


def speed_findings(
    measured: Mapping[str, Latencies], asked: Precision | None, seed: int, *, said: Variant | None = None
) -> Iterator[Finding]:
    """Says of every unquantized variant that the engine is slower or not faster, whether a gate asks or not.

    `asked` is the engine's precision, by which it is called. `said` is a variant of which a gate has spoken already.
    """
    candidate, bases = measured.get(Variant.OPTIMIZED), [name for name in UNQUANTIZED if name in measured]
    if candidate is None or not bases:
        missing = "the engine" if candidate is None else "the original"
        yield SPEED_NOT_STATED.finding(f"no speed-up is stated: latency of {missing} was not measured")
        return
    for name in bases:
        if name is said:
            continue
        found = _ratio(candidate, measured[name], LEVEL, seed)
        if isinstance(found, str):
            yield SPEED_NOT_STATED.finding(f"no speed-up over {NAMES[name]} is stated: {found}")
        elif found.low <= 1:
            yield NOT_FASTER.finding(_no_gain(asked, NAMES[name], found))


def sparsity_findings(measured: Mapping[str, Latencies], seed: int) -> Iterator[Finding]:
    """Whether `sparseWeights` helped, where the engine without it was timed too."""
    candidate, dense = measured.get(Variant.OPTIMIZED), measured.get(Variant.DENSE)
    if candidate is None or dense is None:
        return
    found = _ratio(candidate, dense, LEVEL, seed)
    if isinstance(found, str):
        yield SPARSE_WEIGHTS.finding(f"whether sparseWeights helped is not stated: {found}", severity=Severity.LOW)
        return
    words = "helped" if found.low > 1 else "made it slower" if found.high < 1 else "did not help"
    message = f"sparseWeights {words}: {speed_text(found)} against the same engine without it"
    if found.low > 1:
        yield SPARSE_WEIGHTS.finding(message, severity=Severity.LOW, mend="keep it on")
    else:
        yield SPARSE_WEIGHTS.finding(message)


def _no_gain(asked: Precision | None, base: str, found: Interval) -> str:
    name = "the engine" if asked is None or asked.upper() == base else asked.upper()
    if found.high < 1:
        return f"{name} is slower than {base}: {speed_text(found)}"
    return f"{name} is not faster than {base}: {speed_text(found)}, the interval includes 1"


def speed_text(interval: Interval, level: float = LEVEL) -> str:
    """`0.31x (95% 0.30 to 0.33)`."""
    return f"{ratio_text(interval.point)} ({level * 100:.4g}% {interval.low:.2f} to {interval.high:.2f})"


def loss_text(metric: MetricFigures) -> str:
    """`0.78 points worse, 95% -0.42 to 2.06; 900 samples`."""
    drop = float(metric.drop_points)
    sign = 1 if drop >= 0 else -1
    ends = [sign * float(end) for end in (metric.low, metric.high) if end is not None]
    interval = f", {LEVEL * 100:g}% {points_text(min(ends))} to {points_text(max(ends))}" if ends else ""
    side = "worse" if drop > 0 else "better" if drop < 0 else "lost"
    return f"{points_text(abs(drop))} points {side}{interval}; {metric.samples:,} samples"
