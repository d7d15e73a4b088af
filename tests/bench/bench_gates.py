"""How often gates with a confidence pass what is bad, and fail what is good, on synthetic runs whose truth is known.

    python tests/bench/bench_gates.py              # 5,000 runs of each kind, some minutes on two cores
    python tests/bench/bench_gates.py --runs 500

`error` is the share of runs that pass a model just at the margin: the baseline is what a confidence of 95% allows.
`power` is the share that pass a model which lost nothing: the baseline is what the stage `audit-gates` said before.
`clusters` hang together within groups; there the baseline is what an interval does that does not know of groups.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from gate_runs import Candidate, Clusters, Machine, judged, lognormal_quantile, looked, searched, share, spec_of
from lines import emit

from strop_job.judgement.power import drop_power
from strop_job.judgement.statistics import Interval, wilson

CONFIDENCE, ALPHA = "95%", 0.05
PROCESSES, PARTS = 2, 8
POINT = spec_of({"metricDrop": {"maxPoints": "1.0", "confidence": CONFIDENCE}})
RELATIVE = spec_of({"metricDrop": {"maxRelative": "1%", "confidence": CONFIDENCE}})
SPEEDUP = spec_of({"speedup": {"min": "1.5", "over": "Original", "confidence": CONFIDENCE}})
P99_MICROSECONDS, P50_MICROSECONDS = 12_000, 8_000
P99 = spec_of({"latency": {"p99MaxMicroseconds": P99_MICROSECONDS, "confidence": CONFIDENCE}})
P50 = spec_of({"latency": {"p50MaxMicroseconds": P50_MICROSECONDS, "confidence": CONFIDENCE}})

One = Callable[[np.random.Generator], bool]


@dataclass(frozen=True)
class Case:
    """One kind of run; what it is held against."""

    name: str
    one: One
    baseline: float


def at_margin(loss: float) -> list[Candidate]:
    """Eight candidates that all lose just the margin, with few and with many answers that differ."""
    return [Candidate(loss + gained, gained) for gained in np.linspace(0.0, 0.03, 8)]


def lossless(discordant: float) -> list[Candidate]:
    """Eight candidates that lose nothing."""
    return [Candidate(discordant / 2, discordant / 2)] * 8


def cases() -> Iterator[Case]:
    """All kinds."""
    for samples in (500, 1000, 4000):
        sizes = {"validation": 500, "evaluation": samples, "right": 0.9}
        yield Case(f"error/points/{samples}", partial(searched, spec=POINT, candidates=at_margin(0.01), **sizes), ALPHA)
        known = dict(powers(samples))
        for discordant in (0.02, 0.05):
            one = partial(searched, spec=POINT, candidates=lossless(discordant), **sizes)
            yield Case(f"power/points/{samples}/{discordant:.0%}", one, known[discordant])
    sizes = {"validation": 500, "evaluation": 2000, "right": 0.9}
    yield Case("error/relative/2000", partial(searched, spec=RELATIVE, candidates=at_margin(0.009), **sizes), ALPHA)
    for drift in (0.0, 0.1):
        one = partial(passes, SPEEDUP, Machine(drift), (("original", 1500.0), ("optimized", 1000.0)))
        yield Case(f"error/looks/speedup/drift {drift:.0%}", one, ALPHA)
    slow = (("optimized", P99_MICROSECONDS / lognormal_quantile(2.3263)),)
    yield Case("error/looks/p99", partial(passes, P99, Machine(), slow), ALPHA)
    yield Case("error/looks/p50", partial(passes, P50, Machine(), (("optimized", float(P50_MICROSECONDS)),)), ALPHA)


def powers(samples: int) -> tuple[tuple[float, float], ...]:
    """What is said before anything is measured."""
    found = drop_power(POINT, samples)
    assert found is not None
    return found.passes


def passes(spec, machine: Machine, medians: tuple[tuple[str, float], ...], random: np.random.Generator) -> bool:
    """Whether a run with its looks passes."""
    return looked(random, spec, machine, dict(medians))[0]


def clustered(kind: Clusters, random: np.random.Generator, *, known: bool) -> bool:
    """Whether a model just at the margin of two points passes; `known`: the gate is told of the groups."""
    spec = spec_of({"metricDrop": {"maxPoints": "2.0", "confidence": CONFIDENCE}})
    metric = kind.draw(random)
    return judged(spec, metric=metric if known else replace(metric, groups=None)).passed


def part(one: One, runs: int, seed: int) -> float:
    """Runs of one process."""
    return share(runs, seed, one)


def show(name: str, found: Interval, runs: int, baseline: float) -> None:
    """One line."""
    emit(name, "share", found.point, low=found.low, high=found.high, n=runs, baseline=baseline)


def main() -> None:
    """Print every share with its 95% interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    asked = parser.parse_args()
    with ProcessPoolExecutor(PROCESSES) as pool:

        def measured(one: One) -> Interval:
            shares = list(pool.map(partial(part, one, asked.runs // PARTS), range(PARTS)))
            runs = asked.runs // PARTS * PARTS
            return wilson(round(float(np.mean(shares)) * runs), runs)

        for case in cases():
            if asked.only in case.name:
                found = measured(case.one)
                emit(
                    case.name,
                    "share",
                    found.point,
                    low=found.low,
                    high=found.high,
                    n=asked.runs,
                    baseline=case.baseline,
                )
        for groups, correlation in ((20, 0.1), (50, 0.1), (100, 0.1), (100, 0.3)):
            name, kind = f"clusters/{groups} groups/correlation {correlation:g}", Clusters(groups, correlation)
            if asked.only in name:
                found, naive = (measured(partial(clustered, kind, known=known)) for known in (True, False))
                show(name, found, asked.runs, naive.point)


if __name__ == "__main__":
    main()
