"""Where the optimized model will run, and what it must achieve there."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from strop_api.base import ApiModel, Decimal, FolderUri, ListSet, Name, Percent, Quantity, Ratio, Text
from strop_api.retired import Retirable


class Runtime(StrEnum):
    """The runtime that loads the engine."""

    ONNX_RUNTIME = "ONNXRuntime"
    OPENVINO = "OpenVINO"
    TENSORRT = "TensorRT"
    TENSORRT_RTX = "TensorRTRTX"
    INDUCTOR = "Inductor"


GPU_RUNTIMES = frozenset({Runtime.TENSORRT, Runtime.TENSORRT_RTX})
"""Engines of these run on NVIDIA devices alone; TensorRT-RTX can build one without."""


class Accelerator(ApiModel):
    """The device a pod needs, as an extended resource."""

    resource: Annotated[str, Text(253, r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    """Extended resource; a MIG profile has a name of its own, such as `nvidia.com/mig-1g.10gb`."""
    count: Annotated[int, Field(ge=1, le=16)] = 1
    """Devices per pod."""
    product: Annotated[str, Text(63)] | None = None
    """Value of the node label `nvidia.com/gpu.product`; the pod is bound to such nodes."""


class Cpu(ApiModel):
    """The processor family the engine is measured on."""

    arch: Literal["amd64", "arm64"] = "amd64"
    """Value of the node label `kubernetes.io/arch`."""
    isa: Annotated[str, Text(32, r"^[a-z0-9_]+$")] | None = None
    """Instruction set that the node must have, such as `avx512_vnni`; checked in the pod before any work."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads of one inference. By default the container's CPU limit."""


class GraphOptimization(StrEnum):
    """ONNX Runtime's levels."""

    DISABLE = "Disable"
    BASIC = "Basic"
    EXTENDED = "Extended"
    ALL = "All"


class ExecutionProvider(StrEnum):
    """What ONNX Runtime runs on. Another one than was asked for is an error, never a silent fallback."""

    AUTO = "Auto"
    """CUDA with an accelerator, else CPU."""
    CPU = "CPU"
    CUDA = "CUDA"
    TENSORRT = "TensorRT"


class OnnxRuntimeOptions(ApiModel):
    """Options of ONNX Runtime."""

    graph_optimization: GraphOptimization = GraphOptimization.ALL
    """Level of graph optimization when the engine is compiled."""
    provider: ExecutionProvider = ExecutionProvider.AUTO
    """What it runs on. Auto: CUDA with an accelerator, else CPU. One that is not there, or that leaves products and
    convolutions to another, ends the run as Unsupported."""
    memory_arena: bool = True
    """Keep freed memory for the next call: faster, and the peak stays resident."""
    inter_op_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Independent nodes that run at once; above 1 the graph runs in parallel mode."""


class HardwareCompatibility(StrEnum):
    """On which other devices a TensorRT plan also runs; each level costs speed."""

    NONE = "None"
    AMPERE_PLUS = "AmperePlus"
    SAME_COMPUTE_CAPABILITY = "SameComputeCapability"


class TensorRTOptions(ApiModel):
    """Options of TensorRT."""

    workspace: Quantity | None = None
    """Most device memory that a layer may use as scratch. By default all of the device."""
    sparse_weights: bool = False
    """Let kernels use 2:4 sparse weights. The engine's facts count the weights that are; whether it is faster is not
    measured."""
    version_compatible: bool = False
    """The plan also loads in later versions of TensorRT, at some cost in speed; it carries code of its own."""
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    """Devices other than the one it was built on that also take the plan. AmperePlus: compute capability 8.0 and above;
    SameComputeCapability: those of the same one."""
    refittable: bool = False
    """Weights can be replaced in the plan without a build."""
    stripped: bool = False
    """The plan is built without its weights. The ONNX graph is published beside it, and whoever loads the plan refits
    them from there."""
    timing_cache: bool = True
    """Share timings of kernels with other runs on the same device and version."""
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    """How long the builder searches: 0 is the fastest build, 5 the longest search."""
    tf32: bool = True
    """FP32 layers may round their inputs to TF32, as is TensorRT's default."""


ComputeCapability = Annotated[str, Text(8, r"^[0-9]{1,2}\.[0-9]$")]
"""Generation of an NVIDIA device, such as `8.9`."""


