"""Quantize and Dequantize nodes of a graph: pairs for nothing, two scales in a row, floats between integers."""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from strop_api.checks.graph import DYNAMIC_CONVOLUTION, ISLAND, NEEDLESS, PING_PONG
from strop_api.findings import Finding
from strop_job.audit.graph.reading import MOVES, Reading, named, read

Q, DQ = "QuantizeLinear", "DequantizeLinear"
PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
IN_INTEGERS = frozenset(
    {
        "Add", "Mul", "Sub", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax", "Relu",
        "Clip", "MaxPool", "Resize", "Where", "ArgMax", "ReduceMean", "Einsum", "PRelu", "Sum", "TopK", "Min", "Max",
        "InstanceNormalization", "BatchNormalization", "LayerNormalization", "Attention", "LSTM", "GRU", "RNN",
    }
)  # fmt: skip
"""Beside products and moves: operators that one runtime or another computes in integers between Q and DQ."""
ACTIVATIONS = frozenset(
    {"HardSwish", "HardSigmoid", "Elu", "Selu", "Softplus", "Mish", "Celu", "ThresholdedRelu", "Tanh", "Softsign"}
)
"""Without an integer kernel, and replaceable by one that has it."""
LONGEST_ISLAND = 6


def quantized_findings(model: onnx.ModelProto) -> list[Finding]:
    """All that the Q/DQ nodes of a graph show by their places alone."""
    reading = read(model)
    return [*needless(reading), *ping_pong(reading), *islands(reading), *dynamic_convolutions(reading)]


def needless(reading: Reading) -> Iterator[Finding]:
    """Pairs on activations that no integer operator writes and none reads."""
    pairs = [
        (node, reader)
        for node in reading.nodes
        if node.op_type == Q and node.input[0] in reading.live
        for reader in reading.readers(node.output[0])
        if reader.op_type == DQ
    ]
    lone = [first for first, second in pairs if not _of_use(reading, first, second)]
    if lone:
        names = named([node.input[0] for node in lone])
        yield NEEDLESS.finding(
            f"{len(lone)} of {len(pairs)} pairs of Quantize- and DequantizeLinear serve no integer operator: on {names}"
        )


def _of_use(reading: Reading, first: onnx.NodeProto, second: onnx.NodeProto) -> bool:
    if len(reading.readers(first.output[0])) > 1:  # an integer operator reads it beside the DequantizeLinear
        return True
    before = _origin(reading, first.input[0])
    if before is not None and is_integer(reading, before):
        return True
    return any(
        is_integer(reading, reader) or _feeds_product(reading, reader) for reader in readers_beyond(reading, second)
    )


def _feeds_product(reading: Reading, node: onnx.NodeProto) -> bool:
    """A product of which one operand is a live tensor behind further pairs: a compiler moves those past elementwise."""
    return node.op_type == Q and any(reader.op_type != DQ for reader in reading.readers(node.output[0]))


def readers_beyond(reading: Reading, node: onnx.NodeProto, *, all_moves: bool = False) -> list[onnx.NodeProto]:
    """Nodes that take what a node yields, those behind operators that only move floats (or all) in place of these."""
    found: list[onnx.NodeProto] = []
    waiting, seen = list(node.output), set[str]()
    while waiting:
        tensor = waiting.pop()
        for reader in reading.readers(tensor):
            if (
                reader.op_type in MOVES
                and reader.output[0] not in seen
                and (all_moves or not is_integer(reading, reader))
            ):
                seen.update(reader.output)
                waiting += reader.output
            else:
                found.append(reader)
    return found


def _origin(reading: Reading, tensor: str) -> onnx.NodeProto | None:
    """The node that computed a tensor, before operators that only move values or cut them off at zero."""
    maker = reading.maker(tensor)
    while maker is not None and maker.op_type in (MOVES | {"Relu", "Clip"}) and not is_integer(reading, maker):
        maker = reading.maker(maker.input[0])
    return maker


def is_integer(reading: Reading, node: onnx.NodeProto) -> bool:
    """Whether runtimes compute a node in integers: an integer operator, or one whose operands all are dequantized.

    Products may yield floats; whatever else must be quantized again right after it.
    """
    if (
        node.op_type.startswith("QLinear")
        or node.op_type.endswith("Integer")
        or node.op_type in ("QGemm", "QAttention")
    ):
        return True
    if node.op_type not in PRODUCTS | IN_INTEGERS | MOVES:
        return False
    operands = node.input[:2] if node.op_type in PRODUCTS else data_operands(reading, node)
    if not operands or not all(_dequantized(reading, name, node) for name in operands):
        return False
    return node.op_type in PRODUCTS or any(r.op_type == Q for out in node.output for r in _past_relu(reading, out))


def data_operands(reading: Reading, node: onnx.NodeProto) -> list[str]:
    """What a node computes with, without shapes, axes and bounds."""
    if node.op_type in MOVES or node.op_type in ("Clip", "Resize", "TopK", "ArgMax", "ReduceMean"):
        return list(node.input[:1])
    if node.op_type == "Where":
        return list(node.input[1:3])
    if "Normalization" in node.op_type:
        return list(node.input[:1])
    return [name for name in node.input if name]


