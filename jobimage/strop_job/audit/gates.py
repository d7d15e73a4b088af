"""The stage that reckons, before anything costs time, what the asked gates can tell from the evaluation data."""

import json
from collections.abc import Iterator

import numpy as np
from pydantic import JsonValue

from strop_api.checks.evidence import EVALUATION_DUPLICATES
from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_job.audit.facts import as_facts
from strop_job.errors import InvalidInput
from strop_job.judgement.power import drop_power, power_findings
from strop_job.stages import WHOLE_SECONDS, Artifact, ArtifactKind, Stage, StageContext

NAME, NEEDS = "audit-gates", "resolve-evaluation"
FILE = "power.json"
REPEATED = 0.02
"""Share of the samples that may repeat others before it is said: a few do in honest data."""


def audit_gates_stage(spec: ModelOptimizationSpec) -> Stage:
    """Evaluation DATA to a MEASUREMENT: samples, distinct ones and groups are counted, nothing else is looked at.

    Facts: `samples`, `distinct` (by inputs and label: what is reckoned with), `groups` (None: independent), `power` (by
    gate: how often a model that lost nothing passes, and the samples needed), and the findings. Raises InvalidInput for
    a gate that no model could pass.
    """
    return Stage(
        name=NAME,
        kind="AuditGates",
        version=2,
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
    distinct = len(set(samples.row_digests()))
    findings, power = _reckoned(spec, count, distinct, groups), drop_power(spec, distinct)
    told: dict[str, JsonValue] = {
        "samples": count,
        "distinct": distinct,
        "groups": groups,
        "power": [power.facts()] if power else [],
    }
    (context.folder / FILE).write_text(json.dumps(told, sort_keys=True))
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (FILE,), {**told, **as_facts(findings)})


def _reckoned(spec: ModelOptimizationSpec, samples: int, distinct: int, groups: int | None) -> list[Finding]:
    """What distinct samples can tell. A repeat adds nothing, and every interval of the run counts it as a new one."""
    try:
        found = power_findings(spec, distinct, None if groups is None else min(groups, distinct))
    except InvalidInput as error:
        if distinct == samples:
            raise
        words = f"of {samples:,} evaluation samples {distinct:,} are distinct, and {error.message}"
        raise InvalidInput(words, field=error.field, mend=error.mend) from error
    return [*repeats(samples, distinct, groups), *found]


def repeats(samples: int, distinct: int, groups: int | None) -> Iterator[Finding]:
    """More than REPEATED of the samples repeat another one, label and all."""
    if samples - distinct > REPEATED * samples:
        how = "count each repeat as new evidence" + ("" if groups is None else ", but for those of one group")
        yield EVALUATION_DUPLICATES.finding(
            f"{samples:,} evaluation samples, {distinct:,} distinct: intervals and confidences of this run {how}"
        )
