"""The support table: what each runtime takes. Admission, the quantizer's format, docs and plan are made from it."""

from dataclasses import dataclass
from enum import StrEnum

from strop_api.model import Metric, ModelFormat, TaskType
from strop_api.steps import Calibrator, Precision, QuantizeMethod, StepType
from strop_api.targets import OnDelete, OutputFormat, Runtime


class IntegerFormat(StrEnum):
    """Activation and weight types of an INT8 graph; decided by the runtime, never by the user."""

    U8S8 = "U8S8"
    S8S8 = "S8S8"


@dataclass(frozen=True)
class Quantization:
    """A precision and a method that go together."""

    precision: Precision
    method: QuantizeMethod


P, M = Precision, QuantizeMethod

QUANTIZATIONS: dict[Runtime, tuple[Quantization, ...]] = {
    Runtime.ONNX_RUNTIME: (
        Quantization(P.INT8, M.STATIC),
        Quantization(P.INT8, M.DYNAMIC),
        Quantization(P.INT8, M.QAT),
        Quantization(P.INT8, M.AUTO),
        Quantization(P.FP16, M.CAST),
        Quantization(P.INT4, M.WEIGHT_ONLY),
    ),
    Runtime.OPENVINO: (
        Quantization(P.INT8, M.STATIC),
        Quantization(P.INT8, M.QAT),
        Quantization(P.INT8, M.AUTO),
        Quantization(P.FP16, M.CAST),
        Quantization(P.INT4, M.WEIGHT_ONLY),
    ),
    Runtime.TENSORRT: (
        Quantization(P.INT8, M.STATIC),
        Quantization(P.INT8, M.QAT),
        Quantization(P.INT8, M.AUTO),
        Quantization(P.FP16, M.CAST),
        Quantization(P.BF16, M.CAST),
        Quantization(P.FP8, M.STATIC),
        Quantization(P.INT4, M.WEIGHT_ONLY),
    ),
    Runtime.TENSORRT_RTX: (
        Quantization(P.INT8, M.STATIC),
        Quantization(P.INT8, M.QAT),
        Quantization(P.FP16, M.CAST),
        Quantization(P.BF16, M.CAST),
        Quantization(P.FP8, M.STATIC),
    ),
    Runtime.INDUCTOR: (
        Quantization(P.INT8, M.STATIC),
        Quantization(P.INT8, M.QAT),
        Quantization(P.BF16, M.CAST),
    ),
}

INTEGER_FORMATS: dict[Runtime, IntegerFormat] = {
    Runtime.ONNX_RUNTIME: IntegerFormat.U8S8,
    Runtime.OPENVINO: IntegerFormat.U8S8,
    Runtime.TENSORRT: IntegerFormat.S8S8,
    Runtime.TENSORRT_RTX: IntegerFormat.S8S8,
    Runtime.INDUCTOR: IntegerFormat.U8S8,
}
"""On an accelerator or on arm64 ONNX Runtime takes S8S8: see `integer_format`."""

OUTPUTS: dict[Runtime, tuple[OutputFormat, ...]] = {
    Runtime.ONNX_RUNTIME: tuple(OutputFormat),
    Runtime.OPENVINO: tuple(OutputFormat),
    Runtime.TENSORRT: tuple(OutputFormat),
    Runtime.TENSORRT_RTX: (OutputFormat.ENGINE, OutputFormat.ONNX, OutputFormat.OCI),
    Runtime.INDUCTOR: (OutputFormat.ENGINE, OutputFormat.OCI),
}

SOURCES: dict[Runtime, tuple[ModelFormat, ...]] = {
    Runtime.ONNX_RUNTIME: tuple(ModelFormat),
    Runtime.OPENVINO: tuple(ModelFormat),
    Runtime.TENSORRT: tuple(ModelFormat),
    Runtime.TENSORRT_RTX: tuple(ModelFormat),
    Runtime.INDUCTOR: (ModelFormat.SAFETENSORS, ModelFormat.TORCH_EXPORT),
}


@dataclass(frozen=True)
class Capabilities:
    """What one build of the worker can do; asking for more is refused by name, never skipped."""

    runtimes: frozenset[Runtime]
    step_types: frozenset[StepType]
    quantizations: frozenset[Quantization]
    output_formats: frozenset[OutputFormat]
    gates: frozenset[str]
    sources: frozenset[ModelFormat]
    targets: int
    calibrators: frozenset[Calibrator] = frozenset(Calibrator)
    smooth_quant: bool = True
    tasks: frozenset[TaskType] = frozenset(TaskType)
    metrics: frozenset[Metric] = frozenset(Metric)
    schemes: frozenset[str] = frozenset({"s3", "hf", "pvc", "oci", "file"})
    code: bool = True
    """Architecture sources by uri."""
    data: frozenset[str] = frozenset({"calibration", "training", "validation", "evaluation"})
    """Sets of `spec.data` that something reads."""
    optional_targets: bool = True
    """Targets that do not hold back Ready."""
    on_delete: frozenset[OnDelete] = frozenset(OnDelete)
    """What can become of published artifacts."""


THIS_BUILD = Capabilities(
    runtimes=frozenset({Runtime.ONNX_RUNTIME}),
    step_types=frozenset({StepType.QUANTIZE}),
    quantizations=frozenset(
        {Quantization(P.INT8, M.STATIC), Quantization(P.INT8, M.DYNAMIC), Quantization(P.FP16, M.CAST)}
    ),
    output_formats=frozenset({OutputFormat.ENGINE, OutputFormat.ONNX}),
    gates=frozenset({"metric_drop", "metric_min", "speedup", "latency", "size", "fidelity"}),
    sources=frozenset(ModelFormat),
    targets=1,
    calibrators=frozenset({Calibrator.MIN_MAX, Calibrator.ENTROPY, Calibrator.PERCENTILE}),
    smooth_quant=False,
    tasks=frozenset({TaskType.CLASSIFICATION, TaskType.REGRESSION, TaskType.RETRIEVAL, TaskType.CUSTOM}),
    metrics=frozenset(Metric) - {Metric.PERPLEXITY, Metric.MAP},
    schemes=frozenset({"s3", "pvc", "file"}),
    data=frozenset({"calibration", "evaluation"}),
    optional_targets=False,
    on_delete=frozenset({OnDelete.RETAIN}),
)
"""What this release does. The rest of the API is there so that specs, hashes and columns do not change later."""


def integer_format(runtime: Runtime, *, accelerated: bool = False, arch: str = "amd64") -> IntegerFormat:
    """The INT8 format of a target: U8S8 is fast on x86 CPUs, S8S8 on ARM and on accelerators."""
    if accelerated or arch != "amd64":
        return IntegerFormat.S8S8
    return INTEGER_FORMATS[runtime]
