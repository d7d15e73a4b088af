"""Questionable choices of gates, data, hardware and training: allowed, but said.

The original needs no check: a run copies it by its digest, compiles and measures it beside the engine, and never writes
where it lies.
"""

import math
from collections.abc import Callable, Iterator

from strop_api.base import percent, quantity
from strop_api.checks import spec as checks
from strop_api.checks import training as training_checks
from strop_api.data import DataSource
from strop_api.findings import Finding, Severity
from strop_api.model import BOUNDED
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.combinations import trains
from strop_api.rules.training import LOWEST_RATE, QAT, RECOVERY, Usual
from strop_api.steps import (
    Calibrator,
    PruneMethod,
    QuantizeMethod,
    Step,
    Training,
)
from strop_api.targets import Gates, MetricDropGate, Runtime, SpeedupOver, Target

Z_95 = 1.96
"""Of the two-sided 95% interval that is shown."""
MUCH_PRUNED = 0.5
"""Share of the weights above which one pass over the data does not recover them."""
LONG = 10
"""Epochs from which the last weights are seldom the best."""
NODE_LABELS = ("nvidia.com/gpu.product", "node.kubernetes.io/instance-type", "kubernetes.io/hostname")
"""Labels of a node that fix its hardware."""


def few_evaluation_samples(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """The interval of the loss is wider than the gate, however good the model is.

    A model that loses exactly the margin m differs from the original on at least a share m of n samples, so that the
    half-width of the paired 95% interval is at least 1.96 sqrt(m / n): above m when n < 1.96**2 / m.
    """
    samples, margin = spec.data.evaluation.samples, _margin(spec)
    drop = spec.gates.metric_drop
    if samples is None or not margin or spec.task.metric not in BOUNDED or (drop and drop.confidence is not None):
        return
    needed = math.ceil(Z_95**2 / margin)
    if samples < needed:
        yield checks.POINT_ESTIMATE.finding(
            f"spec.data.evaluation.samples: {samples} samples leave an interval wider than the {margin * 100:g} points "
            f"of the gate; at least {needed} are needed",
            mend=f"evaluate on {needed:,} samples at least, or widen the bound; then set metricDrop.confidence",
        )


def _margin(spec: ModelOptimizationSpec) -> float | None:
    """The loss that the gate allows, of a metric from 0 to 1; a relative one at most."""
    drop = MetricDropGate(max_points="1.0") if spec.gates == Gates() else spec.gates.metric_drop
    if drop is None:
        return None
    return float(drop.max_points) / 100 if drop.max_points is not None else percent(drop.max_relative or "0%")


def no_metric_gate(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """Gates are given, and none on the metric."""
    gates = spec.gates
    judged = (gates.metric_drop, gates.metric_min, gates.fidelity)
    if gates != Gates() and all(gate is None for gate in judged):
        given = ", ".join(sorted(gates.model_dump(by_alias=True, exclude_none=True)))
        yield checks.NO_METRIC_GATE.finding(f"spec.gates: {given}, and nothing holds {spec.task.metric.value}")


def gate_cannot_fail(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """A loss that no metric can lose, or a similarity that everything has."""
    drop, fidelity = spec.gates.metric_drop, spec.gates.fidelity
    if drop is not None and drop.max_points is not None and float(drop.max_points) >= 100 and _bounded(spec):
        yield checks.GATE_CANNOT_FAIL.finding(
            f"spec.gates.metricDrop.maxPoints: {spec.task.metric.value} has 100 points in all, so {drop.max_points} "
            "cannot be exceeded"
        )
    if drop is not None and drop.max_relative is not None and percent(drop.max_relative) >= 1 and _bounded(spec):
        yield checks.GATE_CANNOT_FAIL.finding(
            f"spec.gates.metricDrop.maxRelative: {drop.max_relative} of {spec.task.metric.value} is all of it"
        )
    if fidelity is not None and fidelity.agreement_min is not None and percent(fidelity.agreement_min) == 0:
        yield checks.GATE_CANNOT_FAIL.finding("spec.gates.fidelity.agreementMin: every model agrees in 0%")


def _bounded(spec: ModelOptimizationSpec) -> bool:
    return spec.task.metric in BOUNDED


def slower_passes(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """A speed-up below 1 is asked for."""
    speedup = spec.gates.speedup
    if speedup is not None and float(speedup.min) < 1:
        yield checks.SLOWER_PASSES.finding(f"spec.gates.speedup.min: {speedup.min} passes a slower model")


def over_full_precision(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """On an accelerator, compared with FP32 alone."""
    speedup = spec.gates.speedup
    on_device = [target.name for target in spec.targets if target.accelerator is not None]
    quantizes = any(step.quantize is not None for step in spec.steps)
    if speedup is not None and speedup.over is SpeedupOver.ORIGINAL and on_device and quantizes:
        yield checks.OVER_FULL_PRECISION.finding(
            f"spec.gates.speedup.over: Original flatters on target {on_device[0]}, where FP16 is fast"
        )


def hardware_not_pinned(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """Absolute bounds on speed, on whatever node the pod lands."""
    gates = [name for name in ("latency", "throughput") if getattr(spec.gates, name) is not None]
    if not gates or any(label in spec.worker.node_selector for label in NODE_LABELS):
        return
    for index, target in enumerate(spec.targets):
        if not _pinned(target):
            member = "accelerator.product" if target.accelerator is not None else "cpu.isa"
            yield checks.HARDWARE_NOT_PINNED.finding(
                f"spec.targets[{index}].{member}: unset, while spec.gates.{gates[0]} bounds an absolute figure"
            )


def _pinned(target: Target) -> bool:
    if target.accelerator is not None:
        return target.accelerator.product is not None
    return target.cpu is not None and target.cpu.isa is not None


def more_threads_than_cores(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """A target's threads against the container's limit, or its request where there is no limit."""
    resources = spec.worker.resources
    cores = resources.limits.cpu or resources.requests.cpu
    side = "limits" if resources.limits.cpu else "requests"
    for index, target in enumerate(spec.targets):
        threads = target.cpu.threads if target.cpu is not None else None
        if cores is not None and threads is not None and threads > quantity(cores):
            yield checks.MORE_THREADS_THAN_CORES.finding(
                f"spec.targets[{index}].cpu.threads: {threads}, and spec.worker.resources.{side}.cpu is {cores}"
            )


def throughput_at_smallest(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """A gate on throughput, with the leading dimension tuned for its smallest size."""
    leading = {str(tensor.shape[0]) for tensor in spec.model.inputs if tensor.shape}
    for index, dimension in enumerate(spec.model.dimensions):
        if spec.gates.throughput is None or dimension.name not in leading:
            continue
        if dimension.opt == dimension.min < dimension.max:
            yield checks.GATED_AT_SMALLEST.finding(
                f"spec.model.dimensions[{index}].opt: throughput is gated at {dimension.name}={dimension.opt}, and up "
                f"to {dimension.max} are served"
            )


def nested_data(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """One set's address lies below another's."""
    sets: dict[str, DataSource] = {
        name: source for name in type(spec.data).model_fields if (source := getattr(spec.data, name)) is not None
    }
    for inner, one in sets.items():
        for outer, other in sets.items():
            if inner != outer and one.uri.startswith(f"{other.uri.rstrip('/')}/"):
                yield checks.NESTED_DATA.finding(f"spec.data.{inner}.uri: lies inside spec.data.{outer}.uri")


def low_percentile(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """The calibrator cuts off a hundredth of what it saw, or more."""
    for index, step in enumerate(spec.steps):
        config = step.quantize
        if config is not None and config.calibrator is Calibrator.PERCENTILE and float(config.percentile) < 99:
            yield checks.LOW_PERCENTILE.finding(
                f"spec.steps[{index}].quantize.percentile: {config.percentile} clips "
                f"{100 - float(config.percentile):.3g}% of the activations"
            )


def zeros_without_speed(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """Weights are set to zero, speed is asked for, and some target does not skip zeros."""
    gates = spec.gates
    if all(gate is None for gate in (gates.speedup, gates.latency, gates.throughput)):
        return
    for index, step in enumerate(spec.steps):
        if step.prune is None or step.prune.method is PruneMethod.STRUCTURED:
            continue
        dense = [t.name for t in spec.targets if not (step.prune.method is PruneMethod.TWO_FOUR and _skips_zeros(t))]
        if dense:
            yield checks.ZEROS_WITHOUT_SPEED.finding(
                f"spec.steps[{index}].prune.method: {step.prune.method} zeros cost target {dense[0]} as much time as "
                "other numbers"
            )


def _skips_zeros(target: Target) -> bool:
    options = target.tensorrt if target.runtime is Runtime.TENSORRT else target.tensorrt_rtx
    return options is not None and options.sparse_weights


def little_recovery(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """Half of the weights or more are pruned, and trained for one epoch in all after it."""
    for index, step in enumerate(spec.steps):
        if step.prune is None or percent(step.prune.amount) < MUCH_PRUNED:
            continue
        after = [t for later in spec.steps[index + 1 :] for t in (later.fine_tune, later.distil) if t is not None]
        epochs = sum(training.epochs for training in after)
        if epochs == 1:
            yield checks.LITTLE_RECOVERY.finding(
                f"spec.steps[{index}].prune.amount: {step.prune.amount} pruned and one epoch of training after it"
            )


def _trainings(spec: ModelOptimizationSpec) -> Iterator[tuple[str, Training, Usual]]:
    """Every training with its field and what is usual for it; QAT without one trains with the defaults."""
    for index, step in enumerate(spec.steps):
        if step.fine_tune is not None:
            yield f"spec.steps[{index}].fineTune", step.fine_tune, RECOVERY
        if step.distil is not None:
            yield f"spec.steps[{index}].distil", step.distil, RECOVERY
        if _is_qat(step):
            yield f"spec.steps[{index}].quantize.training", _of_qat(step), QAT


def _is_qat(step: Step) -> bool:
    return step.quantize is not None and step.quantize.method is QuantizeMethod.QAT


def _of_qat(step: Step) -> Training:
    given = step.quantize.training if step.quantize is not None else None
    return given or Training()


def learning_rates(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """Rates at which a trained model is trained anew, or not at all."""
    for field, training, usual in _trainings(spec):
        rate = float(training.learning_rate)
        if rate > usual.highest_rate:
            yield training_checks.LEARNING_RATE.finding(
                f"{field}.learningRate: {training.learning_rate}, above {usual.highest_rate:g} a model is trained anew"
            )
        elif rate < LOWEST_RATE:
            yield training_checks.LEARNING_RATE.finding(
                f"{field}.learningRate: {training.learning_rate}, below {LOWEST_RATE:g} weights hardly change",
                mend="raise learningRate; 0.00001 to 0.0001 is usual with AdamW",
            )


def epochs(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """More epochs than retraining takes; early stopping makes them harmless."""
    for field, training, usual in _trainings(spec):
        if training.epochs > usual.most_epochs and training.early_stopping_epochs is None:
            yield training_checks.EPOCHS.finding(
                f"{field}.epochs: {training.epochs}, and more than {usual.most_epochs} are seldom needed"
            )
        elif training.epochs >= LONG and training.early_stopping_epochs is None:
            yield checks.NO_EARLY_STOP.finding(f"{field}.earlyStoppingEpochs: unset, with {training.epochs} epochs")


def unwatched_training(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """Weights are learnt, and there is no data to see forgetting on."""
    learning = [step.name for step in spec.steps if trains(step)]
    if learning and spec.data.validation is None:
        qat = any(_is_qat(step) for step in spec.steps)
        yield checks.UNWATCHED_TRAINING.finding(
            f"spec.data.validation: unset, so that nothing watches step {learning[0]} for forgetting",
            severity=None if qat else Severity.MEDIUM,
        )


Golden = Callable[[ModelOptimizationSpec], Iterator[Finding]]

GOLDEN: tuple[Golden, ...] = (
    few_evaluation_samples,
    no_metric_gate,
    gate_cannot_fail,
    slower_passes,
    over_full_precision,
    hardware_not_pinned,
    more_threads_than_cores,
    throughput_at_smallest,
    nested_data,
    low_percentile,
    zeros_without_speed,
    little_recovery,
    learning_rates,
    epochs,
    unwatched_training,
)
"""Of gates, data, hardware, training. Those of the order of steps stand in `advice`."""
