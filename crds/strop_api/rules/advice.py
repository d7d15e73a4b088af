"""Questionable choices: allowed, but said. Each check looks at a spec that passed the rules."""

from collections.abc import Callable, Iterator

from strop_api.base import percent
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.steps import before, types
from strop_api.steps import Precision, QuantizeMethod, StepType
from strop_api.targets import GPU_RUNTIMES, SpeedupOver

FEW_SAMPLES = 100
"""Below this a calibration set seldom shows the range of activations (usual are 100 to 1,000)."""

TURING = "7.5"
"""TensorRT-RTX leaves it out of portable engines by default: what it lacks costs the others speed."""


def warnings(spec: ModelOptimizationSpec) -> list[str]:
    """A sentence for each questionable choice, with the reason; each fits a status's warning."""
    return [warning for check in CHECKS for warning in check(spec)]


def _prune_without_recovery(spec: ModelOptimizationSpec) -> Iterator[str]:
    kinds = types(spec)
    if StepType.PRUNE not in kinds:
        return
    after = kinds[kinds.index(StepType.PRUNE) :]
    if not {StepType.FINE_TUNE, StepType.DISTIL} & set(after):
        yield "spec.steps: nothing recovers what Prune loses; a FineTune or Distil step after it usually does"


def _training_before_prune(spec: ModelOptimizationSpec) -> Iterator[str]:
    trained = {StepType.FINE_TUNE, StepType.DISTIL}
    kinds = types(spec)
    if StepType.PRUNE in kinds and trained & set(kinds[: kinds.index(StepType.PRUNE)]):
        yield "spec.steps: training before Prune is partly lost in it; prune first, then recover"


def _merge_late(spec: ModelOptimizationSpec) -> Iterator[str]:
    if not before(types(spec), {StepType.MERGE}, {StepType.FINE_TUNE, StepType.DISTIL}):
        yield "spec.steps: adapters were trained on the original weights; merge them before other training"


def _prune_before_trying(spec: ModelOptimizationSpec) -> Iterator[str]:
    amounts = [step.prune.amount for step in spec.steps if step.prune is not None]
    if any(percent(amount) >= 0.8 for amount in amounts):
        yield "spec.steps: pruning 80% or more seldom recovers; try quantization alone first"


def _few_calibration_samples(spec: ModelOptimizationSpec) -> Iterator[str]:
    data = spec.data.calibration
    if data is not None and data.samples is not None and data.samples < FEW_SAMPLES:
        yield f"spec.data.calibration.samples: {data.samples} samples seldom show the range of activations"


def _unused_data(spec: ModelOptimizationSpec) -> Iterator[str]:
    methods = {step.quantize.method for step in spec.steps if step.quantize is not None}
    if spec.data.calibration is not None and not methods & {QuantizeMethod.STATIC, QuantizeMethod.AUTO}:
        yield "spec.data.calibration: no step calibrates; the set is not read"


def _fp16_on_a_cpu(spec: ModelOptimizationSpec) -> Iterator[str]:
    on_cpu = [t.name for t in spec.targets if t.accelerator is None and t.runtime not in GPU_RUNTIMES]
    if not on_cpu:
        return
    for step in spec.steps:
        if step.quantize is not None and step.quantize.precision in (Precision.FP16, Precision.BF16):
            yield f"spec.steps: {step.quantize.precision} is seldom faster on a CPU (target {on_cpu[0]}), only smaller"
    if spec.gates.speedup is not None and spec.gates.speedup.over is SpeedupOver.FP16:
        yield "spec.gates.speedup.over: FP16 is slow on a CPU, so the ratio flatters; BestUnquantized does not"


def _point_estimate(spec: ModelOptimizationSpec) -> Iterator[str]:
    samples, drop = spec.data.evaluation.samples, spec.gates.metric_drop
    if samples is not None and samples < 1000 and (drop is None or drop.confidence is None):
        yield (
            f"spec.data.evaluation.samples: {samples} samples leave a wide interval; "
            "set spec.gates.metricDrop.confidence to hold the gate against it"
        )


def _built_not_measured(spec: ModelOptimizationSpec) -> Iterator[str]:
    for index, target in enumerate(spec.targets):
        if target.tensorrt_rtx is not None and target.accelerator is None:
            yield (
                f"spec.targets[{index}].accelerator: without one the engine is built, not measured: the run ends with "
                "NotMeasured, its engine is kept beside the report, and nothing is published"
            )


def _turing_beside_others(spec: ModelOptimizationSpec) -> Iterator[str]:
    for index, target in enumerate(spec.targets):
        asked = target.tensorrt_rtx.compute_capabilities if target.tensorrt_rtx is not None else []
        if TURING in asked and len(asked) > 1:
            yield (
                f"spec.targets[{index}].tensorRTRTX.computeCapabilities: {TURING} holds the newer devices back; give "
                "it a resource of its own"
            )


Check = Callable[[ModelOptimizationSpec], Iterator[str]]

CHECKS: tuple[Check, ...] = (
    _prune_without_recovery,
    _training_before_prune,
    _merge_late,
    _prune_before_trying,
    _few_calibration_samples,
    _unused_data,
    _fp16_on_a_cpu,
    _point_estimate,
    _built_not_measured,
    _turing_beside_others,
)
