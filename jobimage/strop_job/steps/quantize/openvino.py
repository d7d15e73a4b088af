"""Quantizing for OpenVINO: an ONNX graph or an IR becomes an IR with NNCF's quantizers, halved or 4-bit weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydantic import JsonValue

from strop_api.steps import Precision, QuantizeMethod, QuantizeStep
from strop_job.backends import Arrays, backend_for
from strop_job.backends import openvino_graphs as graphs
from strop_job.errors import InvalidInput, StropError, Unsupported
from strop_job.stages import Artifact, ArtifactKind, StageContext
from strop_job.steps.quantize import openvino_recipe as recipes
from strop_job.steps.quantize.onnx_graph.forms import weights_of_seven_bits
from strop_job.steps.quantize.openvino_nncf import advanced, library, nncf, quiet
from strop_job.steps.quantize.openvino_scope import Scope, scope
from strop_job.steps.quantize.proof import compare_outputs
from strop_job.steps.quantize.samples import CalibrationBatches, synthetic_batch

NNCF_REFUSALS = (RuntimeError, ValueError, nncf.ValidationError, nncf.InternalError, nncf.UnsupportedModelError)
LARGEST_HALF = float(np.finfo(np.float16).max)
Made = tuple[Any, dict[str, JsonValue], Arrays]


def run_openvino(context: StageContext, step: QuantizeStep, index: int, previous: str) -> Artifact:
    """Reads, rewrites, writes `model.xml` and `model.bin`, and proves what was written by running one batch.

    Facts: `precision`, `method`, `format`, `opTypes`, `excluded`, `cosine`, `scales`; int8 and int4: `quantized`; int8:
    `preset`, `calibration`. With what a cast computes on this processor is a fact of the engine.
    """
    before = context.inputs[previous]
    handler = _HANDLERS.get((step.precision, step.method))
    if handler is None:
        raise Unsupported(
            f"OpenVINO takes no {step.precision} by {step.method} here",
            field=f"spec.steps[{index}].quantize",
            mend="use int8 Static, fp16 Cast or int4 WeightOnly",
        )
    context.report(0.0, "reading the graph")
    model, own_facts, batch = handler(context, step, index, before)
    context.report(0.9, "writing the model")
    half = graphs.asked_precision(model) != "f32"
    files = graphs.write(model, context.folder / graphs.IR_FILES[0], half=half)
    made = Artifact(ArtifactKind.OPENVINO_IR, context.folder, files)
    context.report(0.95, "running one batch through what was written")
    outputs, again = _run(context, before, batch), _run(context, made, batch)
    proof = compare_outputs(outputs, again, index, real=step.method is QuantizeMethod.STATIC)
    facts = {"precision": step.precision.value, "method": step.method.value, **own_facts, **proof}
    return Artifact(ArtifactKind.OPENVINO_IR, context.folder, files, facts)


def _static(context: StageContext, step: QuantizeStep, index: int, before: Artifact) -> Made:
    """INT8 by NNCF's post-training quantization."""
    model = graphs.read(before)
    recipe = recipes.recipe_for(model)
    where = scope(step, index, model, before, recipe.kind)
    seven_bits = weights_of_seven_bits(step, context.target)
    settings = recipes.parameters(step, index, recipe, seven_bits=seven_bits)
    batches = CalibrationBatches(context)
    source = _Source(batches, recipes.passes(step, recipe))
    with quiet(), _named_errors(index):
        quantized = nncf.quantize(
            model,
            nncf.Dataset(source),
            subset_size=max(len(batches), 1),
            ignored_scope=nncf.IgnoredScope(names=list(where.ignored), validate=False),
            **settings,
        )
    facts: dict[str, JsonValue] = {
        "format": "FakeQuantize",
        "preset": recipe.kind.value,
        "asymmetric": recipe.asymmetric,
        "reducedRange": seven_bits,
        **_scope_facts(where),
        "quantized": _require(graphs.quantized(quantized), index),
        "scales": _scale_facts(quantized),
        "calibration": {"calibrator": step.calibrator.value, "samples": batches.seen, "ranges": _ranges(quantized)},
    }
    return quantized, facts, batches.first


def _weight_only(context: StageContext, step: QuantizeStep, index: int, before: Artifact) -> Made:
    """Weights to symmetric int4 in groups, rounded to nearest; tables and the last product to int8."""
    model = graphs.read(before)
    where = scope(step, index, model, before, None)
    with quiet(), _named_errors(index, step.group_size):
        made = nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT4_SYM,
            group_size=step.group_size,
            ratio=1.0,
            backup_mode=nncf.BackupMode.INT8_ASYM,
            ignored_scope=nncf.IgnoredScope(names=list(where.ignored), validate=False),
            advanced_parameters=advanced.AdvancedCompressionParameters(
                group_size_fallback_mode=nncf.GroupSizeFallbackMode.ERROR
            ),
        )
    graphs.keep_activations(made)
    stored = graphs.compressed(made)
    if not stored.keys() & {"i4", "u4"}:
        raise _nothing("no weight of the graph became int4; its last product and its tables never do", index)
    facts: dict[str, JsonValue] = {
        "format": f"int4, groups of {step.group_size}",
        **_scope_facts(where),
        "quantized": dict(stored),
        "scales": {"tensors": sum(stored.get(kind, 0) for kind in graphs.LOW_BITS)},
    }
    return made, facts, synthetic_batch(context)


