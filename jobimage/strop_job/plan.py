"""What a run will do, before it does anything: the ordered stages, the warnings, and every refusal with its reason.

What the API can express and this build cannot do is refused by name, never skipped.
"""

from dataclasses import dataclass

from strop_api.data import DataSource
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_api.rules import check_support, warnings
from strop_api.rules.rule import Problem
from strop_api.steps import RESERVED, RESERVED_PREFIX, Precision, QuantizeMethod, QuantizeStep, Step, StepType
from strop_api.support import THIS_BUILD
from strop_api.targets import OutputFormat, SpeedupOver, Target
from strop_job.backends import TRAITS
from strop_job.benchmark.variants import Variant
from strop_job.disjoint import disjoint_stage
from strop_job.errors import InvalidInput, Unsupported
from strop_job.inputs import resolve_data_stage, resolve_model_stage, resolve_source_stage
from strop_job.sources import Reach
from strop_job.stages import Stage
from strop_job.steps.benchmark import benchmark_stage
from strop_job.steps.compile import compile_stage
from strop_job.steps.export import export_stage, refuse_code
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.verify import verify_stage

MODEL, EXPORT, VERIFY, BENCHMARK = "resolve-model", "export", "verify", "benchmark"
COMPILE, COMPILE_ORIGINAL, CAST_FP16, COMPILE_FP16 = "compile", "compile-original", "cast-fp16", "compile-fp16"
DISJOINT = "check-data"


@dataclass(frozen=True)
class Plan:
    """The stages of one run in the order they are walked; every need of a stage stands before it."""

    request: RunRequest
    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]
    companions: tuple[str, ...] = ()
    """Stages whose files are published beside the engine's."""
    model: str = MODEL
    engine: str = COMPILE
    original: str = COMPILE_ORIGINAL
    verify: str = VERIFY
    benchmark: str = BENCHMARK

    @property
    def target_index(self) -> int:
        """Position of the target in `spec.targets`."""
        return next(i for i, t in enumerate(self.request.spec.targets) if t.name == self.request.target)

    @property
    def target(self) -> Target:
        """The target this run serves."""
        return self.request.spec.targets[self.target_index]


def make_plan(request: RunRequest, reach: Reach) -> Plan:
    """The plan of a run. Inputs are looked up (not read), so that an unchanged one has the same key as before.

    Raises Unsupported with the first thing that cannot be done and its field, before anything is looked up;
    InvalidInput for a source that is not there, or a step named like a stage.
    """
    first = next(iter(refusals(request.spec)), None)
    if first is not None:
        raise Unsupported(first.message, field=first.path)
    refuse_code(request.spec.model, allowed=request.allow_code)
    _check_names(request.spec)
    plan = _assemble(request, reach)
    _check_order(plan.stages)
    return plan


def refusals(spec: ModelOptimizationSpec) -> list[Problem]:
    """Everything the spec asks for that this build cannot do."""
    return list(check_support(spec, THIS_BUILD))


def _assemble(request: RunRequest, reach: Reach) -> Plan:
    spec = request.spec
    target = next(t for t in spec.targets if t.name == request.target)
    sources = _sources(spec)
    stages = [resolve_model_stage(spec, reach)]
    if spec.model.architecture is not None and spec.model.architecture.source is not None:
        stages.append(resolve_source_stage(spec.model.architecture.source, reach))
    stages += [resolve_data_stage(role, source, reach) for role, source in sources.items()]
    if len(sources) > 1:
        stages.append(disjoint_stage(spec, sources))
    stages.append(export_stage(spec, TRAITS[target.runtime].starts_from))
    last = EXPORT
    for step in spec.steps:
        stages.append(quantize_stage(step, last, spec, target))
        last = step.name
    stages += [compile_stage(COMPILE, last, spec, target), compile_stage(COMPILE_ORIGINAL, EXPORT, spec, target)]
    variants: dict[str, str] = {Variant.OPTIMIZED: COMPILE, Variant.ORIGINAL: COMPILE_ORIGINAL}
    if _wants_fp16(spec, target):
        stages += [quantize_stage(_cast(), EXPORT, spec, target), compile_stage(COMPILE_FP16, CAST_FP16, spec, target)]
        variants[Variant.FP16] = COMPILE_FP16
    stages.append(verify_stage(spec, target, last))
    stages.append(benchmark_stage(variants, spec, target))
    companions = (last,) if OutputFormat.ONNX in spec.output.formats else ()
    return Plan(request, tuple(stages), tuple(warnings(spec)), companions)


def _sources(spec: ModelOptimizationSpec) -> dict[str, DataSource]:
    """The sets this run reads, by their role; a set that no step uses is not fetched."""
    wanted = {"evaluation": spec.data.evaluation}
    if spec.data.calibration is not None and any(_is_static(step) for step in spec.steps):
        wanted["calibration"] = spec.data.calibration
    return dict(sorted(wanted.items()))


def _is_static(step: Step) -> bool:
    return step.quantize is not None and step.quantize.method is QuantizeMethod.STATIC


def _wants_fp16(spec: ModelOptimizationSpec, target: Target) -> bool:
    """FP16 is measured when it is the baseline, or could be the best unquantized one: not on an amd64 CPU."""
    if spec.gates.speedup is None:
        return False
    fast = target.accelerator is not None or (target.cpu is not None and target.cpu.arch == "arm64")
    return spec.gates.speedup.over is SpeedupOver.FP16 or (
        spec.gates.speedup.over is SpeedupOver.BEST_UNQUANTIZED and fast
    )


def _cast() -> Step:
    """The baseline that halves the precision and does nothing else."""
    cast = QuantizeStep(precision=Precision.FP16, method=QuantizeMethod.CAST)
    return Step(name=CAST_FP16, type=StepType.QUANTIZE, quantize=cast)


def _check_names(spec: ModelOptimizationSpec) -> None:
    for index, step in enumerate(spec.steps):
        if step.name in RESERVED or step.name.startswith(RESERVED_PREFIX):
            raise InvalidInput(
                f"{step.name} is the name of a stage of every run",
                field=f"spec.steps[{index}].name",
                mend="give the step another name",
            )


def _check_order(stages: tuple[Stage, ...]) -> None:
    """Every need stands before its stage and no name twice: a slip in this module, not of the user."""
    seen: set[str] = set()
    for stage in stages:
        missing = set(stage.needs) - seen
        if missing or stage.name in seen:
            raise ValueError(f"stage {stage.name}: out of order or twice (needs {sorted(missing)})")
        seen.add(stage.name)
