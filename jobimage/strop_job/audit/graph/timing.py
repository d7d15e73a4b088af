"""Two ways to compute one thing, timed in turns in one process: their ratio of medians, with an interval."""

import time
from collections.abc import Callable

import numpy as np

from strop_job.judgement.resampling import median_ratio
from strop_job.judgement.statistics import Interval

ROUNDS = 24
ROUND_SECONDS = 0.1
"""For one side of one round: long beside the clock, short beside what drifts."""
MOST_CALLS, WARM_CALLS = 200, 3
MOST_SECONDS, LEAST_ROUNDS = 60.0, 8
"""Of all rounds of calls that take longer than a round should; fewer rounds widen the interval."""

Call = Callable[[], object]


def ratio(baseline: Call, candidate: Call, *, seed: int, rounds: int = ROUNDS) -> Interval:
    """Median time of `baseline` over that of `candidate`, above 1 where the latter is faster; 95%, over rounds."""
    sides = (baseline, candidate)
    once = [min(_seconds(side) for _ in range(WARM_CALLS)) for side in sides]
    calls = [int(min(max(ROUND_SECONDS / max(seconds, 1e-7), 1), MOST_CALLS)) for seconds in once]
    a_round = max(sum(seconds * count for seconds, count in zip(once, calls, strict=True)), 1e-7)
    rounds = min(rounds, max(int(MOST_SECONDS / a_round), LEAST_ROUNDS))
    times: tuple[list[float], list[float]] = ([], [])
    blocks: tuple[list[int], list[int]] = ([], [])
    for round_ in range(rounds):
        for at in (0, 1) if round_ % 2 else (1, 0):
            for _ in range(calls[at]):
                times[at].append(_seconds(sides[at]))
                blocks[at].append(round_)
    return median_ratio(np.array(times[0]), np.array(times[1]), (np.array(blocks[0]), np.array(blocks[1])), seed=seed)


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
