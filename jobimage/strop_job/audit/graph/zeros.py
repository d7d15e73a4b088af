"""Zeros in the weights of a graph's products: how many, in which pattern, in which channels. Weighed by compute."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import JsonValue

from strop_job.audit.graph.reading import Reading

Floats = NDArray[np.float32]
MANY = 0.3
"""Share of the compute-weighted weights from which on zeros look like pruning; a dense trained model has well below."""
CHANNELS_MANY = 0.05
"""Share of the compute in channels that are zero. Training alone leaves a few dead ones."""
GROUP, MOST_IN_GROUP = 4, 2
"""2:4: of four weights in a row along the summed dimension, at most two are not zero (NVIDIA Ampere and later)."""
TINY = 1e-3
"""Of the standard deviation of a tensor's other weights: what zeros are filled with. No denormal, and no zero."""


@dataclass(frozen=True)
class Weight:
    """The constant operand of one product, as [outputs, summed, kernel positions]."""

    node: str
    tensor: str
    is_zero: NDArray[np.bool_]
    """[outputs, summed, kernel positions]."""
    uses: float
    """How often each weight is multiplied in one call."""

    @property
    def macs(self) -> float:
        """Multiply-accumulates of one call."""
        return self.is_zero.size * self.uses


@dataclass(frozen=True)
class Zeros:
    """Of all products together; shares are of the multiply-accumulates, 0 to 1."""

    share: float
    two_of_four: float
    """In groups of four with at most two weights that are not zero."""
    channels: float
    """In output channels that are zero altogether."""
    zero_channels: int
    tensors: tuple[str, ...]
    """Weights with at least `MANY` zeros, heaviest first."""
    channel_tensors: tuple[str, ...]

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        return {
            "share": self.share,
            "twoOfFour": self.two_of_four,
            "zeroChannels": self.zero_channels,
            "channelShare": self.channels,
        }


def count(weights: list[Weight]) -> Zeros | None:
    """The zeros of all weights; None where nothing is multiplied by a constant."""
    total = sum(weight.macs for weight in weights)
    if not total:
        return None
    heavy = sorted(weights, key=lambda weight: -weight.macs)
    zero_rows = {weight.tensor: weight.is_zero.all(axis=(1, 2)) for weight in weights}
    return Zeros(
        sum(float(w.is_zero.mean()) * w.macs for w in weights) / total,
        sum(two_of_four(w.is_zero) * w.macs for w in weights) / total,
        sum(float(zero_rows[w.tensor].mean()) * w.macs for w in weights) / total,
        sum(int(rows.sum()) for rows in zero_rows.values()),
        tuple(w.tensor for w in heavy if w.is_zero.mean() >= MANY),
        tuple(w.tensor for w in heavy if zero_rows[w.tensor].any()),
    )


def two_of_four(is_zero: NDArray[np.bool_]) -> float:
    """Share of the groups along the summed dimension that hold at least two zeros; 0 where it does not divide by 4."""
    outputs, summed, positions = is_zero.shape
    if summed % GROUP:
        return 0.0
    groups = is_zero.reshape(outputs, summed // GROUP, GROUP, positions)
    return float((groups.sum(axis=2) >= GROUP - MOST_IN_GROUP).mean())


def weights_of(reading: Reading, shapes: Mapping[str, tuple[int, ...]]) -> list[Weight]:
    """The constant operands of all products, dequantized ones included. `shapes` are of what products yield."""
    found = []
    for node in reading.nodes:
        slot = _slot(node)
        if slot is None or slot >= len(node.input):
            continue
        source, is_zero = _zero_map(reading, node.input[slot])
        if is_zero is None or is_zero.ndim < 2 or not is_zero.size:
            continue
        arranged = _arranged(node, is_zero)
        size = float(np.prod(shapes[node.output[0]])) if node.output[0] in shapes else float(arranged.shape[0])
        found.append(Weight(reading.label(node), source, arranged, size / arranged.shape[0]))
    return found


def _slot(node: onnx.NodeProto) -> int | None:
    if node.op_type in (
        "Conv",
        "ConvTranspose",
        "MatMul",
        "Gemm",
        "ConvInteger",
        "MatMulInteger",
        "FusedConv",
        "FusedMatMul",
    ):
        return 1
    return 3 if node.op_type in ("QLinearConv", "QLinearMatMul") else None


def _zero_map(reading: Reading, tensor: str) -> tuple[str, NDArray[np.bool_] | None]:
    """The constant's name, and where it is zero; of an integer one, where it equals its zero point."""
    value = reading.value(tensor)
    if value is not None:
        return tensor, np.asarray(value == 0)
    maker = reading.maker(tensor)
    if maker is not None and maker.op_type in ("Transpose", "Identity", "Cast") and tensor not in reading.live:
        source, inner = _zero_map(reading, maker.input[0])
        if inner is not None and maker.op_type == "Transpose":
            order = next((list(a.ints) for a in maker.attribute if a.name == "perm"), None)
            inner = inner.transpose(order)
        return source, inner
    if maker is None or maker.op_type != "DequantizeLinear":
        return tensor, None
    return maker.input[0], _is_zero_point(reading, maker)


def _is_zero_point(reading: Reading, maker: onnx.NodeProto) -> NDArray[np.bool_] | None:
    value = reading.value(maker.input[0])
    point = reading.value(maker.input[2]) if len(maker.input) > 2 and maker.input[2] else np.zeros((), np.int8)
    if value is None or point is None or point.ndim > 1:
        return None
    axis = next((a.i for a in maker.attribute if a.name == "axis"), 1)
    shape = [1] * value.ndim
    if point.size > 1:
        shape[axis] = point.size
    return np.asarray(value == point.reshape(shape))


def _arranged(node: onnx.NodeProto, is_zero: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[outputs, summed, kernel positions]."""
    if "Conv" in node.op_type:
        first = is_zero.swapaxes(0, 1) if node.op_type == "ConvTranspose" else is_zero
        return first.reshape(first.shape[0], first.shape[1], -1)
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    matrix = is_zero.reshape(-1, *is_zero.shape[-2:])
    matrix = matrix if transposed else matrix.swapaxes(1, 2)
    return matrix.reshape(-1, matrix.shape[-1], 1)


def filled(model: onnx.ModelProto, tensors: tuple[str, ...], seed: int) -> onnx.ModelProto:
    """A copy in which the zeros of these weights are small random values: the same graph, dense."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    random = np.random.default_rng(seed)
    for proto in _named(copy, frozenset(tensors)):
        proto.CopyFrom(numpy_helper.from_array(_dense(numpy_helper.to_array(proto), random), proto.name))
    return copy


def _named(model: onnx.ModelProto, tensors: frozenset[str]) -> Iterator[onnx.TensorProto]:
    yield from (weight for weight in model.graph.initializer if weight.name in tensors)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in tensors:
            yield from (a.t for a in node.attribute if a.HasField("t"))


def _dense(value: NDArray[np.generic], random: np.random.Generator) -> NDArray[np.generic]:
    zero = np.asarray(value == 0)
    dense: NDArray[np.generic] = np.where(zero, _fill(value, zero, random), value).astype(value.dtype)
    return dense


def _fill(
    value: NDArray[np.generic], zero: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.int64] | NDArray[np.float64]:
    if value.dtype.kind in "iu":
        return random.integers(1, 3, value.shape)
    kept = np.asarray(value[~zero], np.float64)
    width = TINY * float(kept.std()) if kept.size > 1 else TINY
    return np.asarray(random.standard_normal(value.shape) * width)
