"""What can be decided about a resource. How it is decided stands in decide, drift and farewell."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from strop_api.errands import Change, ErrandKind
from strop_api.reasons import Reason
from strop_operator.facts import JobFact
from strop_operator.observe import Look, Observed
from strop_operator.pods import Ending

RESYNC_SECONDS = 300.0
APPEAR_SECONDS = 5.0
"""A Job's pod appears within this, or the Job's Events say why not."""


class Action(StrEnum):
    """What is done about a resource."""

    LAUNCH = "launch"
    STOP = "stop"
    WAIT = "wait"
    SETTLE = "settle"
    LOOK = "look"
    """Ask the API server before deciding: the caches may lag."""
    ERRAND = "errand"
    """Send a small Job that is no run."""
    HOLD = "hold"
    """Set the finalizer."""
    RELEASE = "release"
    """Take the finalizer away."""


@dataclass(frozen=True)
class Checked:
    """What came of a look whether something has been overtaken."""

    at: float
    """When it ended, in seconds since 1970, by the cluster's clock."""
    changes: tuple[Change, ...] = ()
    problem: str = ""
    """Why it came to nothing; `changes` then says nothing."""


@dataclass(frozen=True)
class Decision:
    """What to do, and what to say of it."""

    action: Action
    reason: Reason | None = None
    """None: the status stays as it is."""
    message: str = ""
    again_after: float | None = None
    """Seconds; events come earlier."""
    job: JobFact | None = None
    """STOP: the Job to delete."""
    ending: Ending | None = None
    """SETTLE: how the run ended; absent when no run ended."""
    look: Look | None = None
    errand: ErrandKind | None = None
    """ERRAND: which."""
    attempt: int = 1
    """ERRAND: the how manieth of its kind."""
    checked: Checked | None = None
    """A look at what was published has ended."""
    left: str = ""
    """RELEASE: what stays behind."""


Check = Callable[[Observed], Decision | None]


def wait(reason: Reason | None, message: str = "", again_after: float | None = RESYNC_SECONDS) -> Decision:
    """Nothing to do but to say how things stand."""
    return Decision(Action.WAIT, reason, message, again_after)


def patience(age: float) -> float:
    """After how many seconds to ask again why a Job of this age has no pod: ever later, since a pod is told of at once.
    A quota may be full for days, for hundreds of Jobs."""
    return min(max(15.0, age / 2), RESYNC_SECONDS)


def ask(seen: Observed, look: Look) -> Decision | None:
    """Have the API server asked, once."""
    return None if look in seen.looked else Decision(Action.LOOK, look=look)
