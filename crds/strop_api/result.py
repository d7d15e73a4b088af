"""What the worker is told and what it answers: the run request, live progress, the result."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from strop_api.base import ApiModel, Digest, FolderUri, Name, PublishedUri, Text, Timestamp
from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.status import Message, Progress, StageStatus, TargetStatus
from strop_api.told import Told, unknown_as

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
METRICS_PATH = "/metrics"
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
    records_uri: FolderUri
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


class ProgressReport(Told):
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
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    FAILED = "Failed"


class Result(Told):
    """The termination message: everything the status needs, in 4,096 bytes at worst."""

    run_id: Annotated[str, Text(32, r"^[0-9a-z-]+$")]
    """Identity of the run."""
    outcome: Annotated[Outcome, unknown_as(Outcome.FAILED, Outcome)]
    """How it ended."""
    message: Message = ""
    """In words: what was wrong, where in the spec, what would mend it. Cut to fit."""
    field: Annotated[str, Text(256, r"^[ -!#-\[\]-~]+$")] | None = None
    """Field of the spec that must change."""
    target: TargetStatus | None = None
    """What was measured."""
    stages: Annotated[list[StageStatus], Field(max_length=64)] = []
    """Stages; dropped first when the message would not fit."""
    findings: Annotated[list[Finding], Field(max_length=16)] = []
    """What the checks found, worst first."""
    report: PublishedUri | None = None
    """The HTML report."""
    model_digest: Digest | None = None
    """Digest of the original model."""
    finished_at: Timestamp
    """When the worker ended."""


class StageMark(Told):
    """Written to the termination log at each stage's start, so that a killed container names its last stage."""

    run_id: Annotated[str, Text(32)]
    """Identity of the run."""
    stage: Annotated[str, Text(80)]
    """The stage that began."""
    at: Timestamp
    """When."""


def encode(result: Result) -> bytes:
    """The result as JSON within the termination message's limit.

    What does not fit is shed in order: what would mend the findings, stages, all but the three worst findings, the
    gates' words, the findings, all but the start of the message, the gates' intervals, the gates. Without these the
    largest result fits, so this never fails: an engine is published, or it was built and not measured; of a result
    that says both, only what was published is told.
    """
    result = _one_engine(result)
    for shed in (_nothing, _mends, _stages, _milder_findings, _gate_words, _findings):
        result = shed(result)
        if _fits(result):
            return _dump(result)
    for shed in (_nothing, _gate_intervals, _gates):
        result = shed(result)
        if _fits(short := _cut(result)) and (shed is _gates or len(short.message) >= _KEPT_CHARACTERS):
            break
    return _dump(short)


_KEPT_CHARACTERS = 240
"""A message shorter than this helps less than the gates' figures do."""


def _dump(result: Result) -> bytes:
    return result.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def _fits(result: Result) -> bool:
    return len(_dump(result)) <= TERMINATION_LIMIT_BYTES


def _cut(result: Result) -> Result:
    """With the longest start of the message that fits, marked as cut; none when nothing helps."""
    if _fits(result):
        return result
    low, high = 0, len(result.message)
    while low < high:
        middle = (low + high + 1) // 2
        if _fits(_starting(result, middle)):
            low = middle
        else:
            high = middle - 1
    return _starting(result, low)


def _starting(result: Result, characters: int) -> Result:
    return result.model_copy(update={"message": result.message[: characters - 1] + "…" if characters else ""})


def _nothing(result: Result) -> Result:
    return result


def _stages(result: Result) -> Result:
    return result.model_copy(update={"stages": []})


def _mends(result: Result) -> Result:
    """The catalogue knows them by the check's name."""
    return result.model_copy(update={"findings": [f.model_copy(update={"mend": ""}) for f in result.findings]})


def _milder_findings(result: Result) -> Result:
    return result.model_copy(update={"findings": result.findings[:3]})


def _findings(result: Result) -> Result:
    return result.model_copy(update={"findings": []})


def _gate_words(result: Result) -> Result:
    return _each_gate(result, message="")


def _gate_intervals(result: Result) -> Result:
    return _each_gate(result, low=None, high=None)


def _each_gate(result: Result, **changes: str | None) -> Result:
    if result.target is None:
        return result
    gates = [gate.model_copy(update=changes) for gate in result.target.gates]
    return result.model_copy(update={"target": result.target.model_copy(update={"gates": gates})})


def _one_engine(result: Result) -> Result:
    if result.target is None or result.target.artifact is None:
        return result
    return result.model_copy(update={"target": result.target.model_copy(update={"built": None})})


def _gates(result: Result) -> Result:
    if result.target is None:
        return result
    return result.model_copy(update={"target": result.target.model_copy(update={"gates": []})})
