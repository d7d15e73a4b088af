"""What the operator remembers of objects: small frozen facts, cut out of what the API server sent."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic_core import to_json

from strop_api.errands import ErrandKind
from strop_api.identity import RERUN_ANNOTATION
from strop_api.optimization import KIND
from strop_api.result import TERMINATION_LIMIT_BYTES
from strop_operator.paths import (
    ABANDON_ANNOTATION,
    ATTEMPT_ANNOTATION,
    CONTAINER,
    ERRAND_LABEL,
    ERRAND_RUN_ANNOTATION,
    FAILURES_ANNOTATION,
    IMAGE_ANNOTATION,
    LOST_ANNOTATION,
    RUN_LABEL,
    SPENT_ANNOTATION,
    TARGET_LABEL,
    UID_LABEL,
)

Body = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name of a ModelOptimization."""
MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class ResourceFact:
    """A ModelOptimization; spec and status packed (see `unpacked`), read when they are needed."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    created_at: float
    deleting: bool
    rerun: str
    spec: bytes
    status: bytes
    reason: str = ""
    """The reason of Ready; empty before the first status."""
    ready: bool = False
    finalizers: tuple[str, ...] = ()
    abandoned: bool = False
    """Its artifacts are let be when it goes."""
    stale: str = ""
    """The reason of Stale, while that is true."""
    speedup: float | None = None
    """Of the last run, as its summary says."""
    drop: float | None = None
    """Loss of the metric in points, of the last run."""

    @property
    def key(self) -> Key:
        """Where it is."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class PolicyFact:
    """An OptimizationPolicy."""

    namespace: str
    name: str
    uid: str
    version: int
    spec: bytes
    """Packed."""


@dataclass(frozen=True, slots=True)
class JobFact:
    """A Job of ours; `ended` is Complete or Failed once it is terminal."""

    namespace: str
    name: str
    uid: str
    version: int
    owner_uid: str
    run_id: str
    attempt: int
    image: str
    created_at: float
    deleting: bool = False
    suspended: bool = False
    ended: str = ""
    end_reason: str = ""
    end_message: str = ""
    ended_at: float = 0.0
    started_at: float = 0.0
    """When it was last let run; a queue may hold it back."""
    target: str = ""
    failures: int = 0
    """Failed attempts of the run before this Job."""
    lost: int = 0
    """Lost results of the run before this Job."""
    spent_seconds: int = 0
    """What the run's earlier Jobs took."""
    errand: str = ""
    """The errand's kind; empty for a run's Job."""

    @property
    def seconds(self) -> int:
        """What the run took up to this Job's end; of one that still runs, up to its start."""
        began = self.started_at or self.created_at
        return self.spent_seconds + (max(round(self.ended_at - began), 0) if self.ended else 0)

    @property
    def live(self) -> bool:
        """Whether it may still run a pod."""
        return not self.ended


@dataclass(frozen=True, slots=True)
class PodFact:
    """A pod of one of our Jobs."""

    namespace: str
    name: str
    uid: str
    version: int
    job_uid: str
    owner_uid: str
    created_at: float
    phase: str = "Pending"
    deleting: bool = False
    ip: str = ""
    reason: str = ""
    message: str = ""
    disrupted: str | None = None
    """Message of the DisruptionTarget condition."""
    unschedulable: str | None = None
    """The scheduler's message."""
    scheduled: bool = False
    waiting: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    ended_at: float = 0.0
    """When the worker's container ended, by the node's clock."""
    exit_reason: str = ""
    termination: str = ""
    """The termination message, at most 4,096 bytes."""
    memory_limit: str = ""
    errand: str = ""
    """The errand's kind; empty for a run's pod."""

    @property
    def live(self) -> bool:
        """Whether a process of it may still run."""
        return self.phase not in ("Succeeded", "Failed")


