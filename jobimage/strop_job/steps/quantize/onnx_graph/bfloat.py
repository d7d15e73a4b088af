"""bfloat16: weights and compute become bf16, inputs and outputs keep their types.

Converted is what ONNX defines for bf16 and what bears 8 bits of mantissa; the rest stays in fp32, between casts. bf16
has fp32's range, so that no weight can overflow.
"""

from collections.abc import Iterable

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, defs, helper, numpy_helper

from strop_api.steps import QuantizeStep
from strop_job.backends.graphs import drop_unread_weights, opset, sort_nodes
from strop_job.errors import StropError
from strop_job.steps.quantize.onnx_graph.opsets import raised
from strop_job.steps.quantize.onnx_graph.prepare import Prepared, Selection

WANTED_OPSET = 22
"""The first in which convolutions and pools are defined for bf16."""
KEPT_FLOAT = frozenset(
    {
        "Exp", "Log", "Pow", "Reciprocal", "Softmax", "LogSoftmax", "Softplus", "LayerNormalization",
        "InstanceNormalization", "GroupNormalization", "BatchNormalization", "LpNormalization", "ReduceMean",
        "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd",
        "CumSum", "Range", "Resize", "TopK", "NonMaxSuppression",
    }
)  # fmt: skip
"""Sums, powers and norms, as in torch.autocast's list of operations that go to float32; and what counts."""

LARGEST = np.float32(3.3895314e38)
"""Largest finite number of bf16."""
MEASURES = frozenset({"Shape", "Size"})
"""Read a tensor in whatever type it comes."""


def bfloat(prepared: Prepared, step: QuantizeStep, selection: Selection, index: int) -> onnx.ModelProto:
    """Casts what is selected and can be cast."""
    model = _newest(prepared.model, index)
    return _converted(model, set(selection.op_types) if step.op_types else None, set(selection.excluded))


def bfloat_tensors(model: onnx.ModelProto) -> int:
    """Weights stored in bf16."""
    return sum(w.data_type == TensorProto.BFLOAT16 for w in model.graph.initializer)


def to_bfloat(values: NDArray[np.float32]) -> NDArray[np.generic]:
    """Rounded to nearest. Masks hold fp32's lowest number, which would round to infinity: it becomes bf16's lowest."""
    bounded = np.clip(values, -LARGEST, LARGEST)
    return np.where(np.isinf(values), values, bounded).astype(ml_dtypes.bfloat16)


def bears_bfloat(operator: str, version: int) -> bool:
    """Whether ONNX defines the operator, at this opset, for bf16 on every operand and result that may be fp32."""
    try:
        schema = defs.get_schema(operator, version)
    except defs.SchemaError:
        return False
    types = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    formal = [types.get(p.type_str, {p.type_str}) for p in (*schema.inputs, *schema.outputs)]
    return all("tensor(bfloat16)" in allowed for allowed in formal if "tensor(float)" in allowed)


def _newest(model: onnx.ModelProto, index: int) -> onnx.ModelProto:
    """At the opset with the most bf16 operators; where the graph cannot be raised, at its own."""
    try:
        return raised(model, WANTED_OPSET, index)
    except StropError:
        return raised(model, opset(model), index)


def _converted(model: onnx.ModelProto, only: set[str] | None, excluded: set[str]) -> onnx.ModelProto:
    graph, version = model.graph, opset(model)
    sort_nodes(graph)
    captured = {name for node in graph.node for name in _captured(node)}
    chosen = {
        at
        for at, node in enumerate(graph.node)
        if node.domain in ("", "ai.onnx")
        and node.op_type not in KEPT_FLOAT | MEASURES
        and node.name not in excluded
        and (only is None or node.op_type in only)
        and not captured & set(node.output)
        and not any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
        and bears_bfloat(node.op_type, version)
    }
    _Caster(graph, chosen).run()
    return model


class _Caster:
    """Moves the chosen nodes' floats to bf16, with a cast wherever a tensor crosses the border."""

    def __init__(self, graph: onnx.GraphProto, chosen: set[int]) -> None:
        self._graph, self._chosen = graph, chosen
        known = (*graph.value_info, *graph.input, *graph.output)
        self._values = {v.name: v for v in known}
        self._weights = {w.name: w for w in graph.initializer}
        self._floats = {n for n, v in self._values.items() if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._floats |= {n for n, w in self._weights.items() if w.data_type == TensorProto.FLOAT}
        self._short: dict[str, str] = {}
        """Name of each tensor's bf16 form."""
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        """Rewrites the graph in place."""
        results = {o.name for o in self._graph.output}
        read = {n for at, node in enumerate(self._graph.node) if self._reads_floats(at, node) for n in _reads(node)}
        for at, node in enumerate(self._graph.node):
            if node.op_type in MEASURES:
                node.input[0] = self._short.get(node.input[0], node.input[0])
            if at not in self._chosen or not self._touches_floats(node):
                self._nodes.append(node)
                continue
            for i, name in enumerate(node.input):
                if name in self._floats:
                    node.input[i] = self._shortened(name)
            self._nodes.append(node)
            for i, name in enumerate(node.output):
                if name in self._floats:
                    node.output[i] = self._declare(name)
                    if name in results or name in read:
                        self._cast(node.output[i], name, TensorProto.FLOAT)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        drop_unread_weights(self._graph)

    def _reads_floats(self, at: int, node: onnx.NodeProto) -> bool:
        """Whether a node goes on reading fp32 what it reads as fp32 now."""
        return node.op_type not in MEASURES and not (at in self._chosen and self._touches_floats(node))

    def _touches_floats(self, node: onnx.NodeProto) -> bool:
        """A Cast says its result's type itself, and a node without float operands has nothing to shorten."""
        return node.op_type != "Cast" and any(name in self._floats for name in node.input)

    def _shortened(self, name: str) -> str:
        """The bf16 form of a tensor: made by a chosen node, or cast here; a weight is stored in it."""
        if name in self._short:
            return self._short[name]
        if name not in self._weights:
            short = self._declare(name)
            self._cast(name, short, TensorProto.BFLOAT16)
            return short
        values = to_bfloat(numpy_helper.to_array(self._weights[name]).astype(np.float32))
        self._short[name] = f"{name}/bf16"
        self._graph.initializer.append(numpy_helper.from_array(values, self._short[name]))
        return self._short[name]

    def _declare(self, name: str) -> str:
        """Names the bf16 form of a tensor, and writes its type down."""
        self._short[name] = f"{name}/bf16"
        value = onnx.ValueInfoProto()
        value.CopyFrom(self._values[name])
        value.name = self._short[name]
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
        self._graph.value_info.append(value)
        return self._short[name]

    def _cast(self, name: str, to: str, element_type: int) -> None:
        self._nodes.append(helper.make_node("Cast", [name], [to], name=f"{to}/Cast", to=element_type))


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    """Names a node reads, those inside its subgraphs included."""
    return (*node.input, *_captured(node))


def _captured(node: onnx.NodeProto) -> set[str]:
    names: set[str] = set()
    for attribute in node.attribute:
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            names |= {name for n in inner.node for name in _reads(n)} | {o.name for o in inner.output}
    return names
