"""The benchmark stage: engines become raw latency samples and the figures made from them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import Runtime, Target
from strop_job.backends import TRAITS
from strop_job.benchmark.facts import device_facts, throughput_facts, variant_facts
from strop_job.benchmark.measure import Measured, measure
from strop_job.benchmark.protocol import Setup
from strop_job.benchmark.rotation import Schedule
from strop_job.benchmark.variants import SAMPLES_FILE, THROUGHPUT_FILE
from strop_job.hardware import this_machine
from strop_job.judgement.evidence import Latencies
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

SPINNING = True
"""The runtime's own default, as it would serve; a variant rests until its threads sleep before the next one works."""


def look_name(look: int) -> str:
    """The stage of one look: `benchmark`, `benchmark-2` …"""
    return "benchmark" if look == 1 else f"benchmark-{look}"


def benchmark_stage(engines: Mapping[str, str], spec: ModelOptimizationSpec, target: Target, look: int = 1) -> Stage:
    """Times the engines of `engines` (variant -> stage that made it), taking turns. Facts per variant, raw samples.

    Facts: `variants` (by name, see `variant_facts`), how it was measured, `batch` and `mostBatch` (samples per call),
    `throughput` (a list of variant, batch, samplesPerSecond, low, high), `throughputNotes`, and for an accelerator
    `gpusBefore` and `gpusAfter`.

    Give `optimized` and `original`; `fp16` where a gate compares with it. All are compiled by the same runtime, so
    what the runtime alone gains is in none of their ratios.

    A later `look` times as many calls more, in another order, and leaves out what more calls would not make clearer:
    the other batch sizes.
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
    if look > 1:
        parameters["look"] = look
    return Stage(
        name=look_name(look),
        kind="Benchmark",
        version=3,
        run=lambda context: _run(context, engines, look),
        parameters=parameters,
        needs=tuple(dict.fromkeys(engines.values())),
        libraries=(*TRAITS[target.runtime].libraries, "numpy"),
        hardware=True,
        max_age_seconds=spec.benchmark.max_age_seconds,
        weight=3.0,
        measuring=True,
    )


def _run(context: StageContext, engines: Mapping[str, str], look: int) -> Artifact:
    spec, target = context.spec, context.target
    threads = this_machine().threads_for(target)
    setups = {
        variant: Setup(context.inputs[stage], target, threads, SPINNING, context.folder)
        for variant, stage in engines.items()
    }
    schedule = Schedule(spec.benchmark.calls, float(spec.benchmark.max_seconds), spec.seed + look - 1)
    on_device = target.accelerator is not None
    measured = measure(setups, spec.model, schedule, context.report, on_device=on_device, sweeping=look == 1)
    _save(context.folder / SAMPLES_FILE, {name: tally.latencies() for name, tally in measured.main.tallies.items()})
    _save(context.folder / THROUGHPUT_FILE, _by_batch(measured))
    facts: dict[str, JsonValue] = {
        "variants": {name: variant_facts(measured, name) for name in measured.main.tallies},
        "threads": threads,
        "spinning": _spinning(target),
        "order": "random within each round",
        "rounds": measured.main.rounds,
        "callsPerTurn": measured.main.calls_per_turn,
        "stoppedEarly": measured.main.stopped_early,
        "inputs": "synthetic, seeded; masks all ones",
        "shapes": {name: list(shape) for name, shape in measured.shapes.items()},
        **throughput_facts(measured, spec.seed),
        **device_facts(measured),
    }
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (SAMPLES_FILE, THROUGHPUT_FILE), facts)


def _by_batch(measured: Measured) -> dict[str, Latencies]:
    return {f"{name}@{run.batch}": tally.latencies() for run in measured.batches for name, tally in run.tallies.items()}


def _spinning(target: Target) -> str:
    """What the threads of a pool do between calls; only ONNX Runtime can be told."""
    if target.runtime is not Runtime.ONNX_RUNTIME:
        return "as the runtime has it"
    return "allowed" if SPINNING else "off"


def _save(path: Path, samples: Mapping[str, Latencies]) -> None:
    arrays = {name: latencies.microseconds for name, latencies in samples.items()}
    rounds = {f"{name}.rounds": latencies.rounds for name, latencies in samples.items()}
    np.savez(path, **arrays, **rounds)  # type: ignore[arg-type]
