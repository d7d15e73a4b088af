"""The figures of a report as JSON: a stable schema, camelCase as in the contract. Figures are numbers here."""

from pydantic import JsonValue

from strop_api.base import ApiModel
from strop_api.findings import Finding
from strop_api.result import Outcome
from strop_api.status import ArtifactRef, GateStatus, Latency, MetricFigures, Speedup

FORMAT = 1
"""Raised when a field changes its meaning or goes; new fields do not raise it."""


class RunFacts(ApiModel):
    """Which run this is."""

    id: str
    """Identity of the run."""
    namespace: str
    """Namespace of the resource."""
    name: str
    """Name of the resource."""
    target: str
    """Name of the target."""
    runtime: str
    """The target's runtime."""
    image: str
    """The worker's image."""
    spec_hash: str
    """Digest of the fields that decide the outcome."""
    model_uri: str
    """The original model."""
    finished_at: str
    """When the run ended."""


class VariantFigures(ApiModel):
    """Latency of one variant, in microseconds."""

    name: str
    """`original`, `optimized` or `fp16`."""
    calls: int
    """Timed calls."""
    p50_microseconds: float
    """Median."""
    low_microseconds: float | None = None
    """Lower end of the median's 95% interval."""
    high_microseconds: float | None = None
    """Upper end."""
    p90_microseconds: float
    """90th percentile."""
    p99_microseconds: float | None = None
    """99th percentile; absent below 300 calls."""
    peak_memory_bytes: int | None = None
    """Largest resident memory of its process, over all shapes that it ran."""
    bare_memory_bytes: int | None = None
    """Resident before the engine was loaded, interpreter and runtime imported."""
    peak_device_memory_bytes: int | None = None
    """Largest device memory of its process; absent where the driver does not tell it."""
    copy_in_microseconds: float | None = None
    """Host to device, median; absent where copies were not timed apart."""
    compute_microseconds: float | None = None
    """On the device, median."""
    copy_out_microseconds: float | None = None
    """Device to host, median."""
    cuda_graph: bool | None = None
    """Whether the compute was a replayed CUDA graph."""
    waiting_cpu_share: float | None = None
    """CPU time over wall time while another variant worked."""


class ThroughputFigure(ApiModel):
    """Samples per second of one variant at one batch size, one call at a time."""

    variant: str
    """`original`, `optimized` or `fp16`."""
    batch: int
    """Samples per call."""
    samples_per_second: float
    """Samples over the time of all timed calls."""
    low: float
    """Lower end of the 95% interval."""
    high: float
    """Upper end."""


class SizeFigure(ApiModel):
    """Bytes that a stage yielded."""

    stage: str
    """Name of the stage."""
    label: str
    """In words."""
    size_bytes: int
    """All its files together."""


class StageFigure(ApiModel):
    """One stage of the run."""

    name: str
    """Name of the stage."""
    seconds: float
    """Wall time; for a cached one what it had cost."""
    cached: bool
    """Taken from an earlier record."""
    digest: str
    """Of what it yielded."""


class CalibratedTensor(ApiModel):
    """What was seen of a tensor and what of it is quantized."""

    name: str
    """Of the tensor."""
    minimum: float
    """Smallest value seen."""
    maximum: float
    """Largest value seen."""
    low: float
    """Lower end of the quantized range."""
    high: float
    """Upper end."""
    clipped_share: float = 0.0
    """Share of the values outside the quantized range."""


class Calibration(ApiModel):
    """The ranges one step observed."""

    step: str
    """Name of the step."""
    calibrator: str
    """How ranges were chosen."""
    samples: int
    """Samples observed."""
    tensors: list[CalibratedTensor]
    """Every tensor."""


class ReportDocument(ApiModel):
    """`report.json`. What was not measured is absent."""

    format: int = FORMAT
    """Version of this schema."""
    run: RunFacts
    """Which run."""
    outcome: Outcome
    """How it ended."""
    message: str
    """Why."""
    gates: list[GateStatus] = []
    """Every gate's verdict."""
    metric: MetricFigures | None = None
    """Before and after."""
    metric_method: str = ""
    """How the metric's interval is made."""
    latency: Latency | None = None
    """Of the engine."""
    speedup: Speedup | None = None
    """Over the baseline."""
    variants: list[VariantFigures] = []
    """Latency of everything that was timed."""
    throughput: list[ThroughputFigure] = []
    """By batch size and variant."""
    conditions: dict[str, JsonValue] = {}
    """Under which the latencies hold: threads, spinning, inputs, shapes, rounds."""
    sizes: list[SizeFigure] = []
    """From source to engine."""
    fidelity: dict[str, JsonValue] = {}
    """Closeness to the original's outputs."""
    parity: dict[str, JsonValue] = {}
    """The engine against its own graph."""
    inspection: dict[str, JsonValue] = {}
    """What the engine really computes with."""
    realised_precision: str = ""
    """Share of compute at the asked precision."""
    calibration: list[Calibration] = []
    """Per static quantize step."""
    stages: list[StageFigure] = []
    """As they ran."""
    findings: list[Finding] = []
    """What the checks found, worst first."""
    graph: dict[str, JsonValue] = {}
    """Figures of the graph that was compiled, where the engine could not be run: nothing of them is the engine's."""
    plan: list[str] = []
    """What the plan chose by itself, and why."""
    artifact: ArtifactRef | None = None
    """Present exactly when it was published."""
    built: ArtifactRef | None = None
    """The engine that was built and not measured, kept beside the report."""
    provenance: dict[str, JsonValue] = {}
    """As published beside the artifact."""
