"""Where 16-bit floats may beat FP32: there the best unquantized variant is not known before they were timed as well."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from strop_api.optimization import ModelOptimizationSpec
from strop_api.steps import Precision, QuantizeMethod
from strop_api.support import QUANTIZATIONS
from strop_api.targets import Runtime, SpeedupOver, Target
from strop_job.benchmark.variants import Variant
from strop_job.errors import InvalidInput, Unsupported
from strop_job.hardware import Hardware
from strop_job.judgement.case import asked_precision
from strop_job.stages import Artifact, Stage, StageContext

R, P = Runtime, Precision
HALVES = {Precision.FP16: Variant.FP16, Precision.BF16: Variant.BF16}
"""What each 16-bit float is called among the variants."""


@dataclass(frozen=True)
class Gain:
    """One row: a 16-bit float that may be faster than FP32 somewhere."""

    precision: Precision
    runtimes: frozenset[Runtime]
    why: str
    accelerated: bool = False
    arch: str = ""
    isa: frozenset[str] = frozenset()
    """One of these instruction sets is needed; none: no particular one."""

    def applies(self, target: Target, arch: str, isa: Collection[str]) -> bool:
        """Whether a target on such a machine may gain."""
        if target.runtime not in self.runtimes or self.accelerated is not (target.accelerator is not None):
            return False
        return self.accelerated or (arch == self.arch and (not self.isa or not self.isa.isdisjoint(isa)))


GAINS: tuple[Gain, ...] = (
    Gain(P.FP16, frozenset(R) - {R.INDUCTOR}, "accelerators multiply FP16 faster than FP32", accelerated=True),
    Gain(P.BF16, frozenset({R.INDUCTOR}), "accelerators multiply BF16 faster than FP32", accelerated=True),
    Gain(P.FP16, frozenset({R.ONNX_RUNTIME, R.OPENVINO}), "arm64 has kernels of FP16", arch="arm64"),
    Gain(P.FP16, frozenset({R.OPENVINO}), "AMX multiplies FP16", arch="amd64", isa=frozenset({"amx_fp16"})),
    Gain(
        P.BF16,
        frozenset({R.INDUCTOR}),
        "the processor multiplies BF16",
        arch="amd64",
        isa=frozenset({"avx512_bf16", "amx_bf16"}),
    ),
    Gain(P.BF16, frozenset({R.INDUCTOR}), "the processor multiplies BF16", arch="arm64", isa=frozenset({"bf16"})),
)
"""Everywhere else 16 bits are cast to FP32 before every product: smaller, not faster, and not worth the time."""


@dataclass(frozen=True)
class HalfBaseline:
    """The 16-bit variant that a run times beside the original, or why there is none."""

    precision: Precision | None
    why: str

    @property
    def variant(self) -> Variant | None:
        """Its name among the variants."""
        return HALVES[self.precision] if self.precision else None


def half_baseline(spec: ModelOptimizationSpec, target: Target, hardware: Hardware) -> HalfBaseline:
    """FP16 where a gate names it; otherwise what may be the best unquantized precision of the runtime here."""
    over = spec.gates.speedup.over if spec.gates.speedup is not None else SpeedupOver.BEST_UNQUANTIZED
    if over is SpeedupOver.FP16:
        if _takes(target.runtime, Precision.FP16):
            return HalfBaseline(Precision.FP16, "spec.gates.speedup.over names it")
        return HalfBaseline(None, f"{target.runtime} does not take FP16")
    if over is SpeedupOver.ORIGINAL:
        return HalfBaseline(None, "spec.gates.speedup.over names the original")
    if asked_precision(spec) in HALVES:
        return HalfBaseline(None, "the engine itself is made of 16-bit floats, so the original is what it must beat")
    arch = target.cpu.arch if target.cpu is not None else hardware.arch
    row = next((row for row in GAINS if row.applies(target, arch, hardware.isa)), None)
    if row is None or not _takes(target.runtime, row.precision):
        return HalfBaseline(None, f"{target.runtime} gains no speed from 16-bit floats on this {arch} processor")
    return HalfBaseline(row.precision, row.why)


def without_sparsity(target: Target) -> Target | None:
    """The same target with `sparseWeights` off, to see whether the flag helps; None where it is off already."""
    for name in ("tensorrt", "tensorrt_rtx"):
        options = getattr(target, name)
        if options is not None and options.sparse_weights:
            return target.model_copy(update={name: options.model_copy(update={"sparse_weights": False})})
    return None


def as_baseline(stage: Stage, precision: Precision) -> Stage:
    """The stage that makes the variant; what it cannot do is told of the gate, since no step of the spec asks."""

    def run(context: StageContext) -> Artifact:
        try:
            return stage.run(context)
        except (InvalidInput, Unsupported) as error:
            raise type(error)(
                f"the {precision.upper()} baseline cannot be made: {error.message}",
                field="spec.gates.speedup.over",
                mend="compare over Original",
            ) from error

    return replace(stage, run=run)


def _takes(runtime: Runtime, precision: Precision) -> bool:
    pairs = ((pair.precision, pair.method) for pair in QUANTIZATIONS[runtime])
    return (precision, QuantizeMethod.CAST) in pairs
