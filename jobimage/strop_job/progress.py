"""How far a run is: weights become a percentage and an estimate of the time left. Knows nothing of who listens."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from strop_api.status import Progress
from strop_job.errors import Evicted
from strop_job.stages import WHOLE_SECONDS, Stage

QUIET_SECONDS = 0.2
"""Between two messages of one stage; a changed stage is always told."""
QUIET_SECONDS_MEASURING = 3.0
"""The same while latency is measured: every message wakes somebody up."""
LEAST_SHARE = 0.02
"""No estimate before this share of the work that must really be done has been seen."""
TAIL = "judge, report, publish"
TAIL_WEIGHT = 1.0


class Event(StrEnum):
    """What an update tells."""

    STARTED = "Started"
    WORKING = "Working"
    CACHED = "Cached"
    KEEPING = "Keeping"
    """The work is done and its files go to the store."""
    FINISHED = "Finished"


@dataclass(frozen=True)
class Update:
    """One thing worth telling."""

    event: Event
    progress: Progress
    measuring: bool = False
    seconds: float = 0.0
    """FINISHED and CACHED: wall time of the stage, or what it had cost."""
    silence_seconds: float = WHOLE_SECONDS
    """If nothing more is told for so long, the process hangs."""


class Reporter(Protocol):
    """Who is told, and who says when to stop."""

    def tell(self, update: Update) -> None:
        """Passes the update on; must be quick and must not raise."""

    def stopping(self) -> bool:
        """Whether SIGTERM has arrived."""


class Silent:
    """Tells nobody and never stops."""

    def tell(self, update: Update) -> None:
        """Nothing."""

    def stopping(self) -> bool:
        """Never."""
        return False


class Tracker:
    """Counts weights as stages pass and tells the reporter; the pipeline's only way to speak while it works."""

    def __init__(
        self, stages: Sequence[Stage], reporter: Reporter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = sum(s.weight for s in stages) + TAIL_WEIGHT
        self._reporter, self._clock = reporter, clock
        self._passed = self._worked = self._worked_seconds = 0.0
        self._stage, self._weight, self._measuring = "", 0.0, False
        self._began = self._told = 0.0
        self._percent, self._silence = 0, WHOLE_SECONDS

    def expect(self, weight: float) -> None:
        """A stage more than was planned will be done."""
        self._total += weight

    def check(self) -> None:
        """Raises Evicted once the reporter says to stop."""
        if self._reporter.stopping():
            raise Evicted("stopped by SIGTERM; finished stages are kept")

    def begin(
        self, name: str, weight: float, *, measuring: bool = False, silence_seconds: float = WHOLE_SECONDS
    ) -> None:
        """A stage that must be done starts; if it reports nothing for `silence_seconds`, it hangs."""
        self.check()
        self._stage, self._weight, self._measuring, self._silence = name, weight, measuring, silence_seconds
        self._began = self._told = self._clock()
        self._tell(Event.STARTED, 0.0, "")

    def report(self, share: float, message: str) -> None:
        """Given to the stage: its share done (0 to 1) and what it is doing. Raises Evicted after SIGTERM."""
        self.check()
        quiet = QUIET_SECONDS_MEASURING if self._measuring else QUIET_SECONDS
        if self._clock() - self._told >= quiet:
            self._told = self._clock()
            self._tell(Event.WORKING, min(1.0, max(0.0, share)), message)

    def keep(self) -> None:
        """The stage's work is done; its files go to the store, which reports nothing."""
        self._silence = WHOLE_SECONDS
        self._tell(Event.KEEPING, 1.0, "keeping what it yielded")

    def finish(self) -> float:
        """The stage is done and committed; returns its wall time in seconds."""
        seconds = self._clock() - self._began
        self._worked += self._weight
        self._worked_seconds += seconds
        self._passed += self._weight
        self._measuring, self._silence = False, WHOLE_SECONDS
        self._weight, weight = 0.0, self._weight
        self._tell(Event.FINISHED, 0.0, "", seconds if weight else 0.0)
        return seconds

    def cached(self, name: str, weight: float, seconds: float) -> None:
        """A stage was found among the records; `seconds` is what it had cost."""
        self.check()
        self._stage, self._weight, self._measuring, self._silence = name, 0.0, False, WHOLE_SECONDS
        self._passed += weight
        self._tell(Event.CACHED, 0.0, "", seconds)

    def _tell(self, event: Event, share: float, message: str, seconds: float = 0.0) -> None:
        done = (self._passed + share * self._weight) / self._total
        self._percent = max(self._percent, min(100, int(done * 100 + 1e-9)))
        progress = Progress(
            stage=self._stage[:80],
            percent=self._percent,
            message=message[:256],
            remaining_seconds=self._remaining(share),
        )
        self._reporter.tell(Update(event, progress, self._measuring, seconds, self._silence))

    def _remaining(self, share: float) -> int | None:
        """Seconds left at the pace so far; what came from records says nothing about the pace."""
        worked = self._worked + share * self._weight
        left = self._total - self._passed - share * self._weight
        if worked <= 0 or worked < LEAST_SHARE * (worked + left):
            return None
        seconds = self._worked_seconds + (self._clock() - self._began if self._weight else 0.0)
        return max(0, round(left * seconds / worked))
