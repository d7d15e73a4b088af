"""INT4 weights: each group of a weight's column is rounded to nearest with a scale of its own; activations stay floats.

ONNX Runtime multiplies by such weights with an operator of its own, MatMulNBits; other runtimes read the standard
DequantizeLinear over blocks (opset 21). See https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
and the ONNX operators' documentation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from strop_api.steps import QuantizeStep
from strop_job.backends.graphs import drop_unread_weights
from strop_job.errors import InvalidInput
from strop_job.steps.quantize.onnx_graph.forms import MATMUL_NBITS
from strop_job.steps.quantize.onnx_graph.opsets import raised
from strop_job.steps.quantize.onnx_graph.prepare import Selection

QUANTIZABLE: frozenset[str] = frozenset({"MatMul", "Gemm"})
LEAST_OPSET = 21
"""The first in which DequantizeLinear takes INT4 and blocks."""
CONTRIB = "com.microsoft"
ACCURACY_LEVEL = 4
"""MatMulNBits: activations are rounded to int8 block by block inside the operator, for the integer units."""
LEVELS = 15
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weight:
    """A constant operand of a matrix product, as rows (summed) by columns."""

    node: onnx.NodeProto
    values: Floats
    """[rows, columns]."""


@dataclass(frozen=True)
class FourBits:
    """What was made of a graph."""

    model: onnx.ModelProto
    layers: int
    bytes_before: int
    """Of the weights that were rounded."""
    bytes_after: int
    """Of the same weights with their scales."""


def four_bits(model: onnx.ModelProto, step: QuantizeStep, selection: Selection, form: str, index: int) -> FourBits:
    """Rounds the constant operands of what is selected. The model given is left as it is.

    Raises InvalidInput, naming the layer, for a group size that does not fit it.
    """
    made = raised(model, 0 if form == MATMUL_NBITS else LEAST_OPSET, index)
    constants = {w.name: w for w in made.graph.initializer if w.data_type == TensorProto.FLOAT}
    weights = list(_weights(selection.nodes(made), constants))
    for weight in weights:
        _require_fitting(weight, step.group_size, form, index)
    replaced: dict[str, list[onnx.NodeProto]] = {}
    added: list[TensorProto] = []
    for at, weight in enumerate(weights):
        write = _matmul_nbits if form == MATMUL_NBITS else _dequantized
        nodes, tensors = write(weight, step.group_size, f"strop/int4/{at}")
        replaced[weight.node.name] = nodes
        added += tensors
    _rewrite(made, replaced, added)
    if form == MATMUL_NBITS and weights:
        _import(made, CONTRIB)
    return FourBits(made, len(weights), sum(w.values.nbytes for w in weights), sum(len(t.raw_data) for t in added))


def rounded(values: Floats) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint8]]:
    """Levels 0 to 15, scale and zero point of the groups in the last axis: the range from least to largest, and zero.

    value = (level - zero point) * scale. Shapes: as given; and as given without the last axis.
    """
    low = np.minimum(values.min(axis=-1), 0.0)
    high = np.maximum(values.max(axis=-1), 0.0)
    scale = ((high - low) / LEVELS).astype(np.float32)
    scale = np.where(scale > 0, scale, np.float32(1.0)).astype(np.float32)
    zero = np.clip(np.rint(-low / scale), 0, LEVELS)
    levels = np.clip(np.rint(values / scale[..., None]) + zero[..., None], 0, LEVELS)
    return levels.astype(np.uint8), scale, zero.astype(np.uint8)


def packed(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two levels a byte along the last axis, the first in the low half; an odd one is filled up with zero."""
    if levels.shape[-1] % 2:
        levels = np.concatenate([levels, np.zeros((*levels.shape[:-1], 1), np.uint8)], axis=-1)
    return (levels[..., 0::2] | (levels[..., 1::2] << 4)).astype(np.uint8)


