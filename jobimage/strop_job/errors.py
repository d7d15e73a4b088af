"""The worker's errors: one short tree. Each says what was wrong, where in the spec, and what would mend it."""

from strop_api.result import Outcome

# ruff: noqa: N818 - each is named for what it says of the run, as its outcome is


class StropError(Exception):
    """A foreseen end of a run; its class decides the outcome, and with it the exit code."""

    outcome = Outcome.FAILED

    def __init__(self, message: str, *, field: str | None = None, mend: str | None = None) -> None:
        super().__init__(message)
        self.message, self.field, self.mend = message, field, mend

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.message}" + (f" ({self.mend})" if self.mend else "")


class InvalidInput(StropError):
    """The model, the data or the spec is not as it should be; running again changes nothing."""

    outcome = Outcome.INVALID_INPUT


class Unsupported(StropError):
    """A valid wish this worker cannot fulfil."""

    outcome = Outcome.UNSUPPORTED


class StoreFailed(StropError):
    """The object store or the network failed; trying again may help."""

    outcome = Outcome.STORE_FAILED


class DiskFull(StropError):
    """No space left where the worker writes."""

    outcome = Outcome.DISK_FULL


class OutOfMemory(StropError):
    """The container's memory did not suffice; with the same limit it will not the next time."""

    outcome = Outcome.OUT_OF_MEMORY


class Evicted(StropError):
    """SIGTERM arrived: finished records stay, the rest is abandoned."""

    outcome = Outcome.EVICTED
