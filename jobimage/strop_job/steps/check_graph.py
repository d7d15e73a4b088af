"""The stage `check-graph`: what quantization did to the graph, where the engine made of it cannot run.

Its figures are of the graph, computed on a CPU, and never of the engine: they stand apart in facts and report, and no
gate is held against them.
"""

from contextlib import closing
from functools import partial

from pydantic import JsonValue

from strop_api.optimization import ModelOptimizationSpec
from strop_job.data import open_samples
from strop_job.errors import Unsupported
from strop_job.hardware import this_machine
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext
from strop_job.steps.verify import EVALUATION, EXPORT, SAMPLES_FILE, evaluate_both, metric_facts, save_samples

NAME = "check-graph"
COMPUTED_BY = "ONNX Runtime on a CPU, optimizations off"


def check_graph_stage(spec: ModelOptimizationSpec, last: str) -> Stage:
    """The ONNX graph of stage `last` against the exported one, on evaluation data, to a MEASUREMENT.

    Facts: `graph` {metric, fidelity, computedBy}, or `graph` {note} where a CPU cannot compute it.
    """
    model = spec.model
    return Stage(
        name=NAME,
        kind="CheckGraph",
        version=1,
        run=partial(run_check_graph, last=last),
        parameters={
            "task": spec.task.model_dump(mode="json", by_alias=True),
            "evaluation": spec.data.evaluation.model_dump(mode="json", by_alias=True, exclude={"uri", "digest"}),
            "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in model.inputs],
            "dimensions": [dimension.model_dump(mode="json", by_alias=True) for dimension in model.dimensions],
        },
        needs=tuple(dict.fromkeys((EXPORT, last, EVALUATION))),
        libraries=("onnxruntime", "onnxruntime-gpu", "onnx", "numpy"),
        hardware=True,
        weight=1.0,
    )


def run_check_graph(context: StageContext, last: str) -> Artifact:
    """Both graphs as they are written; what a CPU cannot compute is said, and stops nothing."""
    from strop_job.backends.reference import open_reference

    samples = open_samples(context.inputs[EVALUATION], context.spec.data.evaluation, context.spec, "evaluation")
    threads = this_machine().threads
    try:
        with (
            closing(open_reference(context.inputs[EXPORT], threads=threads)) as original,
            closing(open_reference(context.inputs[last], threads=threads)) as graph,
        ):
            fidelity, before, after = evaluate_both(context, samples, graph, original)
    except Unsupported as error:
        (context.folder / "note.txt").write_text(error.message)
        note = f"the graph could not be computed on a CPU: {error.message}"
        return Artifact(ArtifactKind.MEASUREMENT, context.folder, ("note.txt",), {"graph": {"note": note}})
    save_samples(context.folder / SAMPLES_FILE, before, after)
    facts: dict[str, JsonValue] = {
        "metric": metric_facts(before, after),
        "fidelity": fidelity.facts(),
        "computedBy": COMPUTED_BY,
    }
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (SAMPLES_FILE,), {"graph": facts})
