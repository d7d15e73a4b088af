"""A builder's nested phases as one share of its work, and the way to stop it."""

from dataclasses import dataclass
from threading import Lock
from typing import Any

from strop_job.stages import Report

LEAST_STEP = 0.01
"""Shares closer than this are not told apart: a build has thousands of steps."""


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """Phases that are open, each a step of its parent. The share never falls.

    A parent's step that has phases of its own counts what the innermost of them has done.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Phase] = {}
        self.share = 0.0
        """Of the outermost phase, 0 to 1."""

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins inside `parent`."""
        self._open[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, step: int) -> None:
        """Step number `step`, from 0, is done."""
        if name in self._open:
            self._open[name].done = min(step + 1, self._open[name].steps)
            self.share = max(self.share, self._reckon(name))

    def finish(self, name: str) -> None:
        """A phase is over."""
        self._open.pop(name, None)

    def _reckon(self, name: str) -> float:
        share, at, inside = 0.0, name, False
        for _ in range(len(self._open)):
            phase = self._open.get(at)
            if phase is None:
                return self.share
            done = min(phase.done, phase.steps - 1) if inside else phase.done
            share = (done + share) / phase.steps
            if phase.parent is None:
                return share
            at, inside = phase.parent, True
        return self.share


class Watch:
    """Tells of a build's progress and remembers why it must stop; its calls come from the library's threads."""

    def __init__(self, report: Report, begin: float, end: float) -> None:
        self._report, self._begin, self._end = report, begin, end
        self._phases, self._lock, self._told = Phases(), Lock(), -1.0
        self.stopped: BaseException | None = None
        """What `report` raised; to be raised again when the build has returned."""

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases.start(name, parent, steps)

    def finish(self, name: str) -> None:
        """A phase ends."""
        with self._lock:
            self._phases.finish(name)

    def step(self, name: str, step: int) -> bool:
        """A step is done; False asks the builder to give up."""
        with self._lock:
            self._phases.step(name, step)
            share = self._phases.share
            if self.stopped is not None or share - self._told < LEAST_STEP:
                return self.stopped is None
            self._told = share
            try:
                self._report(self._begin + share * (self._end - self._begin), f"building the engine: {name}")
            except BaseException as error:  # none may pass through the library's C++
                self.stopped = error
            return self.stopped is None


def monitor(trt: Any, watch: Watch) -> Any:
    """The library's view of `watch`; it must be kept for as long as the build runs."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

        def step_complete(self, phase_name: str, step_number: int) -> bool:
            return watch.step(phase_name, step_number)

    return Monitor()
