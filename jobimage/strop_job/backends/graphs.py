"""ONNX graphs on the disk, between the worker's own stages: read, written, walked, named."""

from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from pathlib import Path

import onnx

from strop_job.backends.base import Arithmetic
from strop_job.errors import InvalidInput
from strop_job.stages import Artifact

MODEL_FILE = "model.onnx"
EXTERNAL_FROM_BYTES = 1_800_000_000
"""A protobuf ends at 2 GiB; from here on weights go to a file of their own."""


def load(graph: Artifact) -> onnx.ModelProto:
    """The graph with its weights. Raises InvalidInput for a file that is no ONNX model."""
    try:
        return onnx.load(str(graph.entry))
    except Exception as error:  # protobuf's and onnx's errors differ by implementation
        raise InvalidInput(
            f"{graph.files[0]} is no readable ONNX model: {error}",
            field="spec.model.uri",
            mend="upload the complete file",
        ) from error


def is_large(size_bytes: int) -> bool:
    """Whether weights of this size need a file of their own."""
    return size_bytes > EXTERNAL_FROM_BYTES


def save(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """Writes one file, or a second one with the weights where one would be too large. Returns the files' names.

    The model keeps its weights: onnx takes them out of it while it writes them beside the file.
    """
    external = path.with_name(path.name + ".data")
    external.unlink(missing_ok=True)
    if not is_large(model.ByteSize()):
        onnx.save(model, str(path))
        return (path.name,)
    onnx.save(model, str(path), save_as_external_data=True, location=external.name)
    onnx.load_external_data_for_model(model, str(path.parent))
    return (path.name, external.name) if external.exists() else (path.name,)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from all_nodes(inner)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Puts the nodes of a graph, in place, in an order in which every tensor is made before it is read."""
    nodes = list(graph.node)
    makers = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    waits_for = [{makers[name] for name in _read(node) if name in makers} - {at} for at, node in enumerate(nodes)]
    readers: dict[int, list[int]] = {}
    for at, needed in enumerate(waits_for):
        for maker in needed:
            readers.setdefault(maker, []).append(at)
    ready = [at for at, needed in enumerate(waits_for) if not needed]
    heapify(ready)
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for reader in readers.get(order[-1], []):
            waits_for[reader].discard(order[-1])
            if not waits_for[reader]:
                heappush(ready, reader)
    if len(order) < len(nodes):
        raise InvalidInput("the graph has a cycle", field="spec.model.uri", mend="export the model again")
    copies = [onnx.NodeProto.FromString(nodes[at].SerializeToString()) for at in order]
    del graph.node[:]
    graph.node.extend(copies)


def _read(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those inside its subgraphs included."""
    inner = (g for a in node.attribute for g in (*a.graphs, *([a.g] if a.HasField("g") else [])))
    return set(node.input) | {name for graph in inner for inside in graph.node for name in _read(inside)}


def drop_unread_weights(graph: onnx.GraphProto) -> None:
    """Removes, in place, the initializers that no node reads any more."""
    read = {name for node in graph.node for name in _read(node)} | {output.name for output in graph.output}
    kept = [weight for weight in graph.initializer if weight.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every nameless node a name, so that it can be spoken of."""
    taken = {node.name for node in model.graph.node}
    for at, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{at}"
            node.name = name if name not in taken else f"{name}_{len(taken)}"
            taken.add(node.name)


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


HALVES = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
INTEGER_OPS: dict[str, str] = {
    "ConvInteger": "Conv", "MatMulInteger": "MatMul", "QLinearConv": "Conv", "QLinearMatMul": "MatMul",
    "MatMulIntegerToFloat": "MatMul", "DynamicQuantizeMatMul": "MatMul", "QGemm": "Gemm", "QAttention": "Attention",
    "DynamicQuantizeLSTM": "LSTM", "QEmbedLayerNormalization": "EmbedLayerNormalization",
}  # fmt: skip
"""Operators that compute in integers, and what they stand for."""
ROUNDING_OPS = frozenset({"MatMulNBits"})
"""Take floats, and round them to integers inside."""
COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""Operators worth quantizing: without one of them nothing becomes faster."""


def arithmetic_of(path: Path) -> Arithmetic:
    """What a written graph computes with."""
    content = onnx.load(str(path), load_external_data=False)
    half = any(w.data_type in HALVES for w in content.graph.initializer)
    rounding = any(node.op_type in ROUNDING_OPS for node in content.graph.node)
    return Arithmetic(rounding or bool(integer_nodes(content)), half)


def integer_nodes(model: onnx.ModelProto) -> Counter[str]:
    """Nodes that will run in integers, by the operator they stand for.

    Either an integer operator, or one whose every operand comes from a DequantizeLinear (which runtimes fuse).
    """
    dequantized = {out for n in model.graph.node if n.op_type == "DequantizeLinear" for out in n.output}
    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in INTEGER_OPS:
            found[INTEGER_OPS[node.op_type]] += 1
        elif node.op_type not in ("QuantizeLinear", "DequantizeLinear") and _fed_by(node, dequantized):
            found[node.op_type] += 1
    return found


def _fed_by(node: onnx.NodeProto, dequantized: set[str]) -> bool:
    operands = list(node.input[:2] if node.op_type in COMPUTE else node.input[:1])
    return bool(operands) and all(name in dequantized for name in operands)
