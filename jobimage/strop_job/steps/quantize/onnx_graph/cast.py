"""Half precision: weights and compute become fp16, inputs and outputs keep their types."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from strop_api.steps import QuantizeStep
from strop_job.errors import InvalidInput
from strop_job.steps.quantize.onnx_graph.opsets import raised
from strop_job.steps.quantize.onnx_graph.prepare import Prepared, Selection

LEAST_QDQ_OPSET = 19
LARGEST = float(np.finfo(np.float16).max)


def half(prepared: Prepared, step: QuantizeStep, selection: Selection, index: int) -> onnx.ModelProto:
    """Casts what is selected; operators without fp16 kernels stay in fp32, between casts.

    The scales of Q/DQ pairs are cast too, since a strongly typed runtime reads the type of a layer from them.

    Raises InvalidInput for a weight beyond fp16's range, which the converter would clamp without a word.
    """
    model = _typed(prepared.model, index)
    everything = {node.op_type for node in model.graph.node}
    kept = set(DEFAULT_OP_BLOCK_LIST) | (everything - set(selection.op_types) if step.op_types else set())
    for node, weight in _cast_weights(model, kept, selection):
        _refuse_overflow(node, weight, index)
    return convert_float_to_float16(
        model, keep_io_types=True, op_block_list=sorted(kept), node_block_list=list(selection.excluded)
    )


def _typed(model: onnx.ModelProto, index: int) -> onnx.ModelProto:
    """At an opset in which Q/DQ pairs may be of fp16."""
    quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)
    return raised(model, LEAST_QDQ_OPSET, index) if quantized else model


def half_tensors(model: onnx.ModelProto) -> int:
    """Weights stored in fp16."""
    return sum(w.data_type == onnx.TensorProto.FLOAT16 for w in model.graph.initializer)


def _cast_weights(
    model: onnx.ModelProto, kept: set[str], selection: Selection
) -> Iterator[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Float weights of matrix products and convolutions that are cast, each with a node that reads it."""
    weights = {w.name: w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT and w.dims}
    for node in model.graph.node:
        if node.op_type not in kept and node.name not in selection.excluded:
            yield from ((node, weights[name]) for name in node.input if name in weights)


def _refuse_overflow(node: onnx.NodeProto, weight: onnx.TensorProto, index: int) -> None:
    values = np.abs(numpy_helper.to_array(weight))
    largest = float(values.max(initial=0.0))
    if largest > LARGEST:
        raise InvalidInput(
            f"weight `{weight.name}` of `{node.name}` holds {largest:.4g}, and fp16 ends at {LARGEST:.0f}",
            field=f"spec.steps[{index}].quantize",
            mend="keep that node in fp32 with excludeNodes",
        )