def _dequantized(reading: Reading, tensor: str, node: onnx.NodeProto) -> bool:
    """Whether a tensor comes from a DequantizeLinear; for a product, past moves too, which compilers do first."""
    maker = reading.maker(tensor)
    while maker is not None and node.op_type in PRODUCTS and maker.op_type in MOVES:
        maker = reading.maker(maker.input[0])
    return maker is not None and maker.op_type == DQ


def _past_relu(reading: Reading, tensor: str) -> list[onnx.NodeProto]:
    """Readers of a tensor, those of a Relu or Clip after it included: runtimes fuse these into the scale."""
    found = reading.readers(tensor)
    return found + [r for one in found if one.op_type in ("Relu", "Clip") for r in reading.readers(one.output[0])]


def ping_pong(reading: Reading) -> Iterator[Finding]:
    """DequantizeLinear straight into QuantizeLinear: with another scale or type, or the very same."""
    found = [
        reader
        for node in reading.nodes
        if node.op_type == DQ and node.input[0] in reading.live
        for reader in readers_beyond(reading, node, all_moves=True)
        if reader.op_type == Q and not _same(reading, node, reader)
    ]
    if found:
        scales = _scales(reading, found[0])
        yield PING_PONG.finding(
            f"{len(found)} times integers are dequantized and quantized again with another scale or type{scales}: at "
            f"{named([reading.label(node) for node in found])}"
        )


def _scales(reading: Reading, second: onnx.NodeProto) -> str:
    maker = reading.maker(second.input[0])
    while maker is not None and maker.op_type != DQ:
        maker = reading.maker(maker.input[0])
    first = reading.value(maker.input[1]) if maker is not None else None
    then = reading.value(second.input[1])
    if first is None or then is None or first.size != 1 or then.size != 1:
        return ""
    return f" ({float(np.ravel(first)[0]):.4g} to {float(np.ravel(then)[0]):.4g})"


def _same(reading: Reading, first: onnx.NodeProto, second: onnx.NodeProto) -> bool:
    """Whether two nodes have the same scale and zero point; where one is not known, nothing is claimed."""
    pairs = ((_parameter(reading, first, slot), _parameter(reading, second, slot)) for slot in (1, 2))
    return all(a is None or b is None or _equal(a, b) for a, b in pairs)


def _parameter(reading: Reading, node: onnx.NodeProto, slot: int) -> NDArray[np.generic] | None:
    """Scale (1) or zero point (2), which is an unsigned zero where it is left out."""
    name = node.input[slot] if len(node.input) > slot else ""
    return reading.value(name) if name else np.zeros(1, np.uint8)


def _equal(a: NDArray[np.generic], b: NDArray[np.generic]) -> bool:
    return a.dtype == b.dtype and np.array_equal(np.ravel(a), np.ravel(b))


def islands(reading: Reading) -> Iterator[Finding]:
    """Float operators that take dequantized values and whose results are quantized, where an integer one could be."""
    found = [node for node in reading.nodes if _is_island(reading, node)]
    if found:
        names = named([f"{node.op_type} {reading.label(node)}" if node.name else reading.label(node) for node in found])
        yield ISLAND.finding(f"{len(found)} float operators stand between quantized ones: {names}")


def _is_island(reading: Reading, node: onnx.NodeProto) -> bool:
    if node.op_type in (Q, DQ) or is_integer(reading, node) or not _avoidable(reading, node):
        return False
    live = [name for name in node.input if name in reading.live]
    if not live or not all(_leaves_integers(reading, name, LONGEST_ISLAND) for name in live):
        return False
    return all(_returns(reading, out, LONGEST_ISLAND) for out in node.output if out)


def _avoidable(reading: Reading, node: onnx.NodeProto) -> bool:
    """Whether the operator could run in integers, or be replaced by one that does."""
    return node.op_type in PRODUCTS | ACTIVATIONS | {"Add", "Mul", "Sub", "Concat", "AveragePool", "GlobalAveragePool"}


def _leaves_integers(reading: Reading, tensor: str, steps: int) -> bool:
    """Whether a live tensor was integers shortly before, with nothing but other members of the island between."""
    maker = reading.maker(tensor)
    if maker is None or steps == 0:
        return False
    if maker.op_type == DQ:
        return maker.input[0] in reading.live
    if is_integer(reading, maker) and maker.op_type in PRODUCTS:
        return False
    if not (maker.op_type in MOVES or maker.op_type in ("Relu", "Clip", "Cast") or _avoidable(reading, maker)):
        return False
    live = [name for name in maker.input if name in reading.live]
    return bool(live) and all(_leaves_integers(reading, name, steps - 1) for name in live)


def _returns(reading: Reading, tensor: str, steps: int) -> bool:
    """Whether all that is made of a tensor is quantized shortly after."""
    readers = reading.readers(tensor)
    if not readers or steps == 0:
        return False
    return all(
        reader.op_type == Q
        or (
            (reader.op_type in MOVES | {"Relu", "Clip", "Cast"} or _avoidable(reading, reader))
            and all(_returns(reading, out, steps - 1) for out in reader.output if out)
        )
        for reader in readers
    )


def dynamic_convolutions(reading: Reading) -> Iterator[Finding]:
    """Convolutions whose inputs are quantized at run time."""
    found = [reading.label(node) for node in reading.nodes if node.op_type == "ConvInteger"]
    if found:
        yield DYNAMIC_CONVOLUTION.finding(f"{len(found)} convolutions are quantized at run time: {named(found)}")
