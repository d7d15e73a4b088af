"""What a run will do, before it does anything: the ordered stages, the findings, and every refusal with its reason.

What the API can express and this build cannot do is refused by name, never skipped.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from strop_api.checks.spec import OTHER_PRODUCT
from strop_api.data import DataSource
from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_api.rules import check_support, findings
from strop_api.rules.rule import Problem
from strop_api.steps import RESERVED, RESERVED_PREFIXES, Precision, QuantizeMethod, QuantizeStep, Step, StepType
from strop_api.support import THIS_BUILD
from strop_api.targets import Target
from strop_job.audit.calibration import audit_calibration_stage
from strop_job.audit.gates import audit_gates_stage
from strop_job.audit.graph import audit_precision_stage, audit_shapes_stage, audit_zeros_stage
from strop_job.backends import TRAITS
from strop_job.baselines import HalfBaseline, as_baseline, half_baseline, without_sparsity
from strop_job.benchmark.variants import Variant
from strop_job.disjoint import disjoint_stage
from strop_job.errors import InvalidInput, Unsupported
from strop_job.handoff import HandOff, hand_off
from strop_job.hardware import Hardware, other_product, this_machine, why_unmeasured
from strop_job.inputs import resolve_data_stage, resolve_model_stage, resolve_source_stage
from strop_job.outcome import BUILT
from strop_job.sources import Reach
from strop_job.stages import ArtifactKind, Stage
from strop_job.steps.benchmark import benchmark_stage
from strop_job.steps.check_graph import check_graph_stage
from strop_job.steps.compile import compile_stage
from strop_job.steps.export import export_stage, refuse_code
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.verify import verify_stage

MODEL, EXPORT, VERIFY, BENCHMARK = "resolve-model", "export", "verify", "benchmark"
COMPILE, COMPILE_ORIGINAL, CODE = "compile", "compile-original", "resolve-source"
COMPILE_DENSE = "compile-dense"
DISJOINT, CHECK_GRAPH = "check-data", "check-graph"
AUDIT_CALIBRATION = "audit-calibration"
YIELDS: Mapping[str, ArtifactKind] = {
    "resolve-model": ArtifactKind.SOURCE,
    "resolve-source": ArtifactKind.SOURCE,
    "resolve-data": ArtifactKind.DATA,
    "CheckData": ArtifactKind.MEASUREMENT,
    "CheckGraph": ArtifactKind.MEASUREMENT,
    "AuditGates": ArtifactKind.MEASUREMENT,
    "AuditCalibration": ArtifactKind.MEASUREMENT,
    "AuditShapes": ArtifactKind.MEASUREMENT,
    "AuditZeros": ArtifactKind.MEASUREMENT,
    "AuditPrecision": ArtifactKind.MEASUREMENT,
    "Compile": ArtifactKind.ENGINE,
    "Verify": ArtifactKind.MEASUREMENT,
    "Benchmark": ArtifactKind.MEASUREMENT,
}
"""What a stage yields, by its kind; of Export and Quantize the runtime decides it, all else makes bundles."""


@dataclass(frozen=True)
class Plan:
    """The stages of one run in the order they are walked; every need of a stage stands before it."""

    request: RunRequest
    stages: tuple[Stage, ...]
    findings: tuple[Finding, ...]
    """What can be said before anything is done: questionable choices, and what is left out."""
    companions: tuple[str, ...] = ()
    """Stages whose files are published beside the engine's."""
    model: str = MODEL
    engine: str = COMPILE
    original: str = COMPILE_ORIGINAL
    verify: str = VERIFY
    benchmark: str = BENCHMARK
    unmeasured: str = ""
    """Why the engine is built here and not measured, in words; empty where it is."""
    notes: tuple[str, ...] = ()
    """What the plan chose by itself, and why."""
    kinds: Mapping[str, ArtifactKind] = field(default_factory=dict)
    """What each stage yields, by its name."""
    looks: tuple[Stage, ...] = ()
    """Further looks at speed, in order; taken only while a gate with a confidence is undecided."""

    @property
    def measurable(self) -> bool:
        """Whether the engine is verified and timed; without that nothing can be published."""
        return not self.unmeasured

    @property
    def graph_check(self) -> str | None:
        """The stage whose figures are of the graph, not of the engine."""
        return next((stage.name for stage in self.stages if stage.name == CHECK_GRAPH), None)

    @property
    def target_index(self) -> int:
        """Position of the target in `spec.targets`."""
        return next(i for i, t in enumerate(self.request.spec.targets) if t.name == self.request.target)

    @property
    def target(self) -> Target:
        """The target this run serves."""
        return self.request.spec.targets[self.target_index]