def _matmul_nbits(weight: Weight, group: int, name: str) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """MatMulNBits, and an Add for the bias of a Gemm. Rows are filled up with zeros to whole groups."""
    rows, columns = weight.values.shape
    blocks = -(-rows // group)
    padded = np.zeros((columns, blocks * group), np.float32)
    padded[:, :rows] = weight.values.T
    levels, scale, zero = rounded(padded.reshape(columns, blocks, group))
    tensors = [
        numpy_helper.from_array(packed(levels), f"{name}/weight"),
        numpy_helper.from_array(scale.reshape(-1), f"{name}/scale"),
        numpy_helper.from_array(packed(zero).reshape(-1), f"{name}/zero"),
    ]
    node, out = weight.node, weight.node.output[0]
    bias = list(node.input[2:3])
    product = helper.make_node(
        "MatMulNBits",
        [node.input[0], *(t.name for t in tensors)],
        [f"{name}/product" if bias else out],
        name=node.name,
        domain=CONTRIB,
        K=rows,
        N=columns,
        bits=4,
        block_size=group,
        accuracy_level=ACCURACY_LEVEL,
    )
    if not bias:
        return [product], tensors
    return [product, helper.make_node("Add", [f"{name}/product", *bias], [out], name=f"{node.name}/bias")], tensors


def _dequantized(weight: Weight, group: int, name: str) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """DequantizeLinear before the product: signed and symmetric, the only form that TensorRT takes."""
    rows, columns = weight.values.shape
    grouped = weight.values.reshape(rows // group, group, columns)
    largest = np.abs(grouped).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / 7, np.float32(1.0)).astype(np.float32)
    levels = np.clip(np.rint(grouped / scale), -8, 7).reshape(rows, columns)
    transposed = _transposed(weight.node)
    tensors = [
        numpy_helper.from_array((levels.T if transposed else levels).astype(ml_dtypes.int4), f"{name}/weight"),
        numpy_helper.from_array(_turned(scale[:, 0, :], transposed), f"{name}/scale"),
    ]
    restored = helper.make_node(
        "DequantizeLinear",
        [t.name for t in tensors],
        [f"{name}/float"],
        name=f"{weight.node.name}/dequantize",
        axis=1 if transposed else 0,
        block_size=group,
    )
    node = onnx.NodeProto()
    node.CopyFrom(weight.node)
    node.input[1] = f"{name}/float"
    return [restored, node], tensors


def _turned(values: Floats, transposed: bool) -> Floats:
    return np.ascontiguousarray(values.T if transposed else values)


def _weights(nodes: Iterable[onnx.NodeProto], constants: Mapping[str, TensorProto]) -> Iterable[Weight]:
    """Second operands that are constant matrices. A Gemm that scales or transposes its left operand stays as it is."""
    for node in nodes:
        held = constants.get(node.input[1])
        if held is None or len(held.dims) != 2 or (node.op_type == "Gemm" and not _is_plain(node)):
            continue
        values = numpy_helper.to_array(held).astype(np.float32)
        yield Weight(node, np.ascontiguousarray(values.T) if _transposed(node) else values)


def _is_plain(node: onnx.NodeProto) -> bool:
    attributes = {a.name: a for a in node.attribute}
    scaled = any(attributes[name].f != 1.0 for name in ("alpha", "beta") if name in attributes)
    return not scaled and not ("transA" in attributes and attributes["transA"].i)


def _transposed(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)


def _require_fitting(weight: Weight, group: int, form: str, index: int) -> None:
    where, rows = f"spec.steps[{index}].quantize.groupSize", weight.values.shape[0]
    if form == MATMUL_NBITS and group & (group - 1):
        raise InvalidInput(
            f"ONNX Runtime takes groups of a power of two, not of {group}", field=where, mend="use 32, 64 or 128"
        )
    if form != MATMUL_NBITS and rows % group:
        fitting = [g for g in (128, 64, 32, 16) if rows % g == 0]
        mend = f"use {fitting[0]}" if fitting else "no usual size does"
        raise InvalidInput(
            f"the weight of `{weight.node.name}` sums over {rows} values, which is no multiple of {group}",
            field=where,
            mend=f"{mend}, or keep the node in high precision with excludeNodes",
        )


def _rewrite(model: onnx.ModelProto, replaced: Mapping[str, list[onnx.NodeProto]], added: list[TensorProto]) -> None:
    graph = model.graph
    nodes = [new for node in graph.node for new in replaced.get(node.name, [node])]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.extend(added)
    drop_unread_weights(graph)


def _import(model: onnx.ModelProto, domain: str) -> None:
    if all(o.domain != domain for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(domain, 1))
