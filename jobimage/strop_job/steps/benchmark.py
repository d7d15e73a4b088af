"""The benchmark stage: engines become raw latency samples and the figures made from them."""

from collections.abc import Mapping

import numpy as np
from pydantic import JsonValue

from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import Target
from strop_job.backends import TRAITS
from strop_job.benchmark.inputs import shapes_of, synthetic
from strop_job.benchmark.measure import Measured, Schedule, measure
from strop_job.benchmark.protocol import Setup
from strop_job.benchmark.variants import LEAST_CALLS_FOR_P99, SAMPLES_FILE
from strop_job.hardware import this_machine
from strop_job.judgement.evidence import Latencies
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

SPINNING = True
"""The runtime's own default, as it would serve; a variant rests until its threads sleep before the next one works."""


def benchmark_stage(engines: Mapping[str, str], spec: ModelOptimizationSpec, target: Target) -> Stage:
    """Times the engines of `engines` (variant -> stage that made it), taking turns. Facts per variant, raw samples.

    Give `optimized` and `original`; `fp16` where a gate compares with it. All are compiled by the same runtime, so
    what the runtime alone gains is in none of their ratios.
    """
    model = spec.model
    parameters: dict[str, JsonValue] = {
        "variants": dict(engines),
        "calls": spec.benchmark.calls,
        "maxSeconds": spec.benchmark.max_seconds,
        "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in model.inputs],
        "dimensions": [dimension.model_dump(mode="json", by_alias=True) for dimension in model.dimensions],
        "target": target.model_dump(mode="json", by_alias=True, exclude={"name", "optional"}),
        "spinning": SPINNING,
    }
    return Stage(
        name="benchmark",
        kind="Benchmark",
        version=2,
        run=lambda context: _run(context, engines),
        parameters=parameters,
        needs=tuple(dict.fromkeys(engines.values())),
        libraries=(*TRAITS[target.runtime].libraries, "numpy"),
        hardware=True,
        max_age_seconds=spec.benchmark.max_age_seconds,
        weight=3.0,
        measuring=True,
    )


def _run(context: StageContext, engines: Mapping[str, str]) -> Artifact:
    spec, target = context.spec, context.target
    threads = this_machine().threads_for(target)
    inputs = synthetic(spec.model, spec.seed)
    setups = {
        variant: Setup(context.inputs[stage], target, threads, SPINNING, context.folder)
        for variant, stage in engines.items()
    }
    schedule = Schedule(spec.benchmark.calls, float(spec.benchmark.max_seconds), spec.seed)
    measured = measure(setups, inputs, schedule, context.report)
    samples = {name: tally.latencies() for name, tally in measured.tallies.items()}
    _save(context, samples)
    facts: dict[str, JsonValue] = {
        "variants": {name: _facts(measured, name) for name in samples},
        "threads": threads,
        "spinning": "allowed" if SPINNING else "off",
        "order": "random within each round",
        "rounds": measured.rounds,
        "callsPerTurn": measured.calls_per_turn,
        "stoppedEarly": measured.stopped_early,
        "inputs": "synthetic, seeded; masks all ones",
        "shapes": {name: list(shape) for name, shape in shapes_of(inputs).items()},
    }
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (SAMPLES_FILE,), facts)


def _save(context: StageContext, samples: Mapping[str, Latencies]) -> None:
    arrays = {name: latencies.microseconds for name, latencies in samples.items()}
    rounds = {f"{name}.rounds": latencies.rounds for name, latencies in samples.items()}
    np.savez(context.folder / SAMPLES_FILE, **arrays, **rounds)  # type: ignore[arg-type]


def _facts(measured: Measured, name: str) -> dict[str, JsonValue]:
    tally = measured.tallies[name]
    latencies = tally.latencies()
    calls = len(latencies.microseconds)
    facts: dict[str, JsonValue] = {
        "calls": calls,
        "p50Microseconds": latencies.median,
        "p90Microseconds": latencies.quantile(0.9),
        "meanMicroseconds": float(latencies.microseconds.mean()),
        "waitingCpuShare": round(tally.waiting_cpu_share, 4),
        "peakMemoryBytes": tally.peak_memory_bytes,
    }
    if calls >= LEAST_CALLS_FOR_P99:
        facts["p99Microseconds"] = latencies.quantile(0.99)
    return facts
