"""The rotation: variants take turns in random order, round by round, until every one has its calls."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from strop_job.benchmark.contender import Contender
from strop_job.benchmark.protocol import OPTIMUM, Answer, Turn
from strop_job.judgement.evidence import Latencies
from strop_job.stages import Report

ROUNDS = 40
"""Rounds aimed at: what the block bootstrap resamples."""
FIRST_WARMUP_CALLS = 10
FIRST_WARMUP_SECONDS = 5.0
TURN_WARMUP_CALLS = 3
"""At the start of every turn, untimed: caches still belong to the variant before."""
MOST_TURN_SECONDS = 20.0


@dataclass(frozen=True)
class Schedule:
    """How much is measured."""

    calls: int
    """Timed calls per variant."""
    max_seconds: float
    """No variant runs longer than this; the rotation then ends for all, so that they stay comparable."""
    seed: int
    rounds: int = ROUNDS
    """Rounds aimed at."""
    inputs: str = OPTIMUM
    """Which set of inputs."""


@dataclass
class Tally:
    """What one variant has yielded so far."""

    microseconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    busy_seconds: float = 0.0
    waited_seconds: float = 0.0
    waited_cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0

    def add(self, answer: Answer, round_: int) -> None:
        """One turn more."""
        self.microseconds.extend(answer.microseconds)
        self.rounds.extend([round_] * len(answer.microseconds))
        self.busy_seconds += answer.busy_seconds
        self.waited_seconds += answer.waited_seconds
        self.waited_cpu_seconds += answer.waited_cpu_seconds
        self.peak_memory_bytes = max(self.peak_memory_bytes, answer.peak_memory_bytes)

    @property
    def waiting_cpu_share(self) -> float:
        """CPU time over wall time while another variant worked: near 0, or the figures are not worth much."""
        return self.waited_cpu_seconds / max(self.waited_seconds, 1e-9)

    def latencies(self) -> Latencies:
        """As evidence."""
        return Latencies(np.asarray(self.microseconds, np.float64), np.asarray(self.rounds, np.int64))


@dataclass(frozen=True)
class Rotation:
    """The outcome of one rotation."""

    tallies: Mapping[str, Tally]
    calls_per_turn: int
    rounds: int
    stopped_early: bool
    """A variant ran out of time before it had its calls."""


def rotate(contenders: Sequence[Contender], schedule: Schedule, report: Report) -> Rotation:
    """Warms every variant up and lets them take turns; exactly one of them works at any moment."""
    tallies = {contender.name: Tally() for contender in contenders}
    order = random.Random(schedule.seed)  # noqa: S311 - an order, not a secret
    slowest = max(_warm_up(one, schedule, lambda: report(0.0, "warming up")) for one in contenders)
    per_turn = calls_per_turn(schedule, slowest)
    rounds = 0
    while _lacking(tallies, schedule) and not _out_of_time(tallies, schedule):
        for contender in order.sample(contenders, len(contenders)):
            tally = tallies[contender.name]
            turn = _turn(tally, schedule, per_turn)
            tally.add(contender.take(turn, _alive(report, tallies, schedule)), rounds)
        rounds += 1
    return Rotation(tallies, per_turn, rounds, _lacking(tallies, schedule))


def _warm_up(contender: Contender, schedule: Schedule, alive: Callable[[], None]) -> float:
    """Seconds of one warm call."""
    budget = min(FIRST_WARMUP_SECONDS, schedule.max_seconds / 4)
    answer = contender.take(Turn(FIRST_WARMUP_CALLS, 3, budget, schedule.inputs), alive)
    return float(np.median(answer.microseconds)) / 1e6


def calls_per_turn(schedule: Schedule, call_seconds: float) -> int:
    """Enough for the rounds aimed at, fewer calls when one is so slow that the time would not suffice for them."""
    wanted = -(-schedule.calls // schedule.rounds)
    affordable = schedule.max_seconds / (schedule.rounds * max(call_seconds, 1e-9)) - TURN_WARMUP_CALLS
    return max(1, min(wanted, int(affordable)))


def _turn(tally: Tally, schedule: Schedule, per_turn: int) -> Turn:
    left = schedule.calls - len(tally.microseconds)
    budget = min(MOST_TURN_SECONDS, max(schedule.max_seconds - tally.busy_seconds, 0.0))
    return Turn(TURN_WARMUP_CALLS if per_turn > 1 else 1, min(per_turn, left), budget, schedule.inputs)


def _lacking(tallies: Mapping[str, Tally], schedule: Schedule) -> bool:
    return any(len(tally.microseconds) < schedule.calls for tally in tallies.values())


def _out_of_time(tallies: Mapping[str, Tally], schedule: Schedule) -> bool:
    return any(tally.busy_seconds >= schedule.max_seconds for tally in tallies.values())


def _alive(report: Report, tallies: Mapping[str, Tally], schedule: Schedule) -> Callable[[], None]:
    def tell() -> None:
        done = sum(len(tally.microseconds) for tally in tallies.values())
        wanted = schedule.calls * len(tallies)
        report(done / wanted, f"{done} of {wanted} calls")

    return tell