class TensorRTRTXOptions(ApiModel):
    """Options of TensorRT-RTX."""

    compute_capabilities: Annotated[list[ComputeCapability], ListSet(8)] = []
    """Build ahead of time for these generations of devices, such as `8.9`; needs no device. Without an accelerator
    beside it the engine is built, not measured, and never published. Empty: for the accelerator that is there."""
    workspace: Quantity | None = None
    """Most device memory that a layer may use as scratch. By default all of the device."""
    sparse_weights: bool = False
    """Let kernels use 2:4 sparse weights. The engine's facts count the weights that are; whether it is faster is not
    measured."""


class PerformanceHint(StrEnum):
    """What OpenVINO tunes its streams and threads for."""

    LATENCY = "Latency"
    THROUGHPUT = "Throughput"


class OpenVINOOptions(ApiModel):
    """Options of OpenVINO."""

    performance_hint: PerformanceHint = PerformanceHint.LATENCY
    """What streams and threads are tuned for. Whatever it says, the benchmark makes one call at a time."""


class InductorOptions(ApiModel):
    """Options of Inductor."""

    max_autotune: bool = False
    """Time several kernels for each operation and keep the fastest: longer builds, at times faster engines."""


class Target(ApiModel):
    """One runtime on one kind of hardware. At most one of `accelerator` and `cpu`; without both it is any CPU, or, for
    TensorRTRTX, what `computeCapabilities` names."""

    name: Name
    """Name of the target, unique in the resource."""
    runtime: Annotated[Runtime, Retirable("spec.targets[].runtime")]
    """The runtime that loads the engine."""
    accelerator: Accelerator | None = None
    """The device it runs on. Required for TensorRT, and for TensorRTRTX without `computeCapabilities`."""
    cpu: Cpu | None = None
    """The processor it runs on."""
    onnx_runtime: OnnxRuntimeOptions | None = None
    """Options of ONNX Runtime; only with that runtime."""
    tensorrt: Annotated[TensorRTOptions | None, Field(alias="tensorRT")] = None
    """Options of TensorRT; only with that runtime."""
    tensorrt_rtx: Annotated[TensorRTRTXOptions | None, Field(alias="tensorRTRTX")] = None
    """Options of TensorRT-RTX; only with that runtime."""
    openvino: Annotated[OpenVINOOptions | None, Field(alias="openVINO")] = None
    """Options of OpenVINO; only with that runtime."""
    inductor: InductorOptions | None = None
    """Options of Inductor; only with that runtime."""
    optional: bool = False
    """An optional target does not hold back Ready."""

    @property
    def node_labels(self) -> dict[str, str]:
        """Labels that a node must have to run this target."""
        labels: dict[str, str] = {} if self.cpu is None else {"kubernetes.io/arch": self.cpu.arch}
        if self.accelerator is not None and self.accelerator.product is not None:
            labels["nvidia.com/gpu.product"] = self.accelerator.product
        return labels


class MetricDropGate(ApiModel):
    """How much worse than the original the metric may be. Exactly one bound."""

    max_points: Decimal | None = None
    """In points of the metric times 100 (accuracy 0.912 to 0.905 is 0.7 points)."""
    max_relative: Percent | None = None
    """As a share of the original's metric."""
    confidence: Percent | None = None
    """Asks for one-sided non-inferiority at this confidence. Without: the point estimate decides."""


class MetricMinGate(ApiModel):
    """The least acceptable metric, in its own unit."""

    min: Decimal
    """Bound (for a metric where smaller is better: the largest value)."""
    confidence: Percent | None = None
    """The one-sided bound of the metric at this confidence must keep to `min`. Without: the point estimate decides."""


class SpeedupOver(StrEnum):
    """What the engine is compared with, on the same runtime and device."""

    ORIGINAL = "Original"
    BEST_UNQUANTIZED = "BestUnquantized"
    FP16 = "FP16"


class SpeedupGate(ApiModel):
    """How much faster the engine must be."""

    min: Ratio
    """Ratio of median latencies, baseline over engine."""
    over: SpeedupOver = SpeedupOver.BEST_UNQUANTIZED
    """The baseline, on the same runtime and device. BestUnquantized: the faster of the original and, where the hardware
    may gain from it, the original cast to FP16 (Inductor: BF16)."""
    confidence: Percent | None = None
    """The lower bound of the bootstrap interval must reach `min`. Without: the point estimate decides."""


class LatencyGate(ApiModel):
    """Bounds on latency at the optimum shape, in microseconds."""

    p50_max_microseconds: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Largest median."""
    p99_max_microseconds: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Largest 99th percentile; needs at least 300 calls."""
    confidence: Percent | None = None
    """The upper bound of each percentile at this confidence, from order statistics, must be within. Without: the point
    estimate decides."""


class ThroughputGate(ApiModel):
    """Bound on throughput."""

    min_per_second: Annotated[int, Field(ge=1, le=2**31 - 1)]
    """Least samples per second at the optimum shape, one call at a time; the point estimate decides."""


