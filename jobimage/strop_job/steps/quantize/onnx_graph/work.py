"""Quantizing: prepare the graph, rewrite it with the method's own handler, write it, and prove what was written."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from pydantic import JsonValue

from strop_api.steps import Precision, QuantizeMethod, QuantizeStep
from strop_job.backends import Arrays
from strop_job.backends.graphs import MODEL_FILE, opset, save
from strop_job.calibration import TensorRange, calibrate, float_tensors
from strop_job.errors import InvalidInput, Unsupported
from strop_job.hardware import this_machine
from strop_job.stages import Artifact, ArtifactKind, StageContext
from strop_job.steps.quantize.onnx_graph import bfloat, cast, dynamic, four_bits, fp8, static
from strop_job.steps.quantize.onnx_graph.checks import prove, require_integers, scale_facts
from strop_job.steps.quantize.onnx_graph.forms import carriers, form_of, four_bit_form, weights_of_seven_bits
from strop_job.steps.quantize.onnx_graph.prepare import Prepared, Selection, prepare, select
from strop_job.steps.quantize.samples import CalibrationBatches, synthetic_batch


def run_quantize(context: StageContext, step: QuantizeStep, index: int, previous: str) -> Artifact:
    """Prepares, quantizes, writes, then proves what was written."""
    before = context.inputs[previous]
    context.report(0.0, "preparing the graph")
    with TemporaryDirectory(prefix="strop-quantize-", dir=context.folder) as scratch:
        prepared = prepare(before, Path(scratch))
        selection = select(step, index, prepared, _quantizable(step, index, prepared), carriers(step, context.target))
        work = Work(context, step, index, prepared, selection, Path(scratch))
        made, own_facts, batch = _handler(step)(work)
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
    facts |= prove(graph, before, batch, index, real=step.method is QuantizeMethod.STATIC)
    return Artifact(ArtifactKind.ONNX_GRAPH, context.folder, files, facts)


@dataclass(frozen=True)
class Work:
    """All that a method's handler is given."""

    context: StageContext
    step: QuantizeStep
    index: int
    """Of the step in the spec."""
    prepared: Prepared
    selection: Selection
    scratch: Path

    @property
    def where(self) -> str:
        """The step's place in the spec."""
        return f"spec.steps[{self.index}].quantize"


Made = tuple[onnx.ModelProto, dict[str, JsonValue], Arrays]
"""The graph, what is said of it, and the batch that proves it."""


def _dynamic(work: Work) -> Made:
    context, step = work.context, work.step
    if context.target.accelerator is not None:
        raise Unsupported(
            "ONNX Runtime quantizes activations at run time on CPUs only",
            field=f"{work.where}.method",
            mend="use Static for a target with an accelerator",
        )
    context.report(0.1, "quantizing weights")
    reduced = weights_of_seven_bits(step, context.target)
    made = dynamic.dynamic(work.prepared, step, work.selection, work.scratch, reduced_range=reduced)
    found = require_integers(made, work.index)
    return made, _integer_facts(made, found, work), synthetic_batch(context)


def _static(work: Work) -> Made:
    context, step = work.context, work.step
    ranges, batches = _observed(work)
    context.report(0.8, "writing scales")
    form = form_of(step, context.target)
    made = static.static(work.prepared.model, step, work.selection, ranges, form, context.target)
    facts = _integer_facts(made, require_integers(made, work.index), work)
    return made, {**facts, "calibration": _calibration_facts(step, ranges, batches.seen)}, batches.first


def _static_fp8(work: Work) -> Made:
    ranges, batches = _observed(work)
    work.context.report(0.8, "writing scales")
    made = fp8.fp8(work.prepared.model, work.step, work.selection, ranges, work.index)
    found = require_integers(made, work.index)
    facts: dict[str, JsonValue] = {
        "format": "E4M3",
        "quantized": dict(sorted(found.items())),
        "scales": scale_facts(made),
        "calibration": _calibration_facts(work.step, ranges, batches.seen),
    }
    return made, facts, batches.first


def _half(work: Work) -> Made:
    work.context.report(0.1, "casting to half precision")
    made = cast.half(work.prepared, work.step, work.selection, work.index)
    return made, _cast_facts("fp16", cast.half_tensors(made), work), synthetic_batch(work.context)