def seconds(text: str | None) -> float:
    """An RFC 3339 time as seconds since 1970; 0 for none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def timestamp(at: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def resource_fact(body: Body) -> ResourceFact:
    """A ModelOptimization's facts."""
    meta, status = body["metadata"], body.get("status") or {}
    annotations, summary = meta.get("annotations") or {}, status.get("summary") or {}
    conditions: dict[str, Body] = {c.get("type"): c for c in status.get("conditions") or []}
    ready, stale = conditions.get("Ready", {}), conditions.get("Stale", {})
    return ResourceFact(
        namespace=shared(meta["namespace"]),
        name=meta["name"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        generation=meta.get("generation", 0),
        created_at=seconds(meta.get("creationTimestamp")),
        deleting="deletionTimestamp" in meta,
        rerun=annotations.get(RERUN_ANNOTATION, "")[:64],
        spec=packed(body.get("spec")),
        status=packed(body.get("status")),
        reason=shared(ready.get("reason", "")),
        ready=ready.get("status") == "True",
        finalizers=tuple(shared(name) for name in meta.get("finalizers") or ()),
        abandoned=annotations.get(ABANDON_ANNOTATION) == "true",
        stale=shared(stale.get("reason", "")) if stale.get("status") == "True" else "",
        speedup=_figure(summary.get("speedup", "").removesuffix("x")),
        drop=_figure(summary.get("drop", "")),
    )


def policy_fact(body: Body) -> PolicyFact:
    """A policy's facts."""
    meta = body["metadata"]
    return PolicyFact(
        meta["namespace"], meta["name"], meta["uid"], int(meta["resourceVersion"]), packed(body.get("spec"))
    )


def job_fact(body: Body) -> JobFact:
    """A Job's facts. Its owner is the ModelOptimization that controls it, or nobody; a clean-up outlives its owner, and
    is known by its labels."""
    meta, status = body["metadata"], body.get("status") or {}
    annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    errand = shared(labels.get(ERRAND_LABEL, ""))
    owner = {"uid": labels.get(UID_LABEL, "")} if errand == ErrandKind.CLEAN_UP else controller(meta, KIND)
    end = next((c for c in _true(status) if c["type"] in ("Complete", "Failed")), {})
    return JobFact(
        namespace=shared(meta["namespace"]),
        name=meta["name"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        owner_uid=owner.get("uid", ""),
        run_id=annotations.get(ERRAND_RUN_ANNOTATION, "") if errand else labels.get(RUN_LABEL, ""),
        attempt=_count(annotations.get(ATTEMPT_ANNOTATION, ""), 1),
        image=shared(annotations.get(IMAGE_ANNOTATION, "")),
        created_at=seconds(meta.get("creationTimestamp")),
        deleting="deletionTimestamp" in meta,
        suspended=bool(body["spec"].get("suspend")),
        ended=shared(end.get("type", "")),
        end_reason=shared(end.get("reason", "")),
        end_message=end.get("message", "")[:MESSAGE_LIMIT],
        ended_at=seconds(end.get("lastTransitionTime")),
        started_at=seconds(status.get("startTime")),
        target=shared(labels.get(TARGET_LABEL, "")),
        failures=_count(annotations.get(FAILURES_ANNOTATION, ""), 0),
        lost=_count(annotations.get(LOST_ANNOTATION, ""), 0),
        spent_seconds=_count(annotations.get(SPENT_ANNOTATION, ""), 0),
        errand=errand,
    )


def pod_fact(body: Body) -> PodFact:
    """A pod's facts; of its containers only the worker counts."""
    meta, status = body["metadata"], body.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    state = _worker(status.get("containerStatuses")).get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    resources = _worker(body["spec"].get("containers")).get("resources") or {}
    return PodFact(
        namespace=shared(meta["namespace"]),
        name=meta["name"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        job_uid=controller(meta, "Job").get("uid", ""),
        owner_uid=(meta.get("labels") or {}).get(UID_LABEL, ""),
        created_at=seconds(meta.get("creationTimestamp")),
        phase=shared(status.get("phase", "Pending")),
        deleting="deletionTimestamp" in meta,
        ip=status.get("podIP", ""),
        reason=status.get("reason", ""),
        message=status.get("message", "")[:MESSAGE_LIMIT],
        disrupted=disrupted.get("message", "") if disrupted.get("status") == "True" else None,
        unschedulable=scheduled.get("message", "")[:MESSAGE_LIMIT] if scheduled.get("status") == "False" else None,
        scheduled=scheduled.get("status") == "True",
        waiting=waiting.get("reason", ""),
        waiting_message=waiting.get("message", "")[:MESSAGE_LIMIT],
        exit_code=ended.get("exitCode"),
        ended_at=seconds(ended.get("finishedAt")),
        exit_reason=ended.get("reason", ""),
        termination=ended.get("message", "")[-TERMINATION_LIMIT_BYTES:],
        memory_limit=shared(str((resources.get("limits") or {}).get("memory", ""))),
        errand=shared((meta.get("labels") or {}).get(ERRAND_LABEL, "")),
    )


def controller(meta: Body, kind: str) -> Body:
    """The owner reference of the controller, when it is of that kind."""
    owners = meta.get("ownerReferences") or []
    return next((o for o in owners if o.get("controller") and o.get("kind") == kind), {})


def _worker(entries: list[Body] | None) -> Body:
    return next((entry for entry in entries or [] if entry.get("name") == CONTAINER), {})


def _true(status: Body) -> list[Body]:
    return [c for c in status.get("conditions") or [] if c.get("status") == "True"]


def _count(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else otherwise


def _figure(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def packed(value: object) -> bytes:
    """A part of an object, as small as it can cheaply be kept; nothing is kept as an empty object."""
    return zlib.compress(to_json(value or {}))


def unpacked(data: bytes) -> bytes:
    """The JSON again."""
    return zlib.decompress(data)


@lru_cache(maxsize=1024)
def shared(text: str) -> str:
    """One string for all that are equal, as long as it comes up often: `sys.intern` never forgets in Python 3.12."""
    return text
