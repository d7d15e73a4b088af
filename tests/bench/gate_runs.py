"""Synthetic runs whose truth is known, judged by the real judgement: a search over candidates and a gate, or looks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_api.optimization import ModelOptimizationSpec
from strop_job.judgement.evidence import Evidence, Latencies, MetricEvidence
from strop_job.judgement.gates import Judgement, judge_evidence, undecided

Random = np.random.Generator
PARITY = {"worst": 1e-6, "tolerance": 1e-3, "shapes": []}


def spec_of(gates: dict[str, Any], *, metric: str = "accuracy", looks: int = 3) -> ModelOptimizationSpec:
    """A spec that asks for these gates."""
    return ModelOptimizationSpec.model_validate(
        {
            "model": {
                "uri": "s3://models/m.onnx",
                "format": "Onnx",
                "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
            },
            "task": {"type": "Classification", "metric": metric, "labels": "label"},
            "data": {"evaluation": {"uri": "s3://data/eval.npz", "format": "Npz"}},
            "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 1}}],
            "gates": gates,
            "benchmark": {"calls": 400, "maxLooks": looks},
            "output": {"uri": "s3://engines/m"},
        }
    )


def judged(spec: ModelOptimizationSpec, **seen: Any) -> Judgement:
    """The judgement on nothing but what is given."""
    nothing: dict[str, Any] = {"metric": None, "fidelity": {}, "latencies": {}, "engine_size_bytes": None}
    return judge_evidence(spec, spec.targets[0], Evidence(**{**nothing, "parity": PARITY, **seen}))


# --- a search on validation data, then the gate on evaluation data ----------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """What is true of a candidate: shares of all samples that it loses, and gains, against the original."""

    lost: float
    gained: float


def searched(
    random: Random,
    spec: ModelOptimizationSpec,
    candidates: list[Candidate],
    *,
    right: float,
    validation: int,
    evaluation: int,
) -> bool:
    """Whether the run passes: the candidate that loses least on validation samples meets the gate on others."""
    shares = np.array([[right - c.lost, c.lost, c.gained, 1 - right - c.gained] for c in candidates])
    tried = random.multinomial(validation, shares)
    chosen = int(np.argmin(tried[:, 1] - tried[:, 2]))
    counts = random.multinomial(evaluation, shares[chosen])
    original, engine = (np.repeat(figures, counts) for figures in ([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]))
    return judged(spec, metric=accuracy(original, engine)).passed


def accuracy(
    original: NDArray[np.float64], engine: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> MetricEvidence:
    """Of right and wrong answers."""
    pair = (original, engine)
    return MetricEvidence(
        "accuracy", float(original.mean()), float(engine.mean()), True, len(engine), pair, groups=groups
    )


# --- samples that hang together ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clusters:
    """Groups of 5 to 35 samples; within one, lost samples have this correlation."""

    groups: int
    correlation: float
    lost: float = 0.04
    gained: float = 0.02

    def draw(self, random: Random) -> MetricEvidence:
        """One evaluation: the shares that a group loses and gains follow beta distributions."""
        sizes = random.integers(5, 36, self.groups)
        codes = np.repeat(np.arange(self.groups), sizes)
        scale = (1 - self.correlation) / self.correlation
        lost, gained = (
            random.beta(mean * scale, (1 - mean) * scale, self.groups)[codes] for mean in (self.lost, self.gained)
        )
        original = (random.random(len(codes)) < 0.7).astype(np.float64)
        flips = random.random(len(codes)) < np.where(original == 1, lost / 0.7, gained / 0.3)
        return accuracy(original, np.where(flips, 1 - original, original), codes)


# --- several looks at latency -----------------------------------------------------------------------------------------

ROUNDS, CALLS = 40, 10
MOOD, NOISE = 0.04, 0.05
"""Spread of a round's level, and of calls around it, as shares."""


@dataclass(frozen=True)
class Machine:
    """A machine whose clock drifts for all, slowly, and has moods for each variant in each round."""

    drift: float = 0.0
    """Spread of the drift, an AR(1) over rounds with a coefficient of 0.9."""

    def clock(self, random: Random, rounds: int) -> NDArray[np.float64]:
        """What every call of a round is multiplied by."""
        level, found = random.normal(), np.empty(rounds)
        for at in range(rounds):
            level = 0.9 * level + np.sqrt(1 - 0.81) * random.normal()
            found[at] = level
        return np.exp(self.drift * found)

    def calls(self, random: Random, clock: NDArray[np.float64], median: float) -> NDArray[np.float64]:
        """Microseconds of one variant, CALLS a round."""
        mood = clock * random.lognormal(0, MOOD, len(clock))
        return np.asarray(median * np.repeat(mood, CALLS) * random.lognormal(0, NOISE, len(clock) * CALLS))


def looked(
    random: Random, spec: ModelOptimizationSpec, machine: Machine, medians: dict[str, float]
) -> tuple[bool, int]:
    """Whether the run passes, and after how many looks, as the pipeline takes them."""
    most = spec.benchmark.max_looks
    clock = machine.clock(random, ROUNDS * most)
    calls = {name: machine.calls(random, clock, median) for name, median in medians.items()}
    rounds = np.repeat(np.arange(ROUNDS * most), CALLS)
    for look in range(1, most + 1):
        seen = look * ROUNDS * CALLS
        latencies = {name: Latencies(values[:seen], rounds[:seen]) for name, values in calls.items()}
        judgement = judged(spec, latencies=latencies, looks=look)
        if not undecided(judgement):
            break
    return judgement.passed, look


def lognormal_quantile(normal: float) -> float:
    """Of one call's latency over its median on a machine without drift; `normal` is the quantile's z."""
    return float(np.exp(normal * np.hypot(MOOD, NOISE)))


def share(runs: int, seed: int, one: Callable[[Random], bool]) -> float:
    """Share of runs of which `one` is true."""
    random = np.random.default_rng(seed)
    return float(np.mean([one(random) for _ in range(runs)]))
