"""The gates on latency: against a baseline, and against absolute bounds. Looked at again where they stay open."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from strop_api.status import GateStatus
from strop_api.targets import LatencyGate
from strop_job.benchmark.variants import LEAST_CALLS_FOR_P99, LEAST_ROUNDS, Variant
from strop_job.judgement.case import Case
from strop_job.judgement.evidence import Latencies
from strop_job.judgement.figures import microseconds_text
from strop_job.judgement.headline import compare
from strop_job.judgement.quantiles import Bounded, bounded_quantile
from strop_job.judgement.statistics import LEVEL, quantile_interval
from strop_job.judgement.verdicts import at_least, level_for, speed_words, unmeasured, verdict

P50, P99 = "latency.p50MaxMicroseconds", "latency.p99MaxMicroseconds"
LOOKED_AT_AGAIN = frozenset({"speedup", P50, P99})
"""Gates that more calls may decide."""


def speedup(case: Case) -> Iterator[GateStatus]:
    """Ratio of median latencies over the baseline: point estimate, or the lower bound with a confidence."""
    gate = case.gates.speedup
    if gate is None:
        return
    level = level_for(gate.confidence, "speedup", case.seen.looks, case.max_looks)
    found = compare(case.seen.latencies, gate.over, level, case.seed)
    if isinstance(found, str):
        yield unmeasured("speedup", found)
        return
    bound = float(gate.min)
    sure = gate.confidence is None or at_least(found.low, bound)
    words = speed_words(gate, found, bound, level) + _looks(case, asked=gate.confidence is not None)
    yield verdict("speedup", at_least(found.point, bound), found.point, bound, words, found, sure=sure)


def latency(case: Case) -> Iterator[GateStatus]:
    """Absolute bounds on the median and on the 99th percentile: point estimate, or the upper bound of each."""
    gate, measured = case.gates.latency, case.seen.latencies.get(Variant.OPTIMIZED)
    if gate is None:
        return
    for asked in _asked(gate):
        if measured is None:
            yield unmeasured(asked.name, "latency was not measured")
        elif gate.confidence is None:
            yield _by_point(asked, measured)
        else:
            yield _by_bound(asked, measured, case, gate.confidence)


@dataclass(frozen=True)
class _Asked:
    """One percentile and its bound."""

    name: str
    words: str
    share: float
    bound: int


def _asked(gate: LatencyGate) -> Iterator[_Asked]:
    if gate.p50_max_microseconds is not None:
        yield _Asked(P50, "median latency", 0.5, gate.p50_max_microseconds)
    if gate.p99_max_microseconds is not None:
        yield _Asked(P99, "p99 latency", 0.99, gate.p99_max_microseconds)


def _by_point(asked: _Asked, measured: Latencies) -> GateStatus:
    calls = len(measured.microseconds)
    if asked.name == P99 and calls < LEAST_CALLS_FOR_P99:
        return unmeasured(asked.name, f"{calls} calls were timed and a p99 needs {LEAST_CALLS_FOR_P99}")
    interval = quantile_interval(measured.microseconds, asked.share, LEVEL)
    passed = interval.point <= asked.bound
    message = f"{asked.words} {microseconds_text(interval.point)} {_side(interval.point, asked)}"
    return verdict(asked.name, passed, interval.point, asked.bound, message, interval)


def out_of_reach(case: Case) -> Iterator[str]:
    """Percentiles with a confidence that would have no bound even after every look, were all calls like those so far.

    A bound needs a number of calls (`calls_needed`, times how many weigh as one), and each look has only so many.
    """
    gate, measured = case.gates.latency, case.seen.latencies.get(Variant.OPTIMIZED)
    if gate is None or gate.confidence is None or measured is None:
        return
    for asked in _asked(gate):
        if _few_rounds(measured) is None and _needed(asked, measured, case, gate.confidence) > _most(measured, case):
            yield asked.name


def _needed(asked: _Asked, measured: Latencies, case: Case, confidence: str) -> int:
    level = level_for(confidence, "latency", case.seen.looks, case.max_looks)
    return bounded_quantile(measured, asked.share, level).needed


def _most(measured: Latencies, case: Case) -> int:
    """Calls that all looks would have together."""
    return len(measured.microseconds) * case.max_looks // case.seen.looks


def _few_rounds(measured: Latencies) -> str | None:
    """Why there is no bound, in words; None where there can be one."""
    rounds = len(np.unique(measured.rounds))
    if rounds >= LEAST_ROUNDS:
        return None
    return f"only {rounds} rounds fitted into spec.benchmark.maxSeconds, and {LEAST_ROUNDS} are needed"


def _by_bound(asked: _Asked, measured: Latencies, case: Case, confidence: str) -> GateStatus:
    if lacking := _few_rounds(measured):
        return unmeasured(asked.name, lacking)
    level = level_for(confidence, "latency", case.seen.looks, case.max_looks)
    found = bounded_quantile(measured, asked.share, level)
    words = _bound_words(asked, found, measured, case) + _looks(case, asked=True)
    point, sure = found.interval.point, found.interval.high <= asked.bound
    return verdict(asked.name, point <= asked.bound, point, asked.bound, words, found.interval, sure=sure)


def _bound_words(asked: _Asked, found: Bounded, measured: Latencies, case: Case) -> str:
    point, high = found.interval.point, found.interval.high
    confidence = case.gates.latency.confidence if case.gates.latency else None
    shown = f"{asked.words} {microseconds_text(point)}"
    if math.isinf(high):
        calls, most = len(measured.microseconds), _most(measured, case)
        hopeless = case.max_looks > 1 and found.needed > most
        there = f"and all {case.max_looks} looks have {most:,}" if hopeless else f"not {calls:,}"
        needs = f"a bound at {confidence} confidence needs about {found.needed:,} calls like these, {there}"
        return f"{shown} {_side(point, asked)}; {needs}"
    return f"{shown}: at {confidence} confidence at most {microseconds_text(high)}, which {_side(high, asked)}"


def _side(value: float, asked: _Asked) -> str:
    return f"{'is within' if value <= asked.bound else 'is above'} {microseconds_text(asked.bound)}"


def _looks(case: Case, *, asked: bool) -> str:
    """How often latency was looked at, where that decides how sure one must be."""
    if not asked or case.max_looks == 1:
        return ""
    return f"; look {case.seen.looks} of at most {case.max_looks}"
