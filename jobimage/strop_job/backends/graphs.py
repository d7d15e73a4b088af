"""ONNX graphs on the disk, between the worker's own stages: read, written, walked, named."""

from collections import Counter
from collections.abc import Iterator
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
COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""Operators worth quantizing: without one of them nothing becomes faster."""


def arithmetic_of(path: Path) -> Arithmetic:
    """What a written graph computes with."""
    content = onnx.load(str(path), load_external_data=False)
    half = any(w.data_type in HALVES for w in content.graph.initializer)
    return Arithmetic(bool(integer_nodes(content)), half)


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
