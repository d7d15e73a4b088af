"""Questionable choices: allowed, but said. Each check looks at a spec that passed the rules.

Here are those of steps and targets; those of gates, data, hardware and training stand in `golden`.
"""

from collections.abc import Callable, Iterator

from strop_api.base import percent
from strop_api.checks import spec as checks
from strop_api.checks.check import worst_first
from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.golden import GOLDEN
from strop_api.rules.steps import before, types
from strop_api.steps import Precision, QuantizeMethod, StepType
from strop_api.targets import GPU_RUNTIMES, Runtime, SpeedupOver, Target

FEW_SAMPLES = 100
"""Below this a calibration set seldom shows the range of activations (usual are 100 to 1,000)."""

HALVES = {
    Precision.BF16: frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    Precision.FP16: frozenset({"avx512_fp16", "amx_fp16", "fphp", "asimdhp", "sve", "sve2"}),
}
"""Instruction sets that multiply in 16 bits, as /proc/cpuinfo names them on amd64 and arm64."""
USING_HALVES = frozenset({Runtime.OPENVINO, Runtime.INDUCTOR})
"""Runtimes whose kernels for processors use them; ONNX Runtime casts to 32 bits and back."""

TURING = "7.5"
"""TensorRT-RTX leaves it out of portable engines by default: what it lacks costs the others speed."""


def findings(spec: ModelOptimizationSpec) -> list[Finding]:
    """One for each questionable choice, worst first."""
    return worst_first(found for advice in ADVICE for found in advice(spec))


def _prune_without_recovery(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    kinds = types(spec)
    if StepType.PRUNE not in kinds:
        return
    after = kinds[kinds.index(StepType.PRUNE) :]
    if not {StepType.FINE_TUNE, StepType.DISTIL} & set(after):
        yield checks.PRUNE_WITHOUT_RECOVERY.finding("spec.steps: nothing recovers what Prune loses")


def _training_before_prune(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    trained = {StepType.FINE_TUNE, StepType.DISTIL}
    kinds = types(spec)
    if StepType.PRUNE in kinds and trained & set(kinds[: kinds.index(StepType.PRUNE)]):
        yield checks.TRAINING_BEFORE_PRUNE.finding("spec.steps: training before Prune is partly lost in it")


def _merge_late(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    if not before(types(spec), {StepType.MERGE}, {StepType.FINE_TUNE, StepType.DISTIL}):
        yield checks.MERGE_AFTER_TRAINING.finding("spec.steps: adapters were trained on the original weights")


def _prune_before_trying(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    amounts = [step.prune.amount for step in spec.steps if step.prune is not None]
    if any(percent(amount) >= 0.8 for amount in amounts):
        yield checks.PRUNE_MOST.finding("spec.steps: pruning 80% or more seldom recovers")


def _few_calibration_samples(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    data = spec.data.calibration
    if data is not None and data.samples is not None and data.samples < FEW_SAMPLES:
        yield checks.FEW_CALIBRATION_SAMPLES.finding(
            f"spec.data.calibration.samples: {data.samples} samples seldom show the range of activations"
        )


def _unused_data(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    methods = {step.quantize.method for step in spec.steps if step.quantize is not None}
    if spec.data.calibration is not None and not methods & {QuantizeMethod.STATIC, QuantizeMethod.AUTO}:
        yield checks.DATA_UNUSED.finding("spec.data.calibration: no step calibrates; the set is not read")


def _fp16_on_a_cpu(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    on_cpu = [t for t in spec.targets if t.accelerator is None and t.runtime not in GPU_RUNTIMES]
    if not on_cpu:
        return
    for step in spec.steps:
        precision = step.quantize.precision if step.quantize is not None else None
        slow = [t.name for t in on_cpu if precision in HALVES and not _computes_in(t, precision)]
        if slow:
            yield checks.HALF_ON_A_CPU.finding(
                f"spec.steps: {precision} is seldom faster on a CPU (target {slow[0]}), only smaller"
            )
    if spec.gates.speedup is not None and spec.gates.speedup.over is SpeedupOver.FP16:
        yield checks.FLATTERING_BASELINE.finding(
            "spec.gates.speedup.over: FP16 is slow on a CPU, so the ratio flatters"
        )


def _computes_in(target: Target, precision: Precision) -> bool:
    """Whether the processor that the target pins multiplies in this precision, and the runtime lets it."""
    pinned = target.cpu.isa if target.cpu is not None else None
    return target.runtime in USING_HALVES and pinned in HALVES[precision]


def _built_not_measured(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    for index, target in enumerate(spec.targets):
        if target.tensorrt_rtx is not None and target.accelerator is None:
            yield checks.BUILT_NOT_MEASURED.finding(
                f"spec.targets[{index}].accelerator: without one the engine is built, not measured: the run ends with "
                "NotMeasured, its engine is kept beside the report, and nothing is published"
            )


def _turing_beside_others(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    for index, target in enumerate(spec.targets):
        asked = target.tensorrt_rtx.compute_capabilities if target.tensorrt_rtx is not None else []
        if TURING in asked and len(asked) > 1:
            yield checks.TURING_BESIDE_OTHERS.finding(
                f"spec.targets[{index}].tensorRTRTX.computeCapabilities: {TURING} holds the newer devices back"
            )


Advice = Callable[[ModelOptimizationSpec], Iterator[Finding]]

ADVICE: tuple[Advice, ...] = (
    _prune_without_recovery,
    _training_before_prune,
    _merge_late,
    _prune_before_trying,
    _few_calibration_samples,
    _unused_data,
    _fp16_on_a_cpu,
    _built_not_measured,
    _turing_beside_others,
    *GOLDEN,
)
