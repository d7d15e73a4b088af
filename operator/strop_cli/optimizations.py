"""A ModelOptimization as the API server tells it, and what follows from its status: is there an outcome, and which."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from strop_api.failures import ExitCode
from strop_api.identity import RERUN_ANNOTATION
from strop_api.reasons import Reason
from strop_api.status import Condition, ConditionType, ModelOptimizationStatus
from strop_cli.errors import NO_ANSWER, CliError

NO_STATUS = ModelOptimizationStatus()
CODES: Mapping[Reason, int] = {
    Reason.PUBLISHED: ExitCode.PUBLISHED,
    Reason.GATE_MISSED: ExitCode.GATE_MISSED,
    Reason.INVALID_SPEC: ExitCode.INVALID_INPUT,
    Reason.INVALID_INPUT: ExitCode.INVALID_INPUT,
    Reason.STORE_FAILED: ExitCode.STORE_FAILED,
    Reason.UNSUPPORTED: ExitCode.UNSUPPORTED,
    Reason.NOT_ALLOWED: ExitCode.UNSUPPORTED,
    Reason.NO_POLICY: ExitCode.UNSUPPORTED,
    Reason.NAME_CONFLICT: ExitCode.FAILED,
    Reason.DISK_FULL: ExitCode.DISK_FULL,
    Reason.NOT_MEASURED: ExitCode.NOT_MEASURED,
    Reason.EVICTED_TOO_OFTEN: ExitCode.EVICTED,
    Reason.OUT_OF_MEMORY: ExitCode.OUT_OF_MEMORY,
    Reason.DEADLINE_EXCEEDED: ExitCode.FAILED,
    Reason.WORKER_FAILED: ExitCode.FAILED,
}
"""What each outcome ends `strop status` with: as `strop run` does. A reason that is not here is no outcome."""


@dataclass(frozen=True)
class Optimization:
    """One resource."""

    document: Mapping[str, Any]
    status: ModelOptimizationStatus

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._metadata["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self._metadata["namespace"])

    @property
    def uid(self) -> str:
        """Its identity."""
        return str(self._metadata["uid"])

    @property
    def version(self) -> str:
        """Its resourceVersion."""
        return str(self._metadata["resourceVersion"])

    @property
    def created(self) -> str:
        """When it was made."""
        return str(self._metadata["creationTimestamp"])

    @property
    def spec(self) -> Mapping[str, Any]:
        """What is asked for, as a document."""
        found: Mapping[str, Any] = self.document.get("spec") or {}
        return found

    @property
    def rerun(self) -> str:
        """The token of the annotation that asks for another run."""
        return str((self._metadata.get("annotations") or {}).get(RERUN_ANNOTATION, ""))

    @property
    def ready(self) -> Condition | None:
        """The condition that says how it stands; None before the operator has seen it."""
        return self.condition(ConditionType.READY)

    @property
    def _metadata(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.document["metadata"]
        return found

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of that type, where there is one."""
        return next((c for c in self.status.conditions if c.type is kind), None)


def parse(document: Mapping[str, Any]) -> Optimization:
    """From an object of the API. Raises CliError when its status is another release's and cannot be read."""
    try:
        status = ModelOptimizationStatus.model_validate(document.get("status") or {})
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        name = document.get("metadata", {}).get("name")
        words = f"the status of {name} cannot be read: status.{where}: {error.errors()[0]['msg']}"
        raise CliError(words, mend="use the release of strop that the cluster runs") from None
    return Optimization(document, status)


def is_current(found: Optimization) -> bool:
    """Whether the status speaks of what is asked for now: of this generation, and of the re-run, if one was asked."""
    status, ready = found.status, found.ready
    generation = int(found.document["metadata"].get("generation", 0))
    if ready is None or status.observed_generation != generation:
        return False
    asked_again = status.run is not None and status.run.rerun != found.rerun
    # Ready may speak of something that keeps the new run from being: that is news.
    return not (asked_again and status.run is not None and status.run.reason is ready.reason)


def outcome(found: Optimization) -> int | None:
    """The exit code of what the status says in the end; None while nothing is settled."""
    ready = found.ready
    if ready is None or not is_current(found):
        return None
    if ready.reason is Reason.SUSPENDED:
        return NO_ANSWER
    if found.condition(ConditionType.RECONCILING) is not None:
        return None
    code = CODES.get(ready.reason)
    return None if code is None else int(code)
