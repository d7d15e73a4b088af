"""What the operator reports. A status never says more than was measured."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from strop_api.base import Digest, ListMap, Name, PublishedUri, Text, Timestamp
from strop_api.findings import Finding
from strop_api.reasons import Reason
from strop_api.told import Told, unknown_as, without_unknown

Message = Annotated[str, Text(2048, min_length=0)]
Figure = Annotated[str, Text(24, r"^-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?$")]
"""A measured figure as a decimal string."""


Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""A number of things, bytes or microseconds; at most what a JSON number holds exactly."""


class ConditionType(StrEnum):
    """Condition types, as kstatus reads them."""

    READY = "Ready"
    """True exactly when every required target has a published artifact that passed its gates for this run."""
    RECONCILING = "Reconciling"
    """Exists, and is True, only while a run is wanted and not finished."""
    STALLED = "Stalled"
    """Exists, and is True, only when nothing will happen until somebody changes something."""
    STALE = "Stale"
    """Exists, and is True, only when what was published has since been overtaken: its source, the worker image or the
    target's runtime is not what it was. Never starts a run."""


class Condition(Told):
    """As metav1.Condition."""

    type: ConditionType
    """Which condition."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Reason
    """Why, from a closed list."""
    message: Message = ""
    """Why, for people."""
    last_transition_time: Timestamp
    """When `status` last changed."""
    observed_generation: Count
    """The generation this was said of."""


class Phase(StrEnum):
    """One word for people; machines read conditions."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Progress(Told):
    """How far the run is; from the worker, patched at stage changes or five points."""

    stage: Annotated[str, Text(80)]
    """The stage that is running."""
    percent: Annotated[int, Field(ge=0, le=100)]
    """Share of the whole run."""
    message: Annotated[str, Text(256, min_length=0)] = ""
    """What the stage is doing."""
    remaining_seconds: Count | None = None
    """Estimated time left; absent while unknown."""


class RunStatus(Told):
    """The current run's identity."""

    id: Annotated[str, Text(32, r"^[0-9a-z-]+$")]
    """Identity of the run: the resource, what was asked, and the re-run token."""
    spec_hash: Digest
    """Digest of the fields that decide the outcome."""
    hash_version: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Version of the rule that made `specHash`."""
    image: Annotated[str, Text(512)]
    """Worker image, by digest."""
    rerun: Annotated[str, Text(64, min_length=0)] = ""
    """Value of the `strop.dev/rerun` annotation that asked for this run."""
    attempt: Annotated[int, Field(ge=1, le=2**53 - 1)] = 1
    """Jobs launched for this run."""
    job: Annotated[str, Text(63)]
    """Name of the Job."""
    pod: Annotated[str, Text(253)] | None = None
    """Name of the newest pod."""
    started_at: Timestamp
    """When the run was launched."""
    finished_at: Timestamp | None = None
    """When its result was recorded."""
    reason: Annotated[Reason | None, unknown_as(Reason.WORKER_FAILED, Reason)] = None
    """How it ended; absent while it has not. `Ready` may since speak of something else."""
    message: Message = ""
    """How it ended, for people."""
    observed_generation: Count | None = None
    """The newest generation of the spec that asks for this run."""
    failures: Count = 0
    """Failed attempts that counted against `retries`, over all Jobs of this run."""
    lost: Count = 0
    """Jobs of this run whose results were lost; they do not count against `retries`."""
    spent_seconds: Count = 0
    """Time that ended Jobs of this run took, of `activeDeadlineSeconds`."""


class StageStatus(Told):
    """One stage of the run, from the worker's result."""

    name: Annotated[str, Text(80)]
    """Name of the stage."""
    seconds: Figure
    """Wall time."""
    cached: bool = False
    """Taken from an earlier record instead of being done."""


class GateVerdict(StrEnum):
    """What a gate said."""

    PASSED = "Passed"
    MISSED = "Missed"
    INCONCLUSIVE = "Inconclusive"
    """A confidence was asked for, and after every look the samples still leave it open. Never passes."""
    NOT_MEASURED = "NotMeasured"


class GateStatus(Told):
    """One gate's verdict, with the figure and the bound it was held against."""

    gate: Annotated[str, Text(64)]
    """Which gate, by its field below `spec.gates`."""
    verdict: Annotated[GateVerdict, unknown_as(GateVerdict.NOT_MEASURED, GateVerdict)]
    """What it said. A gate that could not be measured never passes."""
    measured: Figure | None = None
    """The figure that was held against the bound."""
    bound: Figure | None = None
    """The bound."""
    low: Figure | None = None
    """Lower end of the interval."""
    high: Figure | None = None
    """Upper end of the interval."""
    message: Annotated[str, Text(256, min_length=0)] = ""
    """In words, with units."""


