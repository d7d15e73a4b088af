"""What a build of the worker cannot do: valid wishes, refused by name before any work, never skipped."""

from collections.abc import Collection, Iterator
from itertools import product

from strop_api.model import DType, Metric, TaskType
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.rule import Problem, places, words
from strop_api.rules.sources import SETS, URIS
from strop_api.steps import Precision, QuantizeMethod, QuantizeStep
from strop_api.support import Capabilities
from strop_api.targets import Gates, Runtime


def check_support(spec: ModelOptimizationSpec, capabilities: Capabilities) -> list[Problem]:
    """Everything that is asked and that a worker with these capabilities cannot do; empty when it can do all."""
    return [
        *_targets(spec, capabilities),
        *_steps(spec, capabilities),
        *_quantizers(spec, capabilities),
        *_source_and_task(spec, capabilities),
        *_results(spec, capabilities),
    ]


def _targets(spec: ModelOptimizationSpec, able: Capabilities) -> Iterator[Problem]:
    if len(spec.targets) > able.targets:
        yield Problem("spec.targets", f"this release serves {able.targets} target: make one resource for each")
    for index, target in enumerate(spec.targets):
        yield from _lacking(f"spec.targets[{index}].runtime", target.runtime, able.runtimes)
        if target.accelerator is not None and target.runtime not in able.accelerated:
            message = f"{target.runtime} runs on the processor in this release: remove accelerator"
            yield Problem(f"spec.targets[{index}].accelerator", message)
        if target.optional and not able.optional_targets:
            yield Problem(f"spec.targets[{index}].optional", "every target is required in this release: remove it")


def _steps(spec: ModelOptimizationSpec, able: Capabilities) -> Iterator[Problem]:
    for index, step in enumerate(spec.steps):
        yield from _lacking(f"spec.steps[{index}].type", step.type, able.step_types)
        if step.quantize is not None:
            yield from _quantize(step.quantize, f"spec.steps[{index}].quantize", able)


def _quantize(step: QuantizeStep, at: str, able: Capabilities) -> Iterator[Problem]:
    pairs = {f"{pair.precision} {pair.method}" for pair in able.quantizations}
    yield from _lacking(f"{at}.method", f"{step.precision} {step.method}", pairs)
    yield from _lacking(f"{at}.calibrator", step.calibrator, able.calibrators)
    if step.smooth_quant is not None and not able.smooth_quant:
        yield Problem(f"{at}.smoothQuant", "SmoothQuant is not in this release: remove it")


def _quantizers(spec: ModelOptimizationSpec, able: Capabilities) -> Iterator[Problem]:
    """What the quantizer of one runtime cannot do, though another's can."""
    steps = [(at, step.quantize) for at, step in enumerate(spec.steps) if step.quantize is not None]
    for target, (index, quantize) in product(spec.targets, steps):
        at = f"spec.steps[{index}].quantize"
        if quantize.method is QuantizeMethod.STATIC and (target.runtime, quantize.calibrator) in able.uncalibrated:
            has = words(sorted(c for c in able.calibrators if (target.runtime, c) not in able.uncalibrated))
            yield Problem(f"{at}.calibrator", f"{target.runtime}'s quantizer has no {quantize.calibrator}: use {has}")
        elsewhere = target.accelerator is not None or (target.cpu is not None and target.cpu.arch != "amd64")
        if quantize.precision is Precision.INT8 and target.runtime in able.integers_on_amd64 and elsewhere:
            message = f"{target.runtime} computes int8 on amd64 processors alone in this release: change the target"
            yield Problem(f"{at}.precision", message)
        if target.runtime is Runtime.INDUCTOR and quantize.precision is Precision.INT8 and not quantize.per_channel:
            yield Problem(f"{at}.perChannel", "Inductor's int8 kernels take one scale a channel: leave perChannel out")


def _source_and_task(spec: ModelOptimizationSpec, able: Capabilities) -> Iterator[Problem]:
    yield from _lacking("spec.model.format", spec.model.format, able.sources)
    yield from _lacking("spec.task.type", spec.task.type, able.tasks)
    yield from _lacking("spec.task.metric", spec.task.metric, able.metrics)
    if spec.task.metric is Metric.CUSTOM and spec.task.type is not TaskType.CUSTOM:
        yield Problem("spec.task.metric", "a custom metric goes with task type Custom in this release")
    architecture = spec.model.architecture
    own_code = architecture is not None and architecture.source is not None
    if own_code and any(target.runtime in able.unlocked for target in spec.targets):
        message = "Inductor compiles and loads code outside of the lock: put the architecture into the image"
        yield Problem("spec.model.architecture.source", message)
    if own_code and not able.code:
        yield Problem("spec.model.architecture.source", "source by uri is not in this release: put it into the image")
    for name in SETS:
        if getattr(spec.data, name) is not None and name not in able.data:
            yield Problem(f"spec.data.{name}", "no step of this release reads it: remove it")
    yield from _images(spec)
    for scope in URIS:
        for path, uri in places(spec, scope):
            yield from _lacking(path, uri.partition("://")[0], able.schemes)


def _images(spec: ModelOptimizationSpec) -> Iterator[Problem]:
    whole = any(tensor.dtype is DType.UINT8 for tensor in spec.model.inputs)
    for path, image in (pair for name in SETS for pair in places(spec, f"spec.data.{name}.image")):
        if whole and (image.mean, image.std) != (["0"], ["1"]):
            yield Problem(f"{path}.mean", "this release feeds uint8 the pixels as they are: remove mean and std")


def _results(spec: ModelOptimizationSpec, able: Capabilities) -> Iterator[Problem]:
    for wanted in spec.output.formats:
        yield from _lacking("spec.output.formats", wanted, able.output_formats)
    for name, field in Gates.model_fields.items():
        if getattr(spec.gates, name) is not None and name not in able.gates:
            yield Problem(f"spec.gates.{field.alias}", "this gate is not in this release: remove it")


def _lacking(path: str, asked: str, able: Collection[str]) -> Iterator[Problem]:
    """A problem when what is asked is not among what this build has."""
    if asked not in able:
        yield Problem(path, f"{asked} is not in this release; it has {words(sorted(able))}")
