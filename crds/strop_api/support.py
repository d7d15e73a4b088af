"""The support table: what each runtime takes. Admission, the quantizer's format, docs and plan are made from it."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from strop_api.model import Metric, ModelFormat, TaskType
from strop_api.retired import RETIRED, Retired
from strop_api.steps import Calibrator, Precision, QuantizeMethod, StepType
from strop_api.targets import Gates, OutputFormat, Runtime

__all__ = [
    "DEVICE_FORMATS", "EXTRAS", "INTEGER_FORMATS", "LEAST_CAPABILITIES", "METHODS", "NODE_FEATURES", "OUTPUTS",
    "QUANTIZATIONS", "RETIRED", "RTX_CAPABILITIES", "SOURCES", "THIS_BUILD", "TORCH_SOURCES", "VNNI", "Capabilities",
    "IntegerChoice", "IntegerFormat", "Quantization", "Retired", "integer_format", "reduced_range",
]  # fmt: skip


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

METHODS: dict[QuantizeMethod, str] = {
    M.STATIC: "ranges of activations are observed on the calibration set; weights and activations are stored in the "
    "precision",
    M.DYNAMIC: "weights are stored as integers; the range of an activation is taken anew in every call",
    M.CAST: "weights and activations are converted to a shorter floating point format",
    M.WEIGHT_ONLY: "weights are rounded to nearest in groups of `groupSize`, each with its own scale; activations stay "
    "as they are, but on ONNX Runtime, whose product rounds them to 8-bit integers in blocks (`accuracy_level=4`)",
    M.QAT: "the model is trained with rounding simulated",
    M.AUTO: "several recipes are tried on the validation set",
}
"""What each method does."""


@dataclass(frozen=True)
class IntegerChoice:
    """One row of the choice of an INT8 format; the first row that fits a target decides."""

    format: IntegerFormat
    why: str
    runtimes: frozenset[Runtime] = frozenset(Runtime)
    accelerated: bool | None = None
    """Only with (True) or without (False) an accelerator."""
    arches: frozenset[str] = frozenset({"amd64", "arm64"})

    def fits(self, runtime: Runtime, accelerated: bool, arch: str) -> bool:
        """Whether this row speaks of such a target."""
        return runtime in self.runtimes and self.accelerated in (None, accelerated) and arch in self.arches


INTEGER_FORMATS: tuple[IntegerChoice, ...] = (
    IntegerChoice(
        IntegerFormat.S8S8,
        "TensorRT takes symmetric INT8 alone: an unsigned or shifted activation is refused by its parser",
        runtimes=frozenset({Runtime.TENSORRT, Runtime.TENSORRT_RTX}),
    ),
    IntegerChoice(IntegerFormat.S8S8, "the integer units of accelerators take signed operands", accelerated=True),
    IntegerChoice(IntegerFormat.S8S8, "ARM's dot products (SDOT, SMMLA) are signed", arches=frozenset({"arm64"})),
    IntegerChoice(IntegerFormat.U8S8, "x86's dot products (VPDPBUSD, VPMADDUBSW) are unsigned by signed"),
)
"""How an INT8 format is chosen; users never choose it."""

VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instruction sets of amd64 that add products of 8 bits in 32 bits at once, as /proc/cpuinfo names them."""

NODE_FEATURES: dict[str, str] = {
    isa: f"feature.node.kubernetes.io/cpu-cpuid.{flag}"
    for isa, flag in {
        "avx": "AVX", "avx2": "AVX2", "fma": "FMA3", "avx_vnni": "AVXVNNI", "avx512f": "AVX512F",
        "avx512bw": "AVX512BW", "avx512vl": "AVX512VL", "avx512_vnni": "AVX512VNNI", "avx512_bf16": "AVX512BF16",
        "avx512_fp16": "AVX512FP16", "amx_tile": "AMXTILE", "amx_int8": "AMXINT8", "amx_bf16": "AMXBF16",
        "asimd": "ASIMD", "asimddp": "ASIMDDP", "asimdhp": "ASIMDHP", "fphp": "FPHP", "sve": "SVE",
    }.items()
}  # fmt: skip
"""Label that Node Feature Discovery gives a node with an instruction set, by the set's name in /proc/cpuinfo. What its
default configuration leaves out (SSE4.2, F16C) is not here."""

TORCH_SOURCES = (ModelFormat.SAFETENSORS, ModelFormat.TORCH_EXPORT)
"""Formats that hold a torch model, or become one."""

DEVICE_FORMATS = (OutputFormat.LITERT, OutputFormat.CORE_ML)
"""Companions for phones and the like, converted from the torch model; not measured."""

OUTPUTS: dict[Runtime, tuple[OutputFormat, ...]] = {
    Runtime.ONNX_RUNTIME: tuple(OutputFormat),
    Runtime.OPENVINO: tuple(OutputFormat),
    Runtime.TENSORRT: tuple(OutputFormat),
    Runtime.TENSORRT_RTX: (OutputFormat.ENGINE, OutputFormat.ONNX, OutputFormat.OCI, *DEVICE_FORMATS),
    Runtime.INDUCTOR: tuple(wanted for wanted in OutputFormat if wanted is not OutputFormat.ONNX),
}
"""What each runtime can be published as. No Triton backend loads a TensorRT-RTX engine; Inductor starts from a torch
program, so that there is no ONNX graph beside it."""

