"""Compile stages: a graph becomes the engine of one target, on the hardware the target is for."""

from functools import partial

from strop_api.targets import Target
from strop_job.backends import backend_for
from strop_job.hardware import require, this_machine
from strop_job.stages import WHOLE_SECONDS, Artifact, Stage, StageContext


def compile_stage(name: str, graph: str, target: Target) -> Stage:
    """ONNX_GRAPH of stage `graph` to ENGINE. Facts: runtime, version, provider, graphOptimization, sizeBytes, nodes."""
    return Stage(
        name=name,
        kind="Compile",
        version=1,
        run=partial(run_compile, graph=graph),
        parameters={"target": target.model_dump(mode="json", by_alias=True, exclude={"name", "optional"})},
        needs=(graph,),
        libraries=("onnxruntime",),
        hardware=True,
        weight=0.5,
        silence_seconds=WHOLE_SECONDS,
    )


def run_compile(context: StageContext, graph: str) -> Artifact:
    """Refuses the wrong machine, then compiles."""
    target = context.target
    require(target, context.spec.targets.index(target), this_machine())
    return backend_for(target.runtime).compile(context.inputs[graph], target, context.folder, context.report)
