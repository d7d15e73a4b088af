"""`python -m strop_job.benchmark.child SETUP`: loads one variant, then runs calls whenever it is handed the baton."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strop_job.backends import Session, backend_for
from strop_job.backends.base import CallTimes, TimedSession
from strop_job.benchmark.memory import peak_resident_bytes, resident_bytes
from strop_job.benchmark.protocol import Answer, Setup, Turn, read_inputs
from strop_job.errors import StropError

QUIET_SHARE = 0.02
QUIET_WINDOW_SECONDS = 0.004
QUIET_WINDOWS = 2
QUIET_LIMIT_SECONDS = 0.25


Open = Callable[[Setup], tuple[Session, int]]
"""Loads a variant; returns it, and what was resident before it was loaded."""


def main(arguments: list[str]) -> int:
    """The benchmark's own child: a variant is an engine, opened by its runtime's backend."""
    return serve(arguments, _open)


def serve(arguments: list[str], load: Open) -> int:
    """Answers once when loaded, then once per turn, until standard input closes."""
    send = _channel()
    try:
        setup = Setup.read(Path(arguments[0]))
        session, bare = load(setup)
        gc.collect()
        gc.freeze()
        send(Answer(peak_memory_bytes=peak_resident_bytes(), bare_memory_bytes=bare))
        _serve(session, setup.inputs, send)
    except Exception as error:
        send(Answer(error=f"{type(error).__name__}: {error}"))
        return 1
    return 0


def _open(setup: Setup) -> tuple[Session, int]:
    backend = backend_for(setup.target.runtime)
    bare = resident_bytes()
    return backend.open(setup.engine, setup.target, threads=setup.threads, spinning=setup.spinning), bare


def _channel() -> Callable[[Answer], None]:
    """The parent's pipe under a descriptor of its own: libraries may print to standard output as they like."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(answer: Answer) -> None:
        data = answer.line()
        while data:
            data = data[pipe.write(data) or 0 :]

    return send


def _serve(session: Session, folder: Path, send: Callable[[Answer], None]) -> None:
    waiting, held, inputs = _Waiting(), "", {}
    for line in iter(sys.stdin.buffer.readline, b""):
        waited, waited_cpu = waiting.seconds()
        turn = Turn(**json.loads(line))
        if turn.inputs != held:
            held, inputs = turn.inputs, read_inputs(folder, turn.inputs)
        started = time.perf_counter()
        microseconds, parts = _run(session, inputs, turn)
        busy = time.perf_counter() - started
        _rest()
        send(Answer(microseconds, parts, busy, waited, waited_cpu, peak_resident_bytes()))
        waiting = _Waiting()


def _run(session: Session, inputs: dict[str, Any], turn: Turn) -> tuple[tuple[float, ...], tuple[CallTimes, ...]]:
    """At least one call, then as many as the budget allows: microseconds of each, or its parts."""
    end = time.perf_counter() + turn.budget_seconds
    for _ in range(turn.warmup):
        session.run(inputs)
        if time.perf_counter() > end:
            break
    with _no_collection():
        if not turn.apart:
            return _whole(session, inputs, turn.calls, end), ()
        return (), _apart(session, inputs, turn.calls, end) if isinstance(session, TimedSession) else ()


def _whole(session: Session, inputs: dict[str, Any], calls: int, end: float) -> tuple[float, ...]:
    timed: list[float] = []
    for _ in range(calls):
        before = time.perf_counter_ns()
        session.run(inputs)
        timed.append((time.perf_counter_ns() - before) / 1e3)
        if time.perf_counter() > end:
            break
    return tuple(timed)


def _apart(session: TimedSession, inputs: dict[str, Any], calls: int, end: float) -> tuple[CallTimes, ...]:
    """So many calls as the engine runs them, and as many again as a CUDA graph where one can be recorded."""
    plain = _timed(session, inputs, calls, end)
    try:
        session.capture(inputs)
        return plain + _timed(session, inputs, calls, end)
    except StropError:  # the figures without a graph are there
        return plain


def _timed(session: TimedSession, inputs: dict[str, Any], calls: int, end: float) -> tuple[CallTimes, ...]:
    timed: list[CallTimes] = []
    for _ in range(calls):
        timed.append(session.run_timed(inputs)[1])
        if time.perf_counter() > end:
            break
    return tuple(timed)


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection of garbage would fall into some call and not into others."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _rest() -> None:
    """Waits until this process's threads sleep, so that the next variant has the processor to itself.

    Several windows in a row must be quiet: on a busy machine a spinning thread may be off the processor for one.
    """
    end, quiet = time.perf_counter() + QUIET_LIMIT_SECONDS, 0
    while quiet < QUIET_WINDOWS and time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        time.sleep(QUIET_WINDOW_SECONDS)
        slept = time.process_time() - cpu <= QUIET_SHARE * (time.perf_counter() - wall)
        quiet = quiet + 1 if slept else 0


class _Waiting:
    """CPU and wall time since the baton was given away."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Wall time, and CPU time of all threads: those that spin on would show here."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
