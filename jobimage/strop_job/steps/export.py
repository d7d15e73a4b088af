"""The stage `export`: the model as it was given becomes one graph with the spec's dynamic dimensions."""

from functools import partial

from strop_api.model import ModelFormat, ModelSource
from strop_api.optimization import ModelOptimizationSpec
from strop_job.errors import Unsupported
from strop_job.stages import WHOLE_SECONDS, Artifact, ArtifactKind, Stage, StageContext

NAME = "export"
"""Of the model as it was given: what everything else is held against."""
SHAPED = "export-shaped"
"""Of the model as the last shaping step left it."""
SOURCE_STAGE = "resolve-model"
CODE_STAGE = "resolve-source"
"""Holds the architecture's source file, when it is not the image's."""
TORCH_LIBRARIES = ("torch", "onnxscript", "onnx", "safetensors")


def export_stage(
    spec: ModelOptimizationSpec,
    kind: ArtifactKind = ArtifactKind.ONNX_GRAPH,
    *,
    name: str = NAME,
    source: str = SOURCE_STAGE,
) -> Stage:
    """SOURCE or TORCH_MODEL to ONNX_GRAPH or EXPORTED_PROGRAM; `source` is the stage that yields the model.

    Facts: inputs, outputs, operators, parity, sizeBytes; ONNX: opset.
    """
    model = spec.model
    from_onnx, to_onnx = model.format is ModelFormat.ONNX, kind is ArtifactKind.ONNX_GRAPH
    parameters = model.model_dump(mode="json", by_alias=True, exclude={"uri", "digest"}, exclude_defaults=True)
    return Stage(
        name=name,
        kind="Export",
        version=1,
        run=partial(run_export, kind=kind, source=source),
        parameters={**parameters, "seed": spec.seed, **({} if to_onnx else {"kind": kind.value})},
        needs=(source, CODE_STAGE) if _has_code(model) else (source,),
        libraries=("onnx",) if from_onnx else TORCH_LIBRARIES,
        weight=0.2 if from_onnx else 2.0,
        silence_seconds=WHOLE_SECONDS,
    )


def run_export(
    context: StageContext, kind: ArtifactKind = ArtifactKind.ONNX_GRAPH, source: str = SOURCE_STAGE
) -> Artifact:
    """Export or validate, then try the graph at every size the spec allows."""
    model = context.spec.model
    refuse_code(model, allowed=context.request.allow_code)
    from strop_job.models.graph import from_onnx, from_torch

    if kind is ArtifactKind.EXPORTED_PROGRAM:
        from strop_job.models.program import to_program

        return to_program(context, context.inputs[source], context.inputs.get(CODE_STAGE))
    if model.format is ModelFormat.ONNX:
        return from_onnx(context, context.inputs[source])
    return from_torch(context, context.inputs[source], context.inputs.get(CODE_STAGE))


def refuse_code(model: ModelSource, *, allowed: bool) -> None:
    """Raise Unsupported for a model that is code, unless the policy allows code and the spec pins it by digest."""
    if not (_has_code(model) or model.format is ModelFormat.TORCH_EXPORT):
        return
    what, field = (
        ("source by uri", "spec.model.architecture.source") if _has_code(model) else (".pt2", "spec.model.format")
    )
    if not allowed:
        raise Unsupported(
            f"{what} is code, which the policy does not allow",
            field=field,
            mend="use safetensors and a callable of the image",
        )
    if model.format is ModelFormat.TORCH_EXPORT and model.digest is None:
        raise Unsupported("a .pt2 is code and must be pinned", field="spec.model.digest", mend="write its SHA-256")


def _has_code(model: ModelSource) -> bool:
    return model.architecture is not None and model.architecture.source is not None