def _bfloat(work: Work) -> Made:
    work.context.report(0.1, "casting to bfloat16")
    made = bfloat.bfloat(work.prepared, work.step, work.selection, work.index)
    facts = _cast_facts("bf16", bfloat.bfloat_tensors(made), work)
    proof = "computed in fp32, each result rounded to bf16: the CPU has no bf16 operators"
    return made, {**facts, "provedBy": proof}, synthetic_batch(work.context)


def _four_bits(work: Work) -> Made:
    work.context.report(0.1, "rounding weights to 4 bits")
    form = four_bit_form(work.context.target)
    made = four_bits.four_bits(work.prepared.model, work.step, work.selection, form, work.index)
    if not made.layers:
        raise _nothing("rounded: no matrix product has a constant weight", work)
    facts: dict[str, JsonValue] = {
        "format": f"int4 {form}",
        "groupSize": work.step.group_size,
        "layers": made.layers,
        "weightBytesBefore": made.bytes_before,
        "weightBytes": made.bytes_after,
        "scales": {"tensors": made.layers},
    }
    return made.model, facts, synthetic_batch(work.context)


_HANDLERS: dict[tuple[Precision, QuantizeMethod], Callable[[Work], Made]] = {
    (Precision.INT8, QuantizeMethod.DYNAMIC): _dynamic,
    (Precision.INT8, QuantizeMethod.STATIC): _static,
    (Precision.FP8, QuantizeMethod.STATIC): _static_fp8,
    (Precision.FP16, QuantizeMethod.CAST): _half,
    (Precision.BF16, QuantizeMethod.CAST): _bfloat,
    (Precision.INT4, QuantizeMethod.WEIGHT_ONLY): _four_bits,
}


def _handler(step: QuantizeStep) -> Callable[[Work], Made]:
    return _HANDLERS[step.precision, step.method]


def _quantizable(step: QuantizeStep, index: int, prepared: Prepared) -> frozenset[str]:
    """Operators that the step can change. Raises Unsupported for a precision and a method that do not go together."""
    if (step.precision, step.method) not in _HANDLERS:
        raise Unsupported(
            f"an ONNX graph is not quantized to {step.precision} by {step.method}",
            field=f"spec.steps[{index}].quantize.method",
            mend="see the table of precisions and methods by runtime",
        )
    if step.method is QuantizeMethod.CAST:
        return frozenset(node.op_type for node in prepared.model.graph.node)
    if step.method is QuantizeMethod.DYNAMIC:
        return dynamic.QUANTIZABLE
    own = {Precision.INT8: static.QUANTIZABLE, Precision.FP8: fp8.QUANTIZABLE, Precision.INT4: four_bits.QUANTIZABLE}
    return own[step.precision]


def _observed(work: Work) -> tuple[Mapping[str, TensorRange], CalibrationBatches]:
    """Ranges of all that the selected nodes read and write."""
    batches, model = CalibrationBatches(work.context), work.prepared.model
    tensors = float_tensors(model, work.selection.nodes(model))
    threads = this_machine().threads_for(work.context.target)
    return calibrate(model, tensors, batches, work.step, threads=threads, done=batches.tell), batches


def _integer_facts(made: onnx.ModelProto, found: Counter[str], work: Work) -> dict[str, JsonValue]:
    step, target = work.step, work.context.target
    return {
        "format": form_of(step, target).value,
        "reducedRange": weights_of_seven_bits(step, target),
        "quantized": dict(sorted(found.items())),
        "scales": scale_facts(made),
    }


def _cast_facts(name: str, tensors: int, work: Work) -> dict[str, JsonValue]:
    if not tensors:
        raise _nothing(f"cast: no weight of the graph became {name}", work)
    return {"format": name, "scales": {"tensors": tensors}}


def _nothing(what: str, work: Work) -> InvalidInput:
    return InvalidInput(f"nothing was {what}", field=work.where, mend="check opTypes and excludeNodes")


def _calibration_facts(step: QuantizeStep, ranges: Mapping[str, TensorRange], samples: int) -> dict[str, JsonValue]:
    return {
        "calibrator": step.calibrator.value,
        "samples": samples,
        "tensors": [tensor.facts(name) for name, tensor in ranges.items()],
        "largestClippedShare": max((r.clipped_share for r in ranges.values()), default=0.0),
    }
