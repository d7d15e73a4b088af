"""What a benchmark found out, as facts: figures with their units in the names. What was not measured is absent."""

from collections.abc import Iterator

import numpy as np
from pydantic import JsonValue

from strop_job.backends.base import CallTimes
from strop_job.benchmark.measure import Measured
from strop_job.benchmark.variants import LEAST_CALLS_FOR_P99
from strop_job.judgement.capacity import samples_per_second
from strop_job.judgement.evidence import Latencies

Facts = dict[str, JsonValue]


def variant_facts(measured: Measured, name: str) -> Facts:
    """Latency at the optimum shape, memory over all shapes, and the parts of a call where they can be told apart."""
    tally, memory = measured.main.tallies[name], measured.memory[name]
    latencies = tally.latencies()
    calls = len(latencies.microseconds)
    facts: Facts = {
        "calls": calls,
        "p50Microseconds": latencies.median,
        "p90Microseconds": latencies.quantile(0.9),
        "meanMicroseconds": float(latencies.microseconds.mean()),
        "waitingCpuShare": round(tally.waiting_cpu_share, 4),
        "peakMemoryBytes": memory.resident_bytes or None,
        "bareMemoryBytes": memory.bare_bytes or None,
        **part_facts(measured.parts.get(name, ())),
    }
    if memory.device_bytes is not None:
        facts["peakDeviceMemoryBytes"] = memory.device_bytes
    if calls >= LEAST_CALLS_FOR_P99:
        facts["p99Microseconds"] = latencies.quantile(0.99)
    return facts


def part_facts(parts: tuple[CallTimes, ...]) -> Facts:
    """Medians of copies and compute, and of the compute as a CUDA graph; nothing where they were not timed apart."""
    plain = [part for part in parts if not part.cuda_graph]
    graph = [part.compute_microseconds for part in parts if part.cuda_graph]
    if not plain:
        return {}
    facts: dict[str, JsonValue] = {
        "copyInMicroseconds": float(np.median([part.copy_in_microseconds for part in plain])),
        "computeMicroseconds": float(np.median([part.compute_microseconds for part in plain])),
        "copyOutMicroseconds": float(np.median([part.copy_out_microseconds for part in plain])),
    }
    return {**facts, "cudaGraphComputeMicroseconds": float(np.median(graph))} if graph else facts


def throughput_facts(measured: Measured, seed: int) -> Facts:
    """Samples per second by batch and variant, one call at a time, with 95% intervals; notes on what was left out."""
    done = [run.batch for run in measured.batches if run.tallies]
    return {
        "batch": measured.batch,
        "mostBatch": max([measured.batch, *done]),
        "throughput": list(_throughput(measured, seed)),
        "throughputNotes": [f"batch {run.batch}: {run.note}" for run in measured.batches if run.note],
    }


def _throughput(measured: Measured, seed: int) -> Iterator[JsonValue]:
    runs = [(run.batch, run.tallies) for run in measured.batches]
    for batch, tallies in sorted([(measured.batch, measured.main.tallies), *runs], key=lambda run: run[0]):
        for name, tally in tallies.items():
            found = _rate(name, batch, tally.latencies(), seed)
            if found is not None:
                yield found


def _rate(name: str, batch: int, latencies: Latencies, seed: int) -> JsonValue:
    rate = samples_per_second(latencies, batch, seed)
    if rate is None:
        return None
    return {"variant": name, "batch": batch, "samplesPerSecond": rate.point, "low": rate.low, "high": rate.high}


def device_facts(measured: Measured) -> Facts:
    """The GPUs right before and right after the latencies were taken; nothing where no driver tells."""
    if not measured.gpus_before and not measured.gpus_after:
        return {}
    return {
        "gpusBefore": [state.facts() for state in measured.gpus_before],
        "gpusAfter": [state.facts() for state in measured.gpus_after],
    }
