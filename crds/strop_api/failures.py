"""The failure table: cause, how it shows, what the Job does about it, what the status says, whether it is retried."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from strop_api.reasons import Reason
from strop_api.result import Outcome


class ExitCode(IntEnum):
    """Exit codes of `strop run` and of the worker's container."""

    PUBLISHED = 0
    FAILED = 1
    USAGE = 2
    GATE_MISSED = 10
    INVALID_INPUT = 11
    STORE_FAILED = 12
    UNSUPPORTED = 13
    DISK_FULL = 14
    NOT_MEASURED = 15
    EVICTED = 42
    OUT_OF_MEMORY = 137
    """As if the kernel had killed the container's own process, and not only one that it started."""


class PolicyAction(StrEnum):
    """What the Job's podFailurePolicy does; COUNT uses up one of the retries."""

    IGNORE = "Ignore"
    COUNT = "Count"
    FAIL_JOB = "FailJob"


@dataclass(frozen=True)
class Failure:
    """One row: a cause and its treatment. Exactly one of the ways it shows is set."""

    cause: str
    reason: Reason
    action: PolicyAction
    exit_code: ExitCode | None = None
    pod_condition: str | None = None
    terminated_reason: str | None = None
    pod_reason: str | None = None
    job_reason: str | None = None


TABLE: tuple[Failure, ...] = (
    Failure("the pod was disrupted", Reason.RETRYING, PolicyAction.IGNORE, pod_condition="DisruptionTarget"),
    Failure("a gate was missed", Reason.GATE_MISSED, PolicyAction.FAIL_JOB, exit_code=ExitCode.GATE_MISSED),
    Failure(
        "input is not as the spec says", Reason.INVALID_INPUT, PolicyAction.FAIL_JOB, exit_code=ExitCode.INVALID_INPUT
    ),
    Failure("this worker cannot do it", Reason.UNSUPPORTED, PolicyAction.FAIL_JOB, exit_code=ExitCode.UNSUPPORTED),
    Failure("built, not measured", Reason.NOT_MEASURED, PolicyAction.FAIL_JOB, exit_code=ExitCode.NOT_MEASURED),
    Failure("scratch is full", Reason.DISK_FULL, PolicyAction.FAIL_JOB, exit_code=ExitCode.DISK_FULL),
    Failure("the store or network failed", Reason.STORE_FAILED, PolicyAction.COUNT, exit_code=ExitCode.STORE_FAILED),
    Failure("the pod's storage was used up", Reason.DISK_FULL, PolicyAction.COUNT, pod_reason="Evicted"),
    Failure("the worker left after SIGTERM", Reason.RETRYING, PolicyAction.IGNORE, exit_code=ExitCode.EVICTED),
    Failure("out of memory", Reason.OUT_OF_MEMORY, PolicyAction.FAIL_JOB, terminated_reason="OOMKilled"),
    Failure("the deadline passed", Reason.DEADLINE_EXCEEDED, PolicyAction.FAIL_JOB, job_reason="DeadlineExceeded"),
    Failure("anything else", Reason.WORKER_FAILED, PolicyAction.COUNT, exit_code=ExitCode.FAILED),
)
"""In order: the first row that matches a pod explains it. A SIGKILL for memory shows as exit code 137. A pod that
outgrew its own volumes is evicted without being disrupted, and its worker leaves as after any SIGTERM."""

OOM_EXIT_CODE = int(ExitCode.OUT_OF_MEMORY)

OUTCOME_EXIT_CODES: dict[Outcome, ExitCode] = {
    Outcome.PUBLISHED: ExitCode.PUBLISHED,
    Outcome.GATE_MISSED: ExitCode.GATE_MISSED,
    Outcome.NOT_MEASURED: ExitCode.NOT_MEASURED,
    Outcome.INVALID_INPUT: ExitCode.INVALID_INPUT,
    Outcome.UNSUPPORTED: ExitCode.UNSUPPORTED,
    Outcome.STORE_FAILED: ExitCode.STORE_FAILED,
    Outcome.DISK_FULL: ExitCode.DISK_FULL,
    Outcome.OUT_OF_MEMORY: ExitCode.OUT_OF_MEMORY,
    Outcome.EVICTED: ExitCode.EVICTED,
    Outcome.FAILED: ExitCode.FAILED,
}
