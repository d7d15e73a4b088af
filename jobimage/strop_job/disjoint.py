"""The stage that checks that no sample serves two purposes: a gate judged on data that a step has seen says nothing."""

import json
from collections.abc import Mapping

from pydantic import JsonValue

from strop_api.data import DataSource
from strop_api.optimization import ModelOptimizationSpec
from strop_job.stages import WHOLE_SECONDS, Artifact, ArtifactKind, Stage, StageContext

NAME = "check-data"
FILE = "samples.json"


def disjoint_stage(spec: ModelOptimizationSpec, sources: Mapping[str, DataSource]) -> Stage:
    """DATA of every role to a MEASUREMENT; facts: samples of each role. Raises InvalidInput where two sets overlap."""
    used: dict[str, JsonValue] = {
        role: source.model_dump(mode="json", by_alias=True, exclude={"uri", "digest"}, exclude_defaults=True)
        for role, source in sources.items()
    }
    return Stage(
        name=NAME,
        kind="CheckData",
        version=1,
        run=lambda context: _run(context, sources),
        parameters={
            "sources": used,
            "task": spec.task.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in spec.model.inputs],
        },
        needs=tuple(f"resolve-{role}" for role in sources),
        weight=0.2,
        silence_seconds=WHOLE_SECONDS,
    )


def _run(context: StageContext, sources: Mapping[str, DataSource]) -> Artifact:
    from strop_job.data import check_disjoint, open_samples

    sets = {
        role: open_samples(context.inputs[f"resolve-{role}"], source, context.spec, role)
        for role, source in sources.items()
    }
    context.report(0.0, f"comparing {' and '.join(sets)}")
    check_disjoint(sets)
    counts: dict[str, JsonValue] = {role: len(samples) for role, samples in sets.items()}
    (context.folder / FILE).write_text(json.dumps(counts, sort_keys=True))
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (FILE,), {"samples": counts})
