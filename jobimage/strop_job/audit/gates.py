"""The stage that reckons, before anything costs time, what the asked gates can tell from the evaluation data."""

import json

import numpy as np
from pydantic import JsonValue

from strop_api.optimization import ModelOptimizationSpec
from strop_job.audit.facts import as_facts
from strop_job.judgement.power import drop_power, power_findings
from strop_job.stages import WHOLE_SECONDS, Artifact, ArtifactKind, Stage, StageContext

NAME, NEEDS = "audit-gates", "resolve-evaluation"
FILE = "power.json"


def audit_gates_stage(spec: ModelOptimizationSpec) -> Stage:
    """Evaluation DATA to a MEASUREMENT: samples and groups are counted, nothing else of them is looked at.

    Facts: `samples`, `groups` (None: independent), `power` (by gate: how often a model that lost nothing passes, and
    the samples needed), and the findings. Raises InvalidInput for a gate that no model could pass.
    """
    return Stage(
        name=NAME,
        kind="AuditGates",
        version=1,
        run=_run,
        parameters={
            "gates": spec.gates.model_dump(mode="json", by_alias=True, exclude_none=True),
            "task": spec.task.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "evaluation": spec.data.evaluation.model_dump(
                mode="json", by_alias=True, exclude={"uri", "digest"}, exclude_defaults=True
            ),
            "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in spec.model.inputs],
            "calls": spec.benchmark.calls,
            "maxLooks": spec.benchmark.max_looks,
        },
        needs=(NEEDS,),
        weight=0.1,
        silence_seconds=WHOLE_SECONDS,
    )


def _run(context: StageContext) -> Artifact:
    from strop_job.data import open_samples

    spec = context.spec
    samples = open_samples(context.inputs[NEEDS], spec.data.evaluation, spec, "evaluation")
    names = samples.groups()
    count, groups = len(samples), None if names is None else len(np.unique(names))
    context.report(0.0, f"reckoning what {count:,} samples can tell")
    findings, power = power_findings(spec, count, groups), drop_power(spec, count)
    told: dict[str, JsonValue] = {"samples": count, "groups": groups, "power": [power.facts()] if power else []}
    (context.folder / FILE).write_text(json.dumps(told, sort_keys=True))
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (FILE,), {**told, **as_facts(findings)})
