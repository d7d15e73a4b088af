"""The gates on what an engine does per second and on the memory it takes, and the statistic behind the first."""

from collections.abc import Iterator

import numpy as np

from strop_api.base import quantity
from strop_api.status import GateStatus, Throughput
from strop_job.benchmark.variants import LEAST_ROUNDS, Variant
from strop_job.judgement.case import Case
from strop_job.judgement.evidence import Capacity, Latencies
from strop_job.judgement.figures import bytes_text, figure, per_second_text, rate_text
from strop_job.judgement.resampling import bootstrap
from strop_job.judgement.statistics import LEVEL, Floats, Interval, Ints
from strop_job.judgement.verdicts import at_least, unmeasured, verdict

RESIDENT_WORDS = "resident, interpreter and runtime included"
DEVICE_WORDS = "of device memory"


def samples_per_second(latencies: Latencies, batch: int, seed: int, level: float = LEVEL) -> Interval | None:
    """Samples over the time of all timed calls, one call at a time; None below LEAST_ROUNDS rounds.

    The interval is the block bootstrap of whole rounds (Kunsch 1989), as for latency ratios. A mean and not a median,
    so that a rare slow call costs what it costs a server.
    """
    rounds = np.unique(latencies.rounds)
    if len(rounds) < LEAST_ROUNDS:
        return None
    seconds = np.array([latencies.microseconds[latencies.rounds == one].sum() / 1e6 for one in rounds])
    calls = np.array([np.count_nonzero(latencies.rounds == one) for one in rounds])

    def rates(drawn: Ints) -> Floats:
        found: Floats = batch * calls[drawn].sum(axis=1) / seconds[drawn].sum(axis=1)
        return found

    return bootstrap(rates, len(rounds), level=level, seed=seed)


def throughput(case: Case) -> Iterator[GateStatus]:
    """Bound on samples per second at the optimum shape, one call at a time: the point estimate, interval shown."""
    gate, name = case.gates.throughput, "throughput"
    if gate is None:
        return
    measured, capacity = case.seen.latencies.get(Variant.OPTIMIZED), case.seen.capacity
    if measured is None or capacity is None:
        yield unmeasured(name, "throughput was not measured")
        return
    interval = samples_per_second(measured, capacity.batch, case.seed)
    if interval is None:
        words = f"too few rounds fitted into spec.benchmark.maxSeconds ({LEAST_ROUNDS} are needed)"
        yield unmeasured(name, f"throughput was not measured: {words}")
        return
    passed = at_least(interval.point, gate.min_per_second)
    ends = f"95% {per_second_text(interval.low)} to {per_second_text(interval.high)}"
    side = f"{'reaches' if passed else 'is below'} {rate_text(gate.min_per_second)}"
    message = f"{rate_text(interval.point)} ({ends}), single stream at batch {capacity.batch}, {side}"
    yield verdict(name, passed, interval.point, gate.min_per_second, message, interval)


def peak_memory(case: Case) -> Iterator[GateStatus]:
    """Bound on the most memory seen: of the device for a target with an accelerator, else resident."""
    gate, name, capacity = case.gates.peak_memory, "peakMemory", case.seen.capacity
    if gate is None:
        return
    on_device = case.target.accelerator is not None
    held = None if capacity is None else capacity.held_bytes(on_device=on_device)
    if capacity is None or held is None:
        lacking = "the driver does not tell device memory by process here" if on_device else "the kernel tells no peak"
        yield unmeasured(name, "peak memory was not measured" + (f": {lacking}" if capacity is not None else ""))
        return
    bound, words = quantity(gate.max), DEVICE_WORDS if on_device else RESIDENT_WORDS
    passed = held <= bound
    side = "is within" if passed else "is above"
    message = f"peak {bytes_text(held)} {words}, serving up to batch {capacity.most_batch}, {side} {bytes_text(bound)}"
    yield verdict(name, passed, held, bound, message)


def throughput_figures(capacity: Capacity | None) -> Throughput | None:
    """The most samples a second, and the batch that gave it; None where nothing was measured."""
    if capacity is None or not capacity.rates:
        return None
    batch, rate = max(capacity.rates, key=lambda found: found[1])
    shown = figure(rate)
    return Throughput(samples_per_second=shown, batch=batch) if shown else None
