"""Compile stages: a graph becomes the engine of one target, on the hardware the target is for."""

from functools import partial

from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import Target
from strop_job.backends import TRAITS, Compilation, backend_for
from strop_job.hardware import require, this_machine
from strop_job.stages import WHOLE_SECONDS, Artifact, Stage, StageContext


def compile_stage(name: str, graph: str, spec: ModelOptimizationSpec, target: Target) -> Stage:
    """The graph of stage `graph` to ENGINE. Facts: as `Backend.compile` says, and the runtime's own.

    `target` is one of the spec's, or differs from it in its options alone.
    """
    return Stage(
        name=name,
        kind="Compile",
        version=3,
        run=partial(run_compile, graph=graph, target=target),
        parameters={
            "target": target.model_dump(mode="json", by_alias=True, exclude={"name", "optional"}),
            "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in spec.model.inputs],
            "dimensions": [dimension.model_dump(mode="json", by_alias=True) for dimension in spec.model.dimensions],
        },
        needs=(graph,),
        libraries=TRAITS[target.runtime].libraries,
        hardware=True,
        weight=0.5,
        silence_seconds=WHOLE_SECONDS,
    )


def run_compile(context: StageContext, graph: str, target: Target) -> Artifact:
    """Refuses the wrong machine, then compiles."""
    require(target, context.spec.targets.index(context.target), this_machine())
    work = Compilation(context.inputs[graph], context.spec.model, target, context.folder, context.report, context.cache)
    return backend_for(target.runtime).compile(work)
