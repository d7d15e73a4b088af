"""Rules between parts of a spec: what a step, a runtime or an output asks of the rest; made from the support table."""

from collections.abc import Iterable

from strop_api.model import ModelFormat
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.rule import Rule, quoted, words
from strop_api.steps import TORCH_STEPS, TRAINING_STEPS, Precision, PruneSchedule, QuantizeMethod, Step, StepType
from strop_api.support import OUTPUTS, QUANTIZATIONS, SOURCES, Quantization
from strop_api.targets import OutputFormat, Runtime

_TORCH = tuple(kind for kind in StepType if kind in TORCH_STEPS)
_TRAINING = tuple(kind for kind in StepType if kind in TRAINING_STEPS)


def trains(step: Step) -> bool:
    """Whether weights are learnt in it."""
    if step.quantize is not None and step.quantize.method is QuantizeMethod.QAT:
        return True
    if step.prune is not None and step.prune.schedule is PruneSchedule.CUBIC:
        return True
    return step.type in TRAINING_STEPS


def _training_data(spec: ModelOptimizationSpec) -> bool:
    return spec.data.training is not None or not any(trains(step) for step in spec.steps)


def _calibration_data(spec: ModelOptimizationSpec) -> bool:
    methods = {step.quantize.method for step in spec.steps if step.quantize is not None}
    return spec.data.calibration is not None or not methods & {QuantizeMethod.STATIC, QuantizeMethod.AUTO}


def _chooses(step: Step) -> bool:
    trainings = (step.fine_tune, step.distil, step.quantize.training if step.quantize else None)
    early = any(training is not None and training.early_stopping_epochs is not None for training in trainings)
    return early or (step.quantize is not None and step.quantize.method is QuantizeMethod.AUTO)


def _validation_data(spec: ModelOptimizationSpec) -> bool:
    return spec.data.validation is not None or not any(_chooses(step) for step in spec.steps)


def _needs_torch(step: Step) -> bool:
    qat = step.quantize is not None and step.quantize.method is QuantizeMethod.QAT
    return qat or step.type in TORCH_STEPS


def _torch_source(spec: ModelOptimizationSpec) -> bool:
    return spec.model.format is not ModelFormat.ONNX or not any(_needs_torch(step) for step in spec.steps)


_QAT = "(has(s.quantize) && s.quantize.method == 'QAT')"
_EARLY = (
    " || ".join(f"(has(s.{member}) && has(s.{member}.earlyStoppingEpochs))" for member in ("fineTune", "distil"))
    + " || (has(s.quantize) && has(s.quantize.training) && has(s.quantize.training.earlyStoppingEpochs))"
)

NEEDS = (
    Rule(
        "training-data",
        "spec",
        "has(self.data.training) || !has(self.steps) || !self.steps.exists(s, "
        f"s.type in {quoted(_TRAINING)} || {_QAT} || (has(s.prune) && s.prune.schedule == 'Cubic'))",
        _training_data,
        f"{words([*_TRAINING, 'QAT', 'a Cubic schedule'])} learns from data: set spec.data.training",
        ".data.training",
    ),
    Rule(
        "calibration-data",
        "spec",
        "has(self.data.calibration) || !has(self.steps)"
        " || !self.steps.exists(s, has(s.quantize) && s.quantize.method in ['Static', 'Auto'])",
        _calibration_data,
        "method Static or Auto observes ranges on data: set spec.data.calibration, or use method Dynamic",
        ".data.calibration",
    ),
    Rule(
        "validation-data",
        "spec",
        "has(self.data.validation) || !has(self.steps) || !self.steps.exists(s, "
        f"(has(s.quantize) && s.quantize.method == 'Auto') || {_EARLY})",
        _validation_data,
        "method Auto and early stopping choose by data that no gate sees: set spec.data.validation",
        ".data.validation",
    ),
    Rule(
        "torch-source",
        "spec",
        "self.model.format != 'Onnx' || !has(self.steps) || !self.steps.exists(s, "
        f"s.type in {quoted(_TORCH)} || {_QAT})",
        _torch_source,
        f"{words([*_TORCH, 'QAT'])} works on a torch model: give the model as Safetensors or TorchExport",
        ".model.format",
    ),
)


def _table(pairs: Iterable[Quantization]) -> str:
    """`int8 (Static, Dynamic), fp16 (Cast)`."""
    methods: dict[Precision, list[str]] = {}
    for pair in pairs:
        methods.setdefault(pair.precision, []).append(pair.method)
    return ", ".join(f"{precision} ({', '.join(names)})" for precision, names in methods.items())


def _quantizations(runtime: Runtime) -> Rule:
    pairs = QUANTIZATIONS[runtime]

    def holds(spec: ModelOptimizationSpec) -> bool:
        if all(target.runtime is not runtime for target in spec.targets):
            return True
        asked = (step.quantize for step in spec.steps if step.quantize is not None)
        return all(Quantization(step.precision, step.method) in pairs for step in asked)

    return Rule(
        f"quantizations-of-{runtime.lower()}",
        "spec",
        f"!has(self.steps) || !self.targets.exists(t, t.runtime == '{runtime}') || self.steps.all(s, "
        "!has(s.quantize) || (s.quantize.precision + '/' + s.quantize.method) in "
        f"{quoted(f'{p.precision}/{p.method}' for p in pairs)})",
        holds,
        f"{runtime} takes {_table(pairs)}: change the Quantize step, or the target's runtime",
        ".steps",
    )


def _outputs(runtime: Runtime) -> Rule:
    formats = OUTPUTS[runtime]

    def holds(spec: ModelOptimizationSpec) -> bool:
        if all(target.runtime is not runtime for target in spec.targets):
            return True
        return all(wanted in formats for wanted in spec.output.formats)

    return Rule(
        f"outputs-of-{runtime.lower()}",
        "spec",
        f"!self.targets.exists(t, t.runtime == '{runtime}') || self.output.formats.all(f, f in {quoted(formats)})",
        holds,
        f"{runtime} is published as {words(formats)}: remove the other formats, or change the target's runtime",
        ".output.formats",
    )


def _sources(runtime: Runtime) -> Rule:
    formats = SOURCES[runtime]

    def holds(spec: ModelOptimizationSpec) -> bool:
        return spec.model.format in formats or all(target.runtime is not runtime for target in spec.targets)

    return Rule(
        f"sources-of-{runtime.lower()}",
        "spec",
        f"self.model.format in {quoted(formats)} || !self.targets.exists(t, t.runtime == '{runtime}')",
        holds,
        f"{runtime} takes a model as {words(formats)}: give it so, or change the target's runtime",
        ".model.format",
    )


SUPPORT = (
    *(_quantizations(runtime) for runtime in Runtime),
    *(_outputs(runtime) for runtime in Runtime if len(OUTPUTS[runtime]) < len(OutputFormat)),
    *(_sources(runtime) for runtime in Runtime if len(SOURCES[runtime]) < len(ModelFormat)),
)

COMBINATIONS = (*NEEDS, *SUPPORT)
