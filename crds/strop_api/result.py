"""What the worker is told and what it answers: the run request, live progress, the result."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from strop_api.base import ApiModel, Digest, Name, Text, Timestamp, Uri
from strop_api.optimization import ModelOptimizationSpec
from strop_api.status import Message, Progress, StageStatus, TargetStatus

REQUEST_ANNOTATION = "strop.dev/request"
"""Annotation of the pod template that holds the RunRequest; mounted as a file by downwardAPI."""
REQUEST_PATH = "/etc/strop/request/request.json"
CREDENTIALS_PATH = "/etc/strop/credentials"
"""Folder with the files `accessKey`, `secretKey` and perhaps `sessionToken`, from the store's Secret."""
SCRATCH_PATH = "/scratch"
TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LIMIT_BYTES = 4096
"""The kubelet keeps the last 4,096 bytes of a termination message."""
PROGRESS_PORT = 8099
PROGRESS_PATH = "/progress"
HEALTH_PATH = "/healthz"
PROGRESS_LIMIT_BYTES = 8192


class StoreAccess(ApiModel):
    """The policy's store without its credentials."""

    endpoint: Annotated[str, Text(512)]
    """Address of the S3 API."""
    region: Annotated[str, Text(64)]
    """Region used in signatures."""
    ca_bundle: Annotated[str, Text(65_536)] | None = None
    """PEM certificates."""
    path_style: bool = True
    """Address buckets by path."""
    records_uri: Uri
    """Where this namespace's blobs and records lie."""


class RunRequest(ApiModel):
    """All a worker is told: `spec.json`."""

    namespace: Name
    """Namespace of the resource."""
    name: Annotated[str, Text(253)]
    """Name of the resource."""
    uid: Annotated[str, Text(64)]
    """UID of the resource: the owner of the pointer that is published."""
    run_id: Annotated[str, Text(32, r"^[0-9a-z-]+$")]
    """Identity of the run."""
    target: Name
    """The target this worker serves."""
    spec: ModelOptimizationSpec
    """The resource's spec at launch."""
    image: Annotated[str, Text(512)]
    """The worker's own image, for provenance."""
    store: StoreAccess
    """The object store."""
    allow_code: bool = False
    """The policy's word on models and sources that are code."""


class ProgressReport(ApiModel):
    """What the supervisor serves at /progress; at most 8 KiB."""

    run_id: Annotated[str, Text(32)]
    """Identity of the run."""
    sequence: Annotated[int, Field(ge=0)]
    """Grows with every change; a smaller one is stale."""
    measuring: bool = False
    """A benchmark runs: do not poll."""
    progress: Progress
    """Stage, percent, message, time left."""


class Outcome(StrEnum):
    """How a worker ended."""

    PUBLISHED = "Published"
    GATE_MISSED = "GateMissed"
    NOT_MEASURED = "NotMeasured"
    INVALID_INPUT = "InvalidInput"
    UNSUPPORTED = "Unsupported"
    STORE_FAILED = "StoreFailed"
    DISK_FULL = "DiskFull"
    EVICTED = "Evicted"
    FAILED = "Failed"


class Result(ApiModel):
    """The termination message: everything the status needs, in 4,096 bytes at worst."""

    run_id: Annotated[str, Text(32)]
    """Identity of the run."""
    outcome: Outcome
    """How it ended."""
    message: Message = ""
    """In words: what was wrong, where in the spec, what would mend it. Cut to fit."""
    field: Annotated[str, Text(256)] | None = None
    """Field of the spec that must change."""
    target: TargetStatus | None = None
    """What was measured."""
    stages: Annotated[list[StageStatus], Field(max_length=64)] = []
    """Stages; dropped first when the message would not fit."""
    warnings: Annotated[list[Annotated[str, Text(256)]], Field(max_length=16)] = []
    """Questionable choices."""
    report: Uri | None = None
    """The HTML report."""
    model_digest: Digest | None = None
    """Digest of the original model."""
    finished_at: Timestamp
    """When the worker ended."""


class StageMark(ApiModel):
    """Written to the termination log at each stage's start, so that a killed container names its last stage."""

    run_id: Annotated[str, Text(32)]
    """Identity of the run."""
    stage: Annotated[str, Text(80)]
    """The stage that began."""
    at: Timestamp
    """When."""


def encode(result: Result) -> bytes:
    """The result as JSON within the termination message's limit; sheds stages, then warnings, then words."""
    for fitted in (
        result,
        result.model_copy(update={"stages": []}),
        result.model_copy(update={"stages": [], "warnings": []}),
        result.model_copy(update={"stages": [], "warnings": [], "message": result.message[:200]}),
        _without_gate_messages(result),
    ):
        data = fitted.model_dump_json(by_alias=True, exclude_defaults=True).encode()
        if len(data) <= TERMINATION_LIMIT_BYTES:
            return data
    raise ValueError(f"a result of {len(data)} bytes does not fit the termination message")


def _without_gate_messages(result: Result) -> Result:
    target = result.target
    if target is not None:
        target = target.model_copy(update={"gates": [g.model_copy(update={"message": ""}) for g in target.gates]})
    return result.model_copy(update={"stages": [], "warnings": [], "message": result.message[:200], "target": target})
