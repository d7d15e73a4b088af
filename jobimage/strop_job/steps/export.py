"""The stage `export`: the model as it was given becomes one ONNX graph with the spec's dynamic dimensions."""

import shutil
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from strop_api.model import ModelFormat, ModelSource
from strop_api.optimization import ModelOptimizationSpec
from strop_job.errors import Unsupported
from strop_job.models import onnx_files, parity
from strop_job.models.exporter import export_in_child, order_for
from strop_job.stages import Artifact, ArtifactKind, Facts, Stage, StageContext

NAME = "export"
SOURCE_STAGE = "resolve-model"
CODE_STAGE = "resolve-source"
"""Holds the architecture's source file, when it is not the image's."""
TORCH_LIBRARIES = ("torch", "onnxscript", "onnx", "safetensors")


def export_stage(spec: ModelOptimizationSpec) -> Stage:
    """SOURCE to ONNX_GRAPH. Facts: opset, irVersion, inputs, outputs, operators, parity, sizeBytes, format."""
    model = spec.model
    from_onnx = model.format is ModelFormat.ONNX
    parameters = model.model_dump(mode="json", by_alias=True, exclude={"uri", "digest"}, exclude_defaults=True)
    return Stage(
        name=NAME,
        kind="Export",
        version=1,
        run=run_export,
        parameters={**parameters, "seed": spec.seed},
        needs=(SOURCE_STAGE, CODE_STAGE) if _has_code(model) else (SOURCE_STAGE,),
        libraries=("onnx",) if from_onnx else TORCH_LIBRARIES,
        weight=0.2 if from_onnx else 2.0,
    )


def run_export(context: StageContext) -> Artifact:
    """Export or validate, then try the graph at every size the spec allows."""
    model = context.spec.model
    refuse_code(model, allowed=context.request.allow_code)
    if model.format is ModelFormat.ONNX:
        return _from_onnx(context)
    return _from_torch(context)


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


def _from_onnx(context: StageContext) -> Artifact:
    source = context.inputs[SOURCE_STAGE]
    context.report(0.0, "reading the ONNX file")
    graph = onnx_files.read_graph(source)
    onnx_files.match_inputs(graph, context.spec.model)
    onnx_files.load_weights(graph, onnx_files.onnx_file(source).parent)
    files = onnx_files.save(onnx_files.normalise(graph), context.folder)
    context.report(0.5, "running it at every size asked for")
    points = parity.try_sizes(context.folder / files[0], context.spec.model, seed=context.spec.seed)
    return _finished(context, files, points)


def _from_torch(context: StageContext) -> Artifact:
    source, model = context.inputs[SOURCE_STAGE], context.spec.model
    work = context.folder / "work"
    work.mkdir()
    code = context.inputs[CODE_STAGE].entry.resolve() if _has_code(model) else None
    order = order_for(model, work, source.folder, source.files, seed=context.spec.seed)
    isolated = code is not None or model.format is ModelFormat.TORCH_EXPORT
    order = replace(order, code=str(code) if code else None, isolated=isolated)
    export_in_child(order, waiting=lambda: context.report(0.1, "exporting with torch"))
    exported = Artifact(ArtifactKind.SOURCE, work, ("model.onnx",))
    graph = onnx_files.read_graph(exported)
    onnx_files.match_inputs(graph, model)
    onnx_files.load_weights(graph, work)
    graph.ir_version = onnx_files.IR_VERSION
    files = onnx_files.save(onnx_files.normalise(graph), context.folder)
    context.report(0.8, "comparing it with the module")
    points = parity.compare_with_references(context.folder / files[0], work, model)
    shutil.rmtree(work)
    return _finished(context, files, points)


def _finished(context: StageContext, files: tuple[str, ...], points: list[parity.ParityPoint]) -> Artifact:
    context.report(1.0, "exported")
    return Artifact(ArtifactKind.ONNX_GRAPH, context.folder, files, _facts(context.folder, files, points))


def _facts(folder: Path, files: tuple[str, ...], points: list[parity.ParityPoint]) -> Facts:
    found = onnx_files.facts_of(onnx_files.parse(folder / files[0]))
    worst = [p.worst for p in points if p.worst is not None]
    operators: dict[str, JsonValue] = dict(found.operators)
    return {
        "opset": found.opset,
        "irVersion": found.ir_version,
        "inputs": list(found.inputs),
        "outputs": list(found.outputs),
        "operators": operators,
        "sizeBytes": sum((folder / f).stat().st_size for f in files),
        "parity": {"shapes": [p.as_json() for p in points], "worst": max(worst) if worst else None},
    }