SOURCES: dict[Runtime, tuple[ModelFormat, ...]] = {
    Runtime.ONNX_RUNTIME: tuple(ModelFormat),
    Runtime.OPENVINO: tuple(ModelFormat),
    Runtime.TENSORRT: tuple(ModelFormat),
    Runtime.TENSORRT_RTX: tuple(ModelFormat),
    Runtime.INDUCTOR: (ModelFormat.SAFETENSORS,),
}
"""What each runtime can be made from. A torch program is code, and Inductor loads it outside of the lock in which a
`.pt2` runs: it takes weights with an architecture of the image alone."""

RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that TensorRT-RTX builds for: no Hopper (9.0) and no data-centre Blackwell (10.0, 10.3)."""

LEAST_CAPABILITIES: dict[Precision, str] = {P.BF16: "8.0", P.FP8: "8.9"}
"""The first compute capability whose devices have a number format; older ones refuse the graph."""

EXTRAS: dict[Runtime, tuple[str, ...]] = {
    Runtime.ONNX_RUNTIME: ("cpu", "cuda"),
    Runtime.OPENVINO: ("openvino",),
    Runtime.TENSORRT: ("tensorrt",),
    Runtime.TENSORRT_RTX: ("rtx",),
    Runtime.INDUCTOR: ("inductor",),
}
"""Extras of the distribution that hold a runtime's libraries; of several, an image has one."""


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
    uncalibrated: frozenset[tuple[Runtime, Calibrator]] = frozenset()
    """Calibrators that a runtime's quantizer lacks."""
    accelerated: frozenset[Runtime] = frozenset(Runtime)
    """Runtimes that use an accelerator."""
    unlocked: frozenset[Runtime] = frozenset()
    """Runtimes that run a model's own code outside of the locked-in process: it must come with the image."""
    integers_on_amd64: frozenset[Runtime] = frozenset()
    """Runtimes whose INT8 runs on amd64 processors alone."""
    data: frozenset[str] = frozenset({"calibration", "training", "validation", "evaluation"})
    """Sets of `spec.data` that something reads."""
    optional_targets: bool = True
    """Targets that do not hold back Ready."""


_LATER = frozenset({M.QAT, M.AUTO})
"""Methods that the API names and this release refuses."""

THIS_BUILD = Capabilities(
    runtimes=frozenset(Runtime),
    step_types=frozenset({StepType.QUANTIZE}),
    quantizations=frozenset(pair for pairs in QUANTIZATIONS.values() for pair in pairs if pair.method not in _LATER),
    output_formats=frozenset(OutputFormat),
    gates=frozenset(Gates.model_fields),
    sources=frozenset(ModelFormat),
    targets=1,
    calibrators=frozenset({Calibrator.MIN_MAX, Calibrator.ENTROPY, Calibrator.PERCENTILE}),
    smooth_quant=False,
    uncalibrated=frozenset({(Runtime.OPENVINO, Calibrator.ENTROPY)}),
    accelerated=frozenset(Runtime) - {Runtime.OPENVINO},
    unlocked=frozenset({Runtime.INDUCTOR}),
    integers_on_amd64=frozenset({Runtime.INDUCTOR}),
    tasks=frozenset({TaskType.CLASSIFICATION, TaskType.REGRESSION, TaskType.RETRIEVAL, TaskType.CUSTOM}),
    metrics=frozenset(Metric) - {Metric.PERPLEXITY, Metric.MAP},
    schemes=frozenset({"s3", "pvc", "file"}),
    data=frozenset({"calibration", "validation", "evaluation"}),
    optional_targets=False,
)
"""What this release does. The rest of the API is there so that specs, hashes and columns do not change later."""


def integer_format(runtime: Runtime, *, accelerated: bool = False, arch: str = "amd64") -> IntegerFormat:
    """The INT8 format of a target: the first row of INTEGER_FORMATS that fits it."""
    return next(row.format for row in INTEGER_FORMATS if row.fits(runtime, accelerated, arch))


def reduced_range(runtime: Runtime, arch: str, isa: Collection[str]) -> bool:
    """Whether weights of an INT8 graph must keep to 7 bits on a CPU with these instruction sets.

    Without VNNI an amd64 CPU multiplies unsigned by signed bytes with VPMADDUBSW, which adds two products in 16 bits
    and saturates: 2 * 255 * 127 does not fit, 2 * 255 * 63 does (Intel SDM, volume 2; the documentation of ONNX
    Runtime's quantizer on `reduce_range`). `isa` holds names of /proc/cpuinfo; what is not named is not there.
    """
    return arch == "amd64" and integer_format(runtime, arch=arch) is IntegerFormat.U8S8 and not VNNI & set(isa)