def _cast(context: StageContext, step: QuantizeStep, index: int, before: Artifact) -> Made:
    """Weights in fp16, and a note that asks for compute in fp16 or bf16 where the processor has it."""
    if step.op_types or step.exclude_nodes:
        raise Unsupported(
            "OpenVINO casts a whole model: its plugin, not the file, decides what computes in half precision",
            field=f"spec.steps[{index}].quantize.{'opTypes' if step.op_types else 'excludeNodes'}",
            mend="leave it empty",
        )
    model = graphs.read(before)
    wanted = {Precision.FP16: "f16", Precision.BF16: "bf16"}[step.precision]
    tensors = 0
    for node in graphs.operations(model):
        if node.get_type_name() == "Constant" and graphs.type_of(node.output(0)) == "f32":
            tensors += 1
            _refuse_overflow(node, index)
    if not tensors:
        raise _nothing("no weight of the graph is fp32", index)
    graphs.set_precision(model, wanted)
    facts: dict[str, JsonValue] = {
        "format": step.precision.value,
        "opTypes": [],
        "excluded": [],
        "scales": {"tensors": tensors},
    }
    return model, facts, synthetic_batch(context)


_HANDLERS = {
    (Precision.INT8, QuantizeMethod.STATIC): _static,
    (Precision.INT4, QuantizeMethod.WEIGHT_ONLY): _weight_only,
    (Precision.FP16, QuantizeMethod.CAST): _cast,
    (Precision.BF16, QuantizeMethod.CAST): _cast,
}


class _Source:
    """Calibration batches as NNCF reads them: several times over, telling how far they are."""

    def __init__(self, batches: CalibrationBatches, passes: int) -> None:
        self._batches, self._whole = batches, passes * max(len(batches), 1)
        self._read = 0

    def __iter__(self) -> Iterator[Arrays]:
        for inputs in self._batches:
            yield inputs
            self._read += len(next(iter(inputs.values())))
            self._batches.tell(round(len(self._batches) * min(1.0, self._read / self._whole)))


@contextmanager
def _named_errors(index: int, group_size: int | None = None) -> Iterator[None]:
    """NNCF's refusals as ours."""
    where = f"spec.steps[{index}].quantize"
    try:
        yield
    except StropError:
        raise
    except nncf.InvalidGroupSizeError as error:
        layers = [line.strip() for line in str(error).splitlines() if line.startswith("\t")]
        raise InvalidInput(
            f"groups of {group_size} do not divide the weights of {'; '.join(layers[:3])}",
            field=f"{where}.groupSize",
            mend="choose one that divides them, or keep those nodes in high precision with excludeNodes",
        ) from error
    except NNCF_REFUSALS as error:
        raise StropError(f"NNCF could not quantize the graph: {library.first_line(error)}", field=where) from error


def _run(context: StageContext, graph: Artifact, batch: Arrays) -> Arrays:
    """As it is written, in floats."""
    session = backend_for(context.target.runtime).open(
        graph, context.target, threads=1, optimized=False, spinning=False
    )
    try:
        return session.run(batch)
    finally:
        session.close()


def _scope_facts(where: Scope) -> dict[str, JsonValue]:
    return {"opTypes": list(where.op_types), "excluded": list(where.excluded)}


def _require(found: dict[str, int], index: int) -> dict[str, JsonValue]:
    if not found:
        raise _nothing("no convolution or matrix product of the graph became an integer one", index)
    return dict(found)


def _nothing(why: str, index: int) -> InvalidInput:
    return InvalidInput(
        f"nothing was quantized: {why}",
        field=f"spec.steps[{index}].quantize",
        mend="check opTypes and excludeNodes; a weight must be a constant of the graph to be quantized",
    )


def _refuse_overflow(node: Any, index: int) -> None:
    """OpenVINO would store infinity, or keep fp32, without a word."""
    largest = float(np.abs(node.data).max(initial=0.0))
    if largest > LARGEST_HALF and node.data.size > 1:
        raise InvalidInput(
            f"weight `{node.get_friendly_name()}` holds {largest:.4g}, and fp16 ends at {LARGEST_HALF:.0f}",
            field=f"spec.steps[{index}].quantize",
            mend="leave this model in fp32, or quantize it to int8",
        )


def _quantizers(model: Any) -> Iterator[tuple[str, float, float]]:
    """Name and range of every quantizer of an activation; the widest channel where it has several."""
    for node in graphs.operations(model):
        bounds = [node.input_value(at).get_node() for at in (1, 2)] if node.get_type_name() == "FakeQuantize" else []
        if bounds and all(bound.get_type_name() == "Constant" for bound in bounds):
            yield node.get_friendly_name(), float(bounds[0].data.min()), float(bounds[1].data.max())


def _ranges(model: Any) -> list[JsonValue]:
    """What is quantized of every activation; NNCF does not tell what it saw beyond."""
    return [{"name": name, "low": low, "high": high} for name, low, high in _quantizers(model)]


def _scale_facts(model: Any) -> dict[str, JsonValue]:
    """How many activations are quantized, and how the widths of their steps spread."""
    steps = np.array([(high - low) / 255 for _, low, high in _quantizers(model)])
    if not steps.size:
        return {"tensors": 0}
    smallest, median, largest = (float(f(steps)) for f in (np.min, np.median, np.max))
    return {"tensors": steps.size, "smallest": smallest, "median": median, "largest": largest}
