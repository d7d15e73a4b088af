"""Running out of memory: how it shows, and what is said of it. Reads the kernel's own counters, imports no runtime."""

import signal
from collections.abc import Iterator

from strop_job.errors import OutOfMemory
from strop_job.hardware import cgroup_folders, memory_kills, memory_limit
from strop_job.judgement.figures import bytes_text

FIELD = "spec.worker.resources.limits.memory"
MEND = f"raise {FIELD}"
ALLOCATION_FAILED = (
    "can't allocate memory",  # torch's allocator
    "Failed to allocate memory",  # ONNX Runtime's
    "bad allocation",
    "std::bad_alloc",
    "Cannot allocate memory",  # the system's own words for ENOMEM
)
"""How libraries say it that raise something else than MemoryError."""


class KillWatch:
    """What the kernel has killed for memory since this was made."""

    def __init__(self) -> None:
        self._before = memory_kills()

    def counted(self) -> bool:
        """Whether the kernel says that it killed one of this container's processes."""
        now = memory_kills()
        return now is not None and self._before is not None and now > self._before

    def explains(self, code: int | None) -> bool:
        """Whether a process that ended with this code, killed by nobody of ours, was most likely killed for memory.

        `code` is as of `subprocess`: negative is the signal. Where the kernel does not count, a SIGKILL suffices.
        """
        if code != -signal.SIGKILL:
            return False
        return self._before is None or self.counted()


def killed(stage: str) -> OutOfMemory:
    """The error for a process that the kernel ended during a stage."""
    return OutOfMemory(
        f"stage {stage}: the kernel ended a process, most likely for memory{_limit()}", field=FIELD, mend=MEND
    )


def exhausted(stage: str) -> OutOfMemory:
    """The error for an allocation that failed during a stage."""
    return OutOfMemory(f"stage {stage}: memory ran out{_limit()}", field=FIELD, mend=MEND)


def is_exhaustion(error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, says that memory could not be had."""
    return any(isinstance(e, MemoryError) or any(w in str(e) for w in ALLOCATION_FAILED) for e in chain(error))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and all it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _limit() -> str:
    limits = [found for folder in cgroup_folders() if (found := memory_limit(folder)) is not None]
    return f"; the container's limit is {bytes_text(min(limits))}" if limits else ""
