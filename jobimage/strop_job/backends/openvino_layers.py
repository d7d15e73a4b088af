"""What a compiled OpenVINO model computes with: kernels from its execution graph, compute from the IR's shapes."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strop_job.backends.base import Layer, NumberFormat
from strop_job.backends.openvino_graphs import COMPUTE, is_rounded, operations, type_of

UNSEEN = frozenset({"Const", "Input", "Output"})
"""Entries of the execution graph that compute nothing."""
KERNELS = frozenset(
    {"FullyConnected", "MatMul", "Convolution", "Deconvolution", "Subgraph", "RNNSeq", "RNNCell", "MHA"}
)
"""Kinds of layers that multiply matrices; `Subgraph` is generated code for several operations at once."""
RECURRENT = frozenset({"LSTMSequence", "GRUSequence", "RNNSequence", "LSTMCell", "GRUCell", "RNNCell"})
COUNTED = COMPUTE | RECURRENT
UNCOUNTED = frozenset({"If", "Loop", "TensorIterator", "Einsum"})
"""Compute that is not counted; an engine that has some says so, as of what MULTIPLIES finds."""
MULTIPLIES = re.compile(r"Attention|MatMul|Conv(?!ert)|MOE|MoE|LSTM|GRU|RNN|FullyConnected")
"""In the names of operations that multiply and accumulate; new ones come with every release of OpenVINO."""
INTEGERS = frozenset({"i8", "u8"})
FLOATS = {"f32": NumberFormat.FP32, "f16": NumberFormat.FP16, "bf16": NumberFormat.BF16}
RENAMED = "/Dequantization"
"""Operations made out of another in low precision are called after it, with this between."""


@dataclass(frozen=True)
class Found:
    """What the execution graph and the IR say together."""

    nodes: Mapping[str, int]
    layers: tuple[Layer, ...]
    uncounted: Mapping[str, int]
    note: str


def layers_of(execution: Any, model: Any) -> Found:
    """`execution` is the runtime model of a compiled model after a call; `model` the IR at that call's shapes."""
    ran = [node for node in _in_order(execution) if _info(node, "layerType") not in UNSEEN]
    homes = _homes(ran)
    work: dict[str, list[Any]] = {}
    homeless: list[Any] = []
    for operation in operations(model):
        if macs_of(operation):
            home = _home(operation, homes)
            work.setdefault(home, []).append(operation) if home else homeless.append(operation)
    layers = [layer for node in ran for layer in _layers(node, work.get(node.get_friendly_name(), []))]
    layers += [Layer(op.get_friendly_name(), op.get_type_name(), NumberFormat.UNKNOWN, macs_of(op)) for op in homeless]
    uncounted = Counter(n.get_type_name() for n in operations(model) if _is_uncounted(n))
    nodes = Counter(_info(node, "layerType") for node in ran)
    return Found(nodes, tuple(layers), uncounted, _note(uncounted, homeless))


def macs_of(node: Any) -> int:
    """Multiply-accumulates of an operation whose shapes are fixed; 0 for one that is not counted."""
    kind = node.get_type_name()
    if kind not in COUNTED or _is_dynamic(node):
        return 0
    data, weight = (_shape(node.input_value(at)) for at in (0, 1))
    out = math.prod(_shape(node.output(0)))
    match kind:
        case "MatMul":
            return out * data[-2 if node.get_attributes()["transpose_a"] and len(data) > 1 else -1]
        case "Convolution":
            return out * math.prod(weight[1:])
        case "GroupConvolution":
            return out * math.prod(weight[2:])
        case "ConvolutionBackpropData":
            return math.prod(data) * math.prod(weight[1:])
        case "GroupConvolutionBackpropData":
            return math.prod(data) * math.prod(weight[2:])
        case _:
            return _recurrent_macs(node, data)


def _is_dynamic(node: Any) -> bool:
    return any(port.get_partial_shape().is_dynamic for port in (*node.input_values()[:2], node.output(0)))


def _is_uncounted(node: Any) -> bool:
    """Whether it multiplies, and how much is not known: its kind is none of those counted, or its shapes depend."""
    kind = node.get_type_name()
    if kind in COUNTED:
        return _is_dynamic(node)
    return kind in UNCOUNTED or MULTIPLIES.search(kind) is not None


def _recurrent_macs(node: Any, data: tuple[int, ...]) -> int:
    """Both matrices of every gate, once a step and sample. Weights are the last inputs: W, R and the bias."""
    weights, recurrence = (math.prod(_shape(port)) for port in node.input_values()[-3:-1])
    return math.prod(data[:-1]) * (weights + recurrence)


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in port.get_shape())


def _in_order(execution: Any) -> list[Any]:
    return sorted(execution.get_ops(), key=lambda node: int(_info(node, "execOrder") or 0))


def _info(node: Any, key: str) -> str:
    info = node.get_rt_info()
    return str(info[key].value) if key in info else ""


def _homes(ran: list[Any]) -> dict[str, Any]:
    """The layer that each operation of the IR was fused into, by the operation's name."""
    homes: dict[str, Any] = {}
    for node in ran:
        for name in _info(node, "originalLayersNames").split(","):
            homes.setdefault(name, node)
            homes.setdefault(name.partition(RENAMED)[0], node)
    return homes


def _home(operation: Any, homes: Mapping[str, Any]) -> str | None:
    """The name of the layer that runs an operation: the one that lists it, or else what follows it.

    Moving a scale through a product makes it a new operation under another name, in one layer with what follows.
    """
    node = operation
    while True:
        home = homes.get(node.get_friendly_name())
        if home is not None and _info(home, "layerType") in KERNELS:
            return str(home.get_friendly_name())
        readers = [reader.get_node() for reader in node.output(0).get_target_inputs()]
        if len(readers) != 1 or macs_of(readers[0]) or home is not None:
            return None
        node = readers[0]


def _layers(node: Any, work: list[Any]) -> list[Layer]:
    """One layer, or one for each product where generated code holds several."""
    name, kind = node.get_friendly_name(), _info(node, "layerType")
    if len(work) < 2:
        return [Layer(name, kind, _format(node, work[0] if work else None), sum(map(macs_of, work)))]
    return [Layer(f"{name}:{op.get_friendly_name()}", kind, _format(node, op), macs_of(op)) for op in work]


def _format(node: Any, operation: Any) -> NumberFormat:
    """Operands of the kernel. Generated code is INT8 only for products whose every operand was quantized."""
    runs = _info(node, "runtimePrecision")
    if operation is None or operation.get_type_name() in RECURRENT:
        return NumberFormat.INT8 if runs in INTEGERS else FLOATS.get(runs, NumberFormat.UNKNOWN)
    if _info(node, "layerType") == "Subgraph":
        whole = runs in INTEGERS and all(is_rounded(operation.input_value(at)) for at in (0, 1))
        return NumberFormat.INT8 if whole else FLOATS.get("f32" if runs in INTEGERS else runs, NumberFormat.UNKNOWN)
    fed = [type_of(node.input(at)) for at in range(len(node.inputs()))]
    if fed and fed[0] in INTEGERS:
        return NumberFormat.INT8
    if len(fed) > 1 and fed[1] in ("i4", "u4"):
        return NumberFormat.INT4
    return FLOATS.get(fed[0] if fed else runs, NumberFormat.UNKNOWN)


def _note(uncounted: Mapping[str, int], homeless: list[Any]) -> str:
    notes = [f"{count} {kind} not counted" for kind, count in sorted(uncounted.items())]
    if homeless:
        notes.append(f"{len(homeless)} operations not found among the layers that ran")
    return "; ".join(notes)
