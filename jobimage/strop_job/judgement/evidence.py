"""What the gates are held against: raw samples and facts read back from the measurement artifacts, nothing judged."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_job.benchmark.variants import SAMPLES_FILE, Variant
from strop_job.judgement.statistics import Floats, Ints
from strop_job.stages import Artifact, Facts


@dataclass(frozen=True)
class Latencies:
    """Timed calls of one variant: microseconds, and the round of the rotation each call fell in."""

    microseconds: Floats
    rounds: Ints

    @property
    def median(self) -> float:
        """Microseconds."""
        return float(np.median(self.microseconds))

    def quantile(self, share: float) -> float:
        """Microseconds below which `share` of the calls lie."""
        return float(np.quantile(self.microseconds, share))


@dataclass(frozen=True)
class MetricEvidence:
    """The metric before and after, with what an interval can be made from."""

    name: str
    original: float
    optimized: float
    higher_is_better: bool
    samples: int
    per_sample: tuple[Floats, Floats] | None = None
    """Figures whose mean is the metric: of the original, of the engine."""
    predictions: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None
    """For a metric that must be recomputed: labels, predictions of the original, of the engine."""
    groups: Ints | None = None
    """The group of each sample, numbered from 0; None where samples are independent."""

    @property
    def loss(self) -> float:
        """How much worse the engine is, in the metric's unit; negative when it is better."""
        return self.original - self.optimized if self.higher_is_better else self.optimized - self.original


@dataclass(frozen=True)
class Capacity:
    """How much the engine was given at once, and the most memory it took. What is None was not measured."""

    batch: int
    """Samples per call of the timed latencies."""
    most_batch: int
    """Samples per call of the largest call that ran while memory was watched."""
    resident_bytes: int | None
    """Of the engine's process, interpreter and runtime included."""
    device_bytes: int | None
    rates: tuple[tuple[int, float], ...] = ()
    """Batch sizes, and the samples per second that the engine served at each."""

    def held_bytes(self, *, on_device: bool) -> int | None:
        """The most memory where the engine lives."""
        return self.device_bytes if on_device else self.resident_bytes


@dataclass(frozen=True)
class Evidence:
    """All that was measured. What is None was not."""

    metric: MetricEvidence | None
    fidelity: Mapping[str, float]
    parity: Mapping[str, Any] | None
    latencies: Mapping[str, Latencies]
    engine_size_bytes: int | None
    capacity: Capacity | None = None
    original_parity: Mapping[str, Any] = field(default_factory=dict)
    """As `parity`, of the original's engine: what every comparison is with. Empty where nothing was compared."""
    inspection: Mapping[str, Any] = field(default_factory=dict)
    """What the engine computes with, as `Inspection.facts` says it; empty where nothing looked."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """What the audit of the calibration data found, `mismatches` among it; empty where none was made."""
    looks: int = 1
    """How often latency was looked at; `latencies` holds the calls of all looks."""


Looks = Artifact | Sequence[Artifact]
"""The benchmark, or one of each look in their order."""


def gather(
    verify: Artifact | None,
    benchmark: Looks | None,
    engine_size_bytes: int | None,
    calibration: Artifact | None = None,
) -> Evidence:
    """Reads the measurements back. An artifact that is missing leaves its part unmeasured."""
    looks = _looks(benchmark)
    facts: Facts = verify.facts if verify else {}
    parity = facts.get("parity")
    return Evidence(
        metric=_metric(verify) if verify else None,
        fidelity={k: float(v) for k, v in _mapping(facts.get("fidelity")).items() if isinstance(v, int | float)},
        parity=_mapping(parity) if parity else None,
        original_parity=_mapping(facts.get("originalParity")),
        latencies=read_latencies(looks),
        engine_size_bytes=engine_size_bytes,
        capacity=_capacity(looks[0]) if looks else None,
        inspection=_mapping(facts.get("inspection")),
        calibration=calibration.facts if calibration else {},
        looks=max(1, len(looks)),
    )


def read_latencies(benchmark: Looks) -> dict[str, Latencies]:
    """Raw samples of every variant, by its name; rounds of a later look follow those of the one before."""
    found = [_read_look(look) for look in _looks(benchmark)]
    starts = np.cumsum([0, *(1 + max(int(one.rounds.max()) for one in look.values()) for look in found[:-1])])
    joined: dict[str, Latencies] = {}
    for name in found[0] if found else ():
        rows = [(look[name], start) for look, start in zip(found, starts, strict=True) if name in look]
        microseconds = np.concatenate([one.microseconds for one, _ in rows])
        joined[name] = Latencies(microseconds, np.concatenate([one.rounds + start for one, start in rows]))
    return joined


def _looks(benchmark: Looks | None) -> Sequence[Artifact]:
    return () if benchmark is None else (benchmark,) if isinstance(benchmark, Artifact) else benchmark


def _read_look(benchmark: Artifact) -> dict[str, Latencies]:
    with np.load(benchmark.folder / SAMPLES_FILE, allow_pickle=False) as arrays:
        names = [name for name in arrays.files if not name.endswith(".rounds")]
        return {name: Latencies(arrays[name], arrays[f"{name}.rounds"]) for name in names}


def _capacity(benchmark: Artifact) -> Capacity | None:
    engine = _mapping(_mapping(benchmark.facts.get("variants")).get(Variant.OPTIMIZED))
    batch, most = benchmark.facts.get("batch"), benchmark.facts.get("mostBatch")
    if not isinstance(batch, int) or not isinstance(most, int):
        return None
    resident, device = engine.get("peakMemoryBytes"), engine.get("peakDeviceMemoryBytes")
    return Capacity(batch, most, resident, device, tuple(_rates(benchmark.facts.get("throughput"))))


def _rates(found: object) -> Iterator[tuple[int, float]]:
    for row in found if isinstance(found, list) else []:
        if row["variant"] == Variant.OPTIMIZED:
            yield int(row["batch"]), float(row["samplesPerSecond"])


def _metric(verify: Artifact) -> MetricEvidence | None:
    facts = _mapping(verify.facts.get("metric"))
    if not facts:
        return None
    return MetricEvidence(
        name=str(facts["name"]),
        original=_number(facts["original"]),
        optimized=_number(facts["optimized"]),
        higher_is_better=bool(facts["higherIsBetter"]),
        samples=int(facts["samples"]),
        **_raw_samples(verify),
    )


def _raw_samples(verify: Artifact) -> dict[str, Any]:
    """Fields of MetricEvidence."""
    file = next((name for name in verify.files if name.endswith(".npz")), None)
    if file is None:
        return {}
    with np.load(verify.folder / file, allow_pickle=False) as arrays:
        pairs = {
            "per_sample": ("original", "optimized"),
            "predictions": ("labels", "original_predictions", "optimized_predictions"),
        }
        found = {k: tuple(arrays[n] for n in names) for k, names in pairs.items() if set(names) <= set(arrays.files)}
        return found | ({"groups": arrays["groups"]} if "groups" in arrays.files else {})


def _number(value: float | None) -> float:
    """A figure of the facts, which say None where it was not a number."""
    return math.nan if value is None else float(value)


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
