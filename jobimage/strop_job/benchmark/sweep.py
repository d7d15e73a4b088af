"""Throughput by batch: short rotations at a few other batch sizes of the range, within what time is left."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from strop_api.model import Dimension, ModelSource
from strop_job.batches import batch_dimension
from strop_job.benchmark.contender import Contender
from strop_job.benchmark.rotation import Schedule, Tally, rotate
from strop_job.benchmark.variants import LEAST_ROUNDS
from strop_job.stages import Report

MOST_BATCHES = 5
BATCH_ROUNDS = 10
BATCH_CALLS = 100


@dataclass(frozen=True)
class BatchRun:
    """One batch size, timed for every variant."""

    batch: int
    tallies: Mapping[str, Tally]
    note: str = ""
    """Why it was not timed; then there are no tallies."""


def batches_of(model: ModelSource) -> tuple[int, ...]:
    """At most MOST_BATCHES sizes of the batch dimension: min, opt, max, and powers of two that fill the widest gaps."""
    size = batch_dimension(model)
    return (size,) if isinstance(size, int) else _spread(size)


def _spread(size: Dimension) -> tuple[int, ...]:
    chosen = {size.min, size.opt, size.max}
    powers = {2**n for n in range(size.max.bit_length()) if size.min < 2**n < size.max} - chosen
    while powers and len(chosen) < MOST_BATCHES:
        farthest = max(sorted(powers), key=lambda power: min(abs(math.log2(power / other)) for other in chosen))
        powers.remove(farthest)
        chosen.add(farthest)
    return tuple(sorted(chosen))


def optimum_batch(model: ModelSource) -> int:
    """Samples per call at the optimum shape."""
    size = batch_dimension(model)
    return size if isinstance(size, int) else size.opt


def sweep(
    contenders: Sequence[Contender],
    sets: Mapping[int, str],
    seconds: float,
    seed: int,
    call_seconds: tuple[int, float],
    report: Report,
) -> Iterator[BatchRun]:
    """Times every batch size of `sets` (size -> set of inputs), smallest first, in `seconds` a variant altogether.

    `call_seconds` is a batch size and what one call of the slowest variant took at it. A batch size whose rounds would
    not fit, reckoned in proportion, is left out with a note.
    """
    left, known = seconds, call_seconds
    for index, (batch, name) in enumerate(sorted(sets.items())):
        share = left / (len(sets) - index)
        expected = known[1] * batch / known[0]
        if not fits(expected, share):
            yield BatchRun(batch, {}, f"a call of about {expected:.2g} s leaves no time for {LEAST_ROUNDS} rounds")
            continue
        told = _told(report, index, len(sets), batch)
        found = rotate(contenders, Schedule(BATCH_CALLS, share, seed, BATCH_ROUNDS, name), told)
        left -= max(tally.busy_seconds for tally in found.tallies.values())
        known = (batch, slowest_call_seconds(found.tallies))
        yield BatchRun(batch, found.tallies, _lacking(found.rounds))


def slowest_call_seconds(tallies: Mapping[str, Tally]) -> float:
    """Median call of the slowest variant."""
    return max(tally.latencies().median for tally in tallies.values()) / 1e6


def fits(call_seconds: float, seconds: float) -> bool:
    """Whether LEAST_ROUNDS rounds of one warm and one timed call fit."""
    return 2 * LEAST_ROUNDS * call_seconds <= seconds


def _lacking(rounds: int) -> str:
    return "" if rounds >= LEAST_ROUNDS else f"only {rounds} rounds fitted into the time, and {LEAST_ROUNDS} are needed"


def _told(report: Report, index: int, count: int, batch: int) -> Report:
    return lambda share, message: report((index + share) / count, f"batch {batch}: {message}")
