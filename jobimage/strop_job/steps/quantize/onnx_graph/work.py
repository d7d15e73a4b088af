"""Quantizing: prepare the graph, rewrite it with the method's own handler, write it, and prove what was written."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from pydantic import JsonValue

from strop_api.steps import QuantizeMethod, QuantizeStep
from strop_api.support import IntegerFormat
from strop_job.backends import Arrays
from strop_job.backends.graphs import MODEL_FILE, opset, save
from strop_job.calibration import TensorRange, calibrate, float_tensors
from strop_job.errors import InvalidInput, Unsupported
from strop_job.hardware import this_machine
from strop_job.stages import Artifact, ArtifactKind, StageContext
from strop_job.steps.quantize.onnx_graph import cast, dynamic, static
from strop_job.steps.quantize.onnx_graph.checks import prove, require_integers, scale_facts
from strop_job.steps.quantize.onnx_graph.forms import form_of
from strop_job.steps.quantize.onnx_graph.prepare import Prepared, Selection, prepare, select
from strop_job.steps.quantize.samples import CalibrationBatches, synthetic_batch


def run_quantize(context: StageContext, step: QuantizeStep, index: int, previous: str) -> Artifact:
    """Prepares, quantizes, writes, then proves what was written."""
    before = context.inputs[previous]
    context.report(0.0, "preparing the graph")
    with TemporaryDirectory(prefix="strop-quantize-", dir=context.folder) as scratch:
        prepared = prepare(before, Path(scratch))
        selection = select(step, index, prepared, _quantizable(step, prepared))
        made, own_facts, batch = _HANDLERS[step.method](context, step, index, prepared, selection, Path(scratch))
    files = save(made, context.folder / MODEL_FILE)
    facts: dict[str, JsonValue] = {
        "precision": step.precision.value,
        "method": step.method.value,
        "excluded": list(selection.excluded),
        "opTypes": list(selection.op_types),
        "opset": opset(made),
        **own_facts,
    }
    context.report(0.95, "loading what was written and running one batch")
    graph = Artifact(ArtifactKind.ONNX_GRAPH, context.folder, files)
    facts |= prove(graph, before, context.target, batch, index, real=step.method is QuantizeMethod.STATIC)
    return Artifact(ArtifactKind.ONNX_GRAPH, context.folder, files, facts)


Made = tuple[onnx.ModelProto, dict[str, JsonValue], Arrays]


def _dynamic(
    context: StageContext, step: QuantizeStep, index: int, prepared: Prepared, selection: Selection, scratch: Path
) -> Made:
    if context.target.accelerator is not None:
        raise Unsupported(
            "ONNX Runtime quantizes activations at run time on CPUs only",
            field=f"spec.steps[{index}].quantize.method",
            mend="use Static for a target with an accelerator",
        )
    context.report(0.1, "quantizing weights")
    made = dynamic.dynamic(prepared, step, selection, scratch)
    found = require_integers(made, index)
    return made, _integer_facts(made, found, form_of(step, context.target)), synthetic_batch(context)


def _static(
    context: StageContext, step: QuantizeStep, index: int, prepared: Prepared, selection: Selection, scratch: Path
) -> Made:
    batches = CalibrationBatches(context)
    tensors = float_tensors(prepared.model, selection.nodes(prepared.model))
    threads = this_machine().threads_for(context.target)
    ranges = calibrate(prepared.model, tensors, batches, step, threads=threads, done=batches.tell)
    context.report(0.8, "writing scales")
    form = form_of(step, context.target)
    made = static.static(prepared.model, step, selection, ranges, form, context.target)
    facts = _integer_facts(made, require_integers(made, index), form)
    return made, {**facts, "calibration": _calibration_facts(step, ranges, batches.seen)}, batches.first


def _half(
    context: StageContext, step: QuantizeStep, index: int, prepared: Prepared, selection: Selection, scratch: Path
) -> Made:
    context.report(0.1, "casting to half precision")
    made = cast.half(prepared, step, selection, index)
    tensors = cast.half_tensors(made)
    if not tensors:
        raise InvalidInput(
            "nothing was cast: no weight of the graph became fp16",
            field=f"spec.steps[{index}].quantize",
            mend="check opTypes and excludeNodes",
        )
    return made, {"format": "fp16", "scales": {"tensors": tensors}}, synthetic_batch(context)


_HANDLERS = {QuantizeMethod.DYNAMIC: _dynamic, QuantizeMethod.STATIC: _static, QuantizeMethod.CAST: _half}


def _quantizable(step: QuantizeStep, prepared: Prepared) -> frozenset[str]:
    if step.method is QuantizeMethod.DYNAMIC:
        return dynamic.QUANTIZABLE
    if step.method is QuantizeMethod.STATIC:
        return static.QUANTIZABLE
    return frozenset(node.op_type for node in prepared.model.graph.node)


def _integer_facts(made: onnx.ModelProto, found: Counter[str], form: IntegerFormat) -> dict[str, JsonValue]:
    return {"format": form.value, "quantized": dict(sorted(found.items())), "scales": scale_facts(made)}


def _calibration_facts(step: QuantizeStep, ranges: Mapping[str, TensorRange], samples: int) -> dict[str, JsonValue]:
    return {
        "calibrator": step.calibrator.value,
        "samples": samples,
        "tensors": [tensor.facts(name) for name, tensor in ranges.items()],
        "largestClippedShare": max((r.clipped_share for r in ranges.values()), default=0.0),
    }
