"""`python -m strop_job.benchmark.child SETUP`: loads one variant, then runs calls whenever it is handed the baton."""

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from strop_job.backends import Session, backend_for
from strop_job.benchmark.protocol import Answer, Setup, Turn

QUIET_SHARE = 0.02
QUIET_WINDOW_SECONDS = 0.004
QUIET_LIMIT_SECONDS = 0.25


def main(arguments: list[str]) -> int:
    """Answers once when loaded, then once per turn, until standard input closes."""
    send = _channel()
    try:
        setup = Setup.read(Path(arguments[0]))
        backend = backend_for(setup.target.runtime)
        session = backend.open(setup.engine, setup.target, threads=setup.threads, spinning=setup.spinning)
        with np.load(setup.inputs, allow_pickle=False) as arrays:
            inputs = {name: arrays[name] for name in arrays.files}
        gc.collect()
        gc.freeze()
        send(Answer(peak_memory_bytes=_peak_memory_bytes()))
        _serve(session, inputs, send)
    except Exception as error:
        send(Answer(error=f"{type(error).__name__}: {error}"))
        return 1
    return 0


def _channel() -> Callable[[Answer], None]:
    """The parent's pipe under a descriptor of its own: libraries may print to standard output as they like."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(answer: Answer) -> None:
        data = answer.line()
        while data:
            data = data[pipe.write(data) or 0 :]

    return send


def _serve(session: Session, inputs: dict[str, Any], send: Callable[[Answer], None]) -> None:
    waiting = _Waiting()
    for line in iter(sys.stdin.buffer.readline, b""):
        waited, waited_cpu = waiting.seconds()
        started = time.perf_counter()
        microseconds = _run(session, inputs, Turn(**json.loads(line)))
        busy = time.perf_counter() - started
        _rest()
        send(Answer(tuple(microseconds), busy, waited, waited_cpu, _peak_memory_bytes()))
        waiting = _Waiting()


def _run(session: Session, inputs: dict[str, Any], turn: Turn) -> list[float]:
    """Latency of each call in microseconds; at least one call, then as many as the budget allows."""
    end = time.perf_counter() + turn.budget_seconds
    for _ in range(turn.warmup):
        session.run(inputs)
        if time.perf_counter() > end:
            break
    timed: list[float] = []
    gc.disable()
    for _ in range(turn.calls):
        before = time.perf_counter_ns()
        session.run(inputs)
        timed.append((time.perf_counter_ns() - before) / 1e3)
        if time.perf_counter() > end:
            break
    gc.enable()
    return timed


def _rest() -> None:
    """Waits until this process's threads sleep, so that the next variant has the processor to itself."""
    end = time.perf_counter() + QUIET_LIMIT_SECONDS
    while time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        time.sleep(QUIET_WINDOW_SECONDS)
        if time.process_time() - cpu <= QUIET_SHARE * (time.perf_counter() - wall):
            return


class _Waiting:
    """CPU and wall time since the baton was given away."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Wall time, and CPU time of all threads: those that spin on would show here."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def _peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
