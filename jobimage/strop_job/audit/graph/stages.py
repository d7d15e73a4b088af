"""The audits of graphs as stages of a run: each finds, none refuses, and what it found stands in its facts."""

import json
from collections.abc import Iterable
from functools import partial

from pydantic import JsonValue

from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import Target
from strop_job.audit.facts import as_facts
from strop_job.backends import TRAITS
from strop_job.judgement.case import asked_precision
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

EXPORT, VERIFY = "export", "verify"
SHAPES, PRECISION, ZEROS = "audit-shapes", "audit-precision", "audit-zeros"
FINDINGS_FILE = "findings.json"
GRAPH_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "onnx", "numpy")


def audit_shapes_stage(spec: ModelOptimizationSpec, target: Target) -> Stage:
    """The exported graph, run at every size the spec allows and sample by sample, to a MEASUREMENT. Facts: findings."""
    return Stage(
        name=SHAPES,
        kind="AuditShapes",
        version=1,
        run=run_shapes,
        parameters=_interface(spec),
        needs=(EXPORT,),
        libraries=tuple(dict.fromkeys((*GRAPH_LIBRARIES, *_program_libraries(target)))),
        weight=0.3,
    )


def audit_precision_stage(spec: ModelOptimizationSpec, target: Target, last: str, verify: str | None = VERIFY) -> Stage:
    """The quantized graph of stage `last`, and the engine as `verify` inspected it, to a MEASUREMENT. Facts: findings.

    Only for a spec that quantizes. Without `verify`, where an engine is built and not measured, only the graph is read.
    """
    asked = asked_precision(spec)
    needs = (EXPORT, last) if verify is None else (EXPORT, last, verify)
    return Stage(
        name=PRECISION,
        kind="AuditPrecision",
        version=1,
        run=partial(run_precision, last=last, verify=verify),
        parameters={"precision": None if asked is None else asked.value, "runtime": target.runtime.value},
        needs=tuple(dict.fromkeys(needs)),
        libraries=("onnx", "numpy"),
        weight=0.05,
    )


def audit_zeros_stage(spec: ModelOptimizationSpec, target: Target) -> Stage:
    """Zeros in the exported weights, and where there are many what they buy on the target. Facts: findings, `zeros`."""
    return Stage(
        name=ZEROS,
        kind="AuditZeros",
        version=1,
        run=run_zeros,
        parameters={
            **_interface(spec),
            "seed": spec.seed,
            "target": target.model_dump(mode="json", by_alias=True, exclude={"name", "optional"}),
        },
        needs=(EXPORT,),
        libraries=tuple(dict.fromkeys((*GRAPH_LIBRARIES, *TRAITS[target.runtime].libraries))),
        hardware=True,
        weight=0.2,
        measuring=True,
    )


def run_shapes(context: StageContext) -> Artifact:
    """A torch program is run by PyTorch, whatever else by ONNX Runtime with its optimizations off."""
    from strop_job.audit.graph.of_run import exported_findings

    return _kept(context, exported_findings(context, context.inputs[EXPORT]))


def run_precision(context: StageContext, last: str, verify: str | None) -> Artifact:
    """The engine's figures first: they are what was built."""
    from strop_job.audit.graph.of_run import quantized_graph_findings
    from strop_job.audit.graph.precision import precision_findings

    asked = asked_precision(context.spec)
    found: list[Finding] = []
    if asked is not None and verify is not None:
        inspection = context.inputs[verify].facts.get("inspection")
        found += precision_findings(inspection if isinstance(inspection, dict) else {}, asked)
    return _kept(context, [*found, *quantized_graph_findings(context.inputs[last])])


def run_zeros(context: StageContext) -> Artifact:
    """Counts; measures only where zeros are many."""
    from strop_job.audit.graph.of_run import zeros_of_run

    counted, found = zeros_of_run(context, context.inputs[EXPORT])
    return _kept(context, found, zeros=counted)


def _kept(context: StageContext, findings: Iterable[Finding], **facts: JsonValue) -> Artifact:
    """The findings as the stage's facts, and as its file."""
    listed = as_facts(findings)
    (context.folder / FINDINGS_FILE).write_text(json.dumps({**listed, **facts}, indent=1))
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (FINDINGS_FILE,), {**listed, **facts})


def _interface(spec: ModelOptimizationSpec) -> dict[str, JsonValue]:
    return {
        "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in spec.model.inputs],
        "dimensions": [dimension.model_dump(mode="json", by_alias=True) for dimension in spec.model.dimensions],
    }


def _program_libraries(target: Target) -> tuple[str, ...]:
    traits = TRAITS[target.runtime]
    return traits.libraries if traits.starts_from is ArtifactKind.EXPORTED_PROGRAM else ()