def make_plan(request: RunRequest, reach: Reach, hardware: Hardware | None = None) -> Plan:
    """The plan of a run. Inputs are looked up (not read), so that an unchanged one has the same key as before.

    What `hardware` (by default this machine) has decides what can be measured, and against what. Raises Unsupported
    with the first thing that cannot be done and its field, before anything is looked up; InvalidInput for a source that
    is not there, or a step named like a stage.
    """
    first = next(iter(refusals(request.spec)), None)
    if first is not None:
        raise Unsupported(first.message, field=first.path)
    refuse_code(request.spec.model, allowed=request.allow_code)
    _check_names(request.spec)
    plan = _assemble(request, reach, hardware or this_machine())
    _check_order(plan.stages)
    return plan


def refusals(spec: ModelOptimizationSpec) -> list[Problem]:
    """Everything the spec asks for that this build cannot do."""
    return list(check_support(spec, THIS_BUILD))


def _assemble(request: RunRequest, reach: Reach, hardware: Hardware) -> Plan:
    spec = request.spec
    target = next(t for t in spec.targets if t.name == request.target)
    made, last = _made(request, reach, target)
    unmeasured, looks = why_unmeasured(target, hardware), tuple[Stage, ...]()
    if unmeasured:
        checks = (check_graph_stage(spec, last),) if last != EXPORT else ()
        stages, follows, half = (*made, *checks), HandOff(), None
    else:
        half = half_baseline(spec, target, hardware)
        follows = _handed_off(request, target, last)
        measured, looks = _measured(spec, target, last, half)
        stages = (*made, *measured, *follows.stages)
    _check_unique(spec, stages)
    return Plan(
        request,
        stages,
        (*findings(spec), *follows.findings, *_of_the_machine(target, hardware)),
        follows.companions,
        unmeasured=unmeasured,
        notes=tuple(_notes(target, unmeasured, half)),
        kinds={stage.name: _yields(stage, target) for stage in stages},
        looks=looks,
    )


def _of_the_machine(target: Target, hardware: Hardware) -> tuple[Finding, ...]:
    other = other_product(target, hardware)
    return (OTHER_PRODUCT.finding(f"{other}: the figures are of the latter"),) if other else ()


def _made(request: RunRequest, reach: Reach, target: Target) -> tuple[tuple[Stage, ...], str]:
    """Everything up to the engine, and the name of the stage whose graph it is compiled from."""
    spec = request.spec
    sources = _sources(spec)
    stages = [resolve_model_stage(spec, reach)]
    if spec.model.architecture is not None and spec.model.architecture.source is not None:
        stages.append(resolve_source_stage(spec.model.architecture.source, reach))
    stages += [resolve_data_stage(role, source, reach) for role, source in sources.items()]
    if len(sources) > 1:
        stages.append(disjoint_stage(spec, sources))
    stages += [audit_gates_stage(spec), export_stage(spec, TRAITS[target.runtime].starts_from)]
    stages += [audit_shapes_stage(spec, target), audit_zeros_stage(spec, target)]
    if "calibration" in sources:
        stages.append(audit_calibration_stage(spec, target))
    last = EXPORT
    for step in spec.steps:
        stages.append(quantize_stage(step, last, spec, target))
        last = step.name
    return (*stages, compile_stage(COMPILE, last, spec, target)), last


