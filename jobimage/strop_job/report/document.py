"""The figures of a report as JSON: a stable schema, camelCase as in the contract. Figures are numbers here."""

from pydantic import JsonValue

from strop_api.base import ApiModel
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
    """Largest resident memory of its process."""
    waiting_cpu_share: float | None = None
    """CPU time over wall time while another variant worked."""


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
    warnings: list[str] = []
    """Questionable choices."""
    notes: list[str] = []
    """What a reader must be told though no gate asked."""
    artifact: ArtifactRef | None = None
    """Present exactly when it was published."""
    provenance: dict[str, JsonValue] = {}
    """As published beside the artifact."""