class Latency(Told):
    """Latency of the engine at the optimum shape, in microseconds."""

    p50_microseconds: Count
    """Median."""
    p99_microseconds: Count | None = None
    """99th percentile; absent below 300 calls."""
    calls: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Timed calls."""


class Throughput(Told):
    """Samples that the engine serves in a second, at the batch where it serves most."""

    samples_per_second: Figure
    """Samples a second."""
    batch: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Samples of one call."""


class MetricFigures(Told):
    """The metric on the evaluation data."""

    name: Annotated[str, Text(32)]
    """Which metric."""
    original: Figure
    """Of the original model."""
    optimized: Figure
    """Of the engine."""
    drop_points: Figure
    """Loss times 100; negative when the engine is better."""
    low: Figure | None = None
    """Lower end of the loss's 95% interval, in points."""
    high: Figure | None = None
    """Upper end."""
    samples: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Evaluation samples."""


class Speedup(Told):
    """Ratio of median latencies, baseline over engine."""

    ratio: Figure
    """Point estimate."""
    low: Figure
    """Lower end of the 95% interval."""
    high: Figure
    """Upper end."""
    over: Annotated[str, Text(32)]
    """The baseline."""


class ArtifactRef(Told):
    """An engine in the store."""

    uri: PublishedUri
    """Where it lies."""
    digest: Digest
    """SHA-256 of the engine's file."""
    size_bytes: Count
    """Size of the engine with its external data."""


class TargetVerdict(StrEnum):
    """What became of a target."""

    PUBLISHED = "Published"
    GATE_MISSED = "GateMissed"
    NOT_MEASURED = "NotMeasured"
    """Built, but not on the hardware it is for."""
    FAILED = "Failed"


class TargetStatus(Told):
    """What was measured for one target. A figure that was not measured is absent."""

    name: Name
    """Name of the target."""
    verdict: Annotated[TargetVerdict, unknown_as(TargetVerdict.FAILED, TargetVerdict)]
    """What became of it."""
    artifact: ArtifactRef | None = None
    """Present exactly when it was published."""
    built: ArtifactRef | None = None
    """The engine of verdict NotMeasured: kept beside the report, never at the output."""
    metric: MetricFigures | None = None
    """The metric, before and after."""
    latency: Latency | None = None
    """Latency of the engine."""
    throughput: Throughput | None = None
    """Throughput of the engine."""
    peak_memory_bytes: Count | None = None
    """Largest resident memory (CPU) or device memory (GPU) while serving."""
    speedup: Speedup | None = None
    """Speed against the baseline."""
    realised_precision: Annotated[str, Text(64)] | None = None
    """Share of compute at the asked precision, or how far that was inspected."""
    gates: Annotated[list[GateStatus], Field(max_length=16)] = []
    """Every gate's verdict."""


class Summary(Told):
    """Columns of `kubectl get`."""

    speedup: Annotated[str, Text(16, min_length=0)] = ""
    """Speed-up of the first target, such as `2.31x`."""
    drop: Annotated[str, Text(16, min_length=0)] = ""
    """Metric loss of the first target in points."""
    progress: Annotated[str, Text(96, min_length=0)] = ""
    """Stage and percent."""


class PastRun(Told):
    """An earlier run."""

    id: Annotated[str, Text(32)]
    """Identity of the run."""
    reason: Annotated[Reason, unknown_as(Reason.WORKER_FAILED, Reason)]
    """How it ended."""
    finished_at: Timestamp
    """When."""
    report: PublishedUri | None = None
    """Its report."""


class ModelOptimizationStatus(Told):
    """What is known. Written only by the operator."""

    observed_generation: Annotated[int, Field(ge=-1, le=2**53 - 1)] = -1
    """The generation of the spec this status is about."""
    conditions: Annotated[
        list[Condition], ListMap(8, key="type"), without_unknown(type=ConditionType, reason=Reason)
    ] = []
    """Ready, Reconciling, Stalled, Stale."""
    phase: Annotated[Phase | None, unknown_as(None, Phase)] = None
    """One word for people."""
    run: RunStatus | None = None
    """The current run."""
    progress: Progress | None = None
    """How far it is; absent when nothing runs or nothing is known."""
    stages: Annotated[list[StageStatus], Field(max_length=64)] = []
    """Stages of the finished run."""
    targets: Annotated[list[TargetStatus], ListMap(8)] = []
    """What was measured, per target."""
    findings: Annotated[list[Finding], Field(max_length=16)] = []
    """What the checks found, worst first: traps of data, graph, training and choices. The report has all of them."""
    report: PublishedUri | None = None
    """The HTML report."""
    summary: Summary | None = None
    """Columns of `kubectl get`."""
    runs: Annotated[list[PastRun], Field(max_length=10)] = []
    """Earlier runs, newest first."""
    checked_at: Timestamp | None = None
    """When it was last looked whether what was published is `Stale`; absent when it never was."""
    check_failures: Count | None = None
    """Looks in a row that came to nothing, when there are any: since then `Stale` is not known."""