def _measured(
    spec: ModelOptimizationSpec, target: Target, last: str, half: HalfBaseline
) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """What the engine is compared with, and the comparing; and the further looks that it may take."""
    stages = [compile_stage(COMPILE_ORIGINAL, EXPORT, spec, target)]
    variants: dict[str, str] = {Variant.OPTIMIZED: COMPILE, Variant.ORIGINAL: COMPILE_ORIGINAL}
    if half.precision is not None and half.variant is not None:
        cast, compiled = f"cast-{half.precision}", f"compile-{half.precision}"
        stages += [
            as_baseline(quantize_stage(_cast(cast, half.precision), EXPORT, spec, target), half.precision),
            compile_stage(compiled, cast, spec, target),
        ]
        variants[half.variant] = compiled
    if (dense := without_sparsity(target)) is not None:
        stages.append(compile_stage(COMPILE_DENSE, last, spec, dense))
        variants[Variant.DENSE] = COMPILE_DENSE
    stages.append(verify_stage(spec, target, last))
    if last != EXPORT:
        stages.append(audit_precision_stage(spec, target, last))
    stages.append(benchmark_stage(variants, spec, target))
    looks = (benchmark_stage(variants, spec, target, look=n) for n in range(2, spec.benchmark.max_looks + 1))
    return tuple(stages), tuple(looks)


def _handed_off(request: RunRequest, target: Target, last: str) -> HandOff:
    """What `output.formats` lists beside the engine."""
    architecture = request.spec.model.architecture
    code = CODE if architecture is not None and architecture.source is not None else None
    return hand_off(request, target, engine=COMPILE, graph=last, export=EXPORT, model=MODEL, code=code)


def _notes(target: Target, unmeasured: str, half: HalfBaseline | None) -> Iterator[str]:
    """What was chosen without being asked."""
    if without_sparsity(target) is not None and not unmeasured:
        yield "a second engine without sparseWeights is timed beside the first: whether the flag helps is measured"
    elif without_sparsity(target) is not None:
        yield "whether sparseWeights helps is not known: that takes a measurement"
    if unmeasured:
        yield f"{BUILT}{unmeasured}"
    if half is not None and half.precision is not None:
        yield f"{half.precision} is timed beside the original: {half.why}"
    elif half is not None:
        yield f"no 16-bit variant is timed: {half.why}"


def _yields(stage: Stage, target: Target) -> ArtifactKind:
    traits = TRAITS[target.runtime]
    if stage.kind == "Export":
        return traits.starts_from
    if stage.kind == "Quantize":
        return traits.quantizes_to
    return YIELDS.get(stage.kind, ArtifactKind.BUNDLE)


def _sources(spec: ModelOptimizationSpec) -> dict[str, DataSource]:
    """The sets this run reads, by their role; a set that no step uses is not fetched."""
    wanted = {"evaluation": spec.data.evaluation}
    if spec.data.calibration is not None and any(_is_static(step) for step in spec.steps):
        wanted["calibration"] = spec.data.calibration
        if spec.data.validation is not None:
            wanted["validation"] = spec.data.validation  # what calibration is held against
    return dict(sorted(wanted.items()))


def _is_static(step: Step) -> bool:
    return step.quantize is not None and step.quantize.method is QuantizeMethod.STATIC


def _cast(name: str, precision: Precision) -> Step:
    """The baseline that halves the precision and does nothing else."""
    cast = QuantizeStep(precision=precision, method=QuantizeMethod.CAST)
    return Step(name=name, type=StepType.QUANTIZE, quantize=cast)


def _check_names(spec: ModelOptimizationSpec) -> None:
    for index, step in enumerate(spec.steps):
        if step.name in RESERVED or step.name.startswith(RESERVED_PREFIXES):
            raise _taken(index, f"{step.name} is the name of a stage of every run")


def _check_unique(spec: ModelOptimizationSpec, stages: tuple[Stage, ...]) -> None:
    """No step is named like a stage that only this run has."""
    names = Counter(stage.name for stage in stages)
    for index, step in enumerate(spec.steps):
        if names[step.name] > 1:
            raise _taken(index, f"{step.name} is the name of a stage of this run")


def _taken(index: int, message: str) -> InvalidInput:
    return InvalidInput(message, field=f"spec.steps[{index}].name", mend="give the step another name")


def _check_order(stages: tuple[Stage, ...]) -> None:
    """Every need stands before its stage and no name twice: a slip in this module, not of the user."""
    seen: set[str] = set()
    for stage in stages:
        missing = set(stage.needs) - seen
        if missing or stage.name in seen:
            raise ValueError(f"stage {stage.name}: out of order or twice (needs {sorted(missing)})")
        seen.add(stage.name)
