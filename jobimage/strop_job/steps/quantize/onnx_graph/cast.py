"""Half precision: weights and compute become fp16, inputs and outputs keep their types."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from strop_api.steps import QuantizeStep
from strop_job.backends.graphs import all_nodes, drop_unread_weights, sort_nodes
from strop_job.errors import InvalidInput
from strop_job.steps.quantize.onnx_graph.opsets import raised
from strop_job.steps.quantize.onnx_graph.prepare import Prepared, Selection

LEAST_QDQ_OPSET = 19
LARGEST = float(np.finfo(np.float16).max)
PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN"})
"""Operators whose weights are the model: one that does not fit is refused. Elsewhere so large a number is a mask."""


def half(prepared: Prepared, step: QuantizeStep, selection: Selection, index: int) -> onnx.ModelProto:
    """Casts what is selected; operators without fp16 kernels stay in fp32, between casts.

    The scales of Q/DQ pairs are cast too, since a strongly typed runtime reads the type of a layer from them.

    A mask's number beyond fp16's range becomes its largest. Raises InvalidInput for such a weight of a product, which
    the converter would clamp without a word.
    """
    model = _typed(prepared.model, index)
    everything = {node.op_type for node in model.graph.node}
    kept = set(DEFAULT_OP_BLOCK_LIST) | (everything - set(selection.op_types) if step.op_types else set())
    cast = [n for n in model.graph.node if n.op_type not in kept and n.name not in selection.excluded]
    for node, weight in _cast_weights(model, cast):
        _refuse_overflow(node, weight, index)
    _bound_masks(model.graph, [node for node in cast if node.op_type not in PRODUCTS])
    given = {node.name for node in model.graph.node}
    made = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=sorted(kept), node_block_list=list(selection.excluded)
    )
    _join_kept(made.graph, given)
    sort_nodes(made.graph)
    return made


def _typed(model: onnx.ModelProto, index: int) -> onnx.ModelProto:
    """At an opset in which Q/DQ pairs may be of fp16."""
    quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)
    return raised(model, LEAST_QDQ_OPSET, index) if quantized else model


def half_tensors(model: onnx.ModelProto) -> int:
    """Weights stored in fp16."""
    return sum(w.data_type == onnx.TensorProto.FLOAT16 for w in model.graph.initializer)


def _cast_weights(
    model: onnx.ModelProto, cast: list[onnx.NodeProto]
) -> Iterator[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Float weights of matrix products and convolutions that are cast, each with a node that reads it."""
    weights = {w.name: w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT and w.dims}
    for node in cast:
        if node.op_type in PRODUCTS:
            yield from ((node, weights[name]) for name in node.input if name in weights)


def _bound_masks(graph: onnx.GraphProto, readers: list[onnx.NodeProto]) -> None:
    """Gives the readers, in place, constants that fit: cast as it is, fp32's lowest number would be infinite.

    Infinities stay: they are meant. Who reads the same constant in fp32 keeps it.
    """
    bounded: dict[str, str] = {}
    for weight in [w for w in graph.initializer if w.data_type == onnx.TensorProto.FLOAT]:
        values = numpy_helper.to_array(weight)
        if np.any(np.isfinite(values) & (np.abs(values) > LARGEST)):
            bounded[weight.name] = f"{weight.name}/bounded"
            fitting = np.where(np.isinf(values), values, np.clip(values, -LARGEST, LARGEST)).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(fitting, bounded[weight.name]))
    for node in readers:
        node.input[:] = [bounded.get(name, name) for name in node.input]
    drop_unread_weights(graph)


def _join_kept(graph: onnx.GraphProto, given: set[str]) -> None:
    """Between neighbours kept in fp32 the converter casts to fp16 and back, where sums overflow: they are joined."""
    casts = {n.output[0]: n for n in graph.node if n.op_type == "Cast" and n.name not in given}
    results = {output.name for output in graph.output}
    joined: dict[str, str] = {}
    for name, back in casts.items():
        short = casts.get(back.input[0])
        if back.attribute[0].i == onnx.TensorProto.FLOAT and short is not None and name not in results:
            joined[name] = short.input[0]
    for node in graph.node:
        node.input[:] = [joined.get(name, name) for name in node.input]
    read = {name for node in all_nodes(graph) for name in node.input} | results
    left = [node for node in graph.node if node.output[0] not in casts or node.output[0] in read]
    del graph.node[:]
    graph.node.extend(left)


def _refuse_overflow(node: onnx.NodeProto, weight: onnx.TensorProto, index: int) -> None:
    values = np.abs(numpy_helper.to_array(weight))
    largest = float(values.max(initial=0.0))
    if largest > LARGEST:
        raise InvalidInput(
            f"weight `{weight.name}` of `{node.name}` holds {largest:.4g}, and fp16 ends at {LARGEST:.0f}",
            field=f"spec.steps[{index}].quantize",
            mend="keep that node in fp32 with excludeNodes",
        )
