"""From a model as it was given to one ONNX graph that was tried at every size the spec allows."""

import shutil
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from strop_api.model import ModelFormat, ModelSource
from strop_job.errors import InvalidInput
from strop_job.models import onnx_files, parity
from strop_job.models.exporter import export_in_child, order_for
from strop_job.stages import Artifact, ArtifactKind, Facts, StageContext


def from_onnx(context: StageContext, source: Artifact) -> Artifact:
    """An ONNX file, validated and normalised."""
    context.report(0.0, "reading the ONNX file")
    graph = onnx_files.read_graph(source)
    onnx_files.match_inputs(graph, context.spec.model)
    onnx_files.load_weights(graph, onnx_files.onnx_file(source).parent)
    files = onnx_files.save(onnx_files.normalise(graph), context.folder)
    context.report(0.5, "running it at every size asked for")
    try:
        points = parity.try_sizes(context.folder / files[0], context.spec.model, seed=context.spec.seed)
    except InvalidInput as error:
        raise _explained(error, Artifact(ArtifactKind.ONNX_GRAPH, context.folder, files), context.spec.model) from error
    return _finished(context, files, points)


def _explained(error: InvalidInput, graph: Artifact, model: ModelSource) -> InvalidInput:
    """The same refusal with the node and the constant behind it, and their mend; as it is where none is found."""
    from strop_job.audit.graph.of_run import sizes_explained

    found = sizes_explained(graph, model)
    if not found:
        return error
    return InvalidInput(f"{error.message}: {found[0].message}", field=error.field, mend=found[0].mend)


def from_torch(context: StageContext, source: Artifact, code: Artifact | None) -> Artifact:
    """Weights or a `.pt2`, exported in a child process; what comes from outside as code runs locked in."""
    model = context.spec.model
    work = context.folder / "work"
    work.mkdir()
    order = order_for(model, work, source, seed=context.spec.seed)
    isolated = code is not None or model.format is ModelFormat.TORCH_EXPORT
    order = replace(order, code=str(code.entry.resolve()) if code else None, isolated=isolated)
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