class SizeGate(ApiModel):
    """Bound on the size of the engine."""

    max: Quantity
    """Largest size of the engine's file with its external data."""


class PeakMemoryGate(ApiModel):
    """Bound on memory."""

    max: Quantity
    """Largest resident memory of the process (CPU; interpreter and runtime included) or device memory (GPU) over all
    batch sizes that were timed. Where a driver tells no memory by process the gate cannot pass."""


class FidelityGate(ApiModel):
    """How close the engine's outputs must be to the original's on real data. Never called accuracy."""

    cosine_min: Ratio | None = None
    """Least mean cosine similarity."""
    agreement_min: Percent | None = None
    """Least share of samples with the same top class."""
    sqnr_min_decibels: Annotated[int, Field(ge=-100, le=200)] | None = None
    """Least signal-to-quantization-noise ratio."""


class RealisedPrecisionGate(ApiModel):
    """How much of the compute must really run at the asked precision."""

    min: Percent
    """Least share of the multiply-accumulates that run at the precision of the last Quantize step. An engine that
    cannot be inspected does not pass."""


class CalibrationGate(ApiModel):
    """Bound on how much the calibration data differs from the data the model is judged on."""

    max_mismatches: Annotated[int, Field(ge=0, le=64)]
    """Most mismatches that the calibration checks may find. Judged as soon as the data is there: a run that misses it
    ends before anything is quantized or measured."""


class Gates(ApiModel):
    """All must pass; a missed gate fails the run and nothing is published."""

    metric_drop: MetricDropGate | None = None
    """Loss of the metric against the original. With no gate at all: at most 1 point, by the point estimate."""
    metric_min: MetricMinGate | None = None
    """Absolute bound on the metric."""
    speedup: SpeedupGate | None = None
    """Speed against a baseline."""
    latency: LatencyGate | None = None
    """Absolute bounds on latency."""
    throughput: ThroughputGate | None = None
    """Absolute bound on throughput."""
    size: SizeGate | None = None
    """Bound on the engine's size."""
    peak_memory: PeakMemoryGate | None = None
    """Bound on memory."""
    fidelity: FidelityGate | None = None
    """Closeness to the original."""
    realised_precision: RealisedPrecisionGate | None = None
    """Share of compute at the asked precision."""
    calibration: CalibrationGate | None = None
    """Calibration data that is like the evaluation data."""


class Benchmark(ApiModel):
    """How latency is measured."""

    calls: Annotated[int, Field(ge=50, le=1_000_000)] = 400
    """Timed calls per variant at the optimum shape; p99 is reported from 300 on."""
    max_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    """Time for one variant: most of it for latency, up to a quarter for other batch sizes. What did not fit is said."""
    max_age_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] = 604_800
    """A recorded measurement older than this is taken again. 0: always."""
    max_looks: Annotated[int, Field(ge=1, le=5)] = 3
    """A gate on speed with a confidence that the calls leave undecided is looked at again, with as many calls more, up
    to so many times in all. The looks share the error that the confidence leaves."""


class OutputFormat(StrEnum):
    """What is published."""

    ENGINE = "Engine"
    ONNX = "Onnx"
    TRITON = "Triton"
    KSERVE = "KServe"
    OCI = "OCI"
    LITERT = "LiteRT"
    CORE_ML = "CoreML"


class OnDelete(StrEnum):
    """What becomes of the artifacts when the resource is deleted."""

    RETAIN = "Retain"
    """They stay."""
    DELETE = "Delete"
    """The resource has the finalizer `strop.dev/artifacts` from its first run on; when it is deleted, a small Job
    removes what it has published, and only then it goes. The annotation `strop.dev/abandon-artifacts: "true"` lets it
    go at once, and its artifacts stay."""


class Output(ApiModel):
    """Where a run that passed every gate is published."""

    uri: FolderUri
    """Folder. A run is published to `<uri>/<run id>/`, immutable; then `<uri>/current.json` points to it."""
    formats: Annotated[list[Annotated[OutputFormat, Retirable("spec.output.formats[]")]], ListSet(7, min_length=1)] = [
        OutputFormat.ENGINE
    ]
    """What to publish; the engine is always published, listed or not. Onnx: the graph it was compiled from. Triton: a
    model repository. KServe: an InferenceService that serves the repository, which comes with it. OCI: an artifact in
    an image layout. LiteRT and CoreML are converted from the torch model and not measured."""
    on_delete: OnDelete = OnDelete.RETAIN
    """Whether artifacts go with the resource."""
