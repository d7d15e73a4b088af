"""TensorRT's own account of an engine (EngineInspector's JSON) as layers with number formats and compute.

In release 11 inputs and outputs stand under `I/O Tensors`; until release 10 they were `Bindings`. Formats are sentences
such as "Thirty-two wide channel vectorized row major Int8 format", or types such as "Half". Which nodes of the ONNX
graph a layer was made of stands in `Metadata`. A format is what a layer reads: where its operands differ, the wider
one, so that weight-only quantization is never taken for integer compute.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop_job.backends.base import Layer, NumberFormat
from strop_job.errors import StropError

ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
FORMATS: tuple[tuple[re.Pattern[str], NumberFormat], ...] = (
    (re.compile(r"\bint4\b", re.I), NumberFormat.INT4),
    (re.compile(r"\bfp8\b|\be4m3\b", re.I), NumberFormat.FP8),
    (re.compile(r"\bbf16\b|\bbfloat16\b", re.I), NumberFormat.BF16),
    (re.compile(r"\bfp16\b|\bhalf\b|\bfloat16\b", re.I), NumberFormat.FP16),
    (re.compile(r"\bint8\b", re.I), NumberFormat.INT8),
    (re.compile(r"\bfp32\b|\bfloat(32)?\b", re.I), NumberFormat.FP32),
)
"""The first word that is found in a description names the format."""
WIDTH = (
    NumberFormat.INT8, NumberFormat.FP8, NumberFormat.BF16, NumberFormat.FP16, NumberFormat.FP32, NumberFormat.UNKNOWN,
)  # fmt: skip
"""From narrow to wide: of two operands the later one is what the layer computes with."""
FUSED = ("kgen", "fusion", "Myelin", "ForeignNode")
"""Types of layers that were generated from many nodes."""
NARROW = {NumberFormat.INT8, NumberFormat.FP8, NumberFormat.INT4}
TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format")
"""Where a tensor's type may stand, the plainest first."""
SUMS = re.compile(r"conv|gemm|matrix|matmul|fully", re.I)
"""Types of layers whose first operands are what they multiply."""


@dataclass(frozen=True)
class Told:
    """An engine as its inspector describes it."""

    layers: tuple[Layer, ...]
    uncounted: Mapping[str, int]
    """How many nodes that multiply no layer names; empty when all are found."""
    note: str


def layers_of(text: str, macs: Mapping[str, int]) -> Told:
    """Layers in the order they run; `macs` counts multiply-accumulates by the name of the ONNX node.

    Raises StropError for what is no description of layers.
    """
    try:
        found = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise StropError("the engine's inspector does not tell its layers") from error
    if any(isinstance(layer, str) for layer in found):
        raise StropError("the engine tells its layers' names alone: it was not built to tell more")
    counts, lost = _compute(found, macs)
    layers = tuple(_layer(layer, count) for layer, count in zip(found, counts, strict=True))
    missing = {"nodes that no layer names": len(lost)} if lost else {}
    return Told(layers, missing, _note(macs, sum(lost.values()), layers))


def _compute(found: Sequence[Mapping[str, Any]], macs: Mapping[str, int]) -> tuple[list[int], dict[str, int]]:
    """Multiply-accumulates of every layer, and what is left: nodes that none names.

    A node that several layers name is counted once: with the first that is a convolution or a product, else with the
    first that was fused from many nodes.
    """
    left, counts = dict(macs), [0] * len(found)
    for takes in (_multiplies, _is_fused):
        for at, layer in enumerate(found):
            if takes(layer):
                counts[at] += sum(left.pop(node, 0) for node in nodes_of(layer))
    return counts, left


def _layer(layer: Mapping[str, Any], macs: int) -> Layer:
    return Layer(str(layer.get("Name", "")), _kind(layer), _format(layer), macs)


def _kind(layer: Mapping[str, Any]) -> str:
    return str(layer.get("LayerType", ""))


def _multiplies(layer: Mapping[str, Any]) -> bool:
    return bool(SUMS.search(_kind(layer)))


def _is_fused(layer: Mapping[str, Any]) -> bool:
    """Generated from many nodes: what it multiplies inside is not told by its type."""
    return _kind(layer) in FUSED


def nodes_of(layer: Mapping[str, Any]) -> tuple[str, ...]:
    """The ONNX nodes that a layer was made of: from its metadata, else from its name."""
    named = ONNX_NODE.findall(str(layer.get("Metadata", "")))
    return tuple(named) or tuple(part.strip() for part in str(layer.get("Name", "")).split(" + "))


def _format(layer: Mapping[str, Any]) -> NumberFormat:
    operands = [_named(tensor) for tensor in layer.get("Inputs", ())]
    weight = _weights(layer)
    if NumberFormat.INT4 in (weight, *operands[:2]):
        return NumberFormat.INT4
    if _is_fused(layer):
        return _shared(operands)
    if not _multiplies(layer):
        return _wider(operands[:1])
    return _wider(operands[:2] if weight is None else (*operands[:1], weight))


def _weights(layer: Mapping[str, Any]) -> NumberFormat | None:
    weights = layer.get("Weights")
    return format_named(str(weights.get("Type", ""))) if isinstance(weights, Mapping) else None


def _named(tensor: Mapping[str, Any]) -> NumberFormat:
    """Release 11 splits `Format/Datatype` in two; where the type stands alone, it is what counts."""
    return next((format_named(str(tensor[key])) for key in TYPE_KEYS if key in tensor), NumberFormat.UNKNOWN)


def format_named(words: str) -> NumberFormat:
    """The number format that a description speaks of."""
    return next((found for pattern, found in FORMATS if pattern.search(words)), NumberFormat.UNKNOWN)


def _shared(operands: Sequence[NumberFormat]) -> NumberFormat:
    """What all operands of a fused layer are, if that is a float; narrow operands may be widened before the sums."""
    found = set(operands)
    return found.pop() if len(found) == 1 and not found & NARROW else NumberFormat.UNKNOWN


def _wider(operands: Iterable[NumberFormat]) -> NumberFormat:
    return max(operands, key=WIDTH.index, default=NumberFormat.UNKNOWN)


def _note(macs: Mapping[str, int], lost: int, layers: tuple[Layer, ...]) -> str:
    unknown = sum(layer.macs for layer in layers if layer.number_format is NumberFormat.UNKNOWN)
    total = sum(macs.values()) or 1
    said = (
        (lost, f"{lost / total:.0%} of the multiply-accumulates belong to nodes that no layer names"),
        (unknown, f"{unknown / total:.0%} are in fused layers that do not tell their number format"),
        (not macs, "the compute of the layers is not known"),
    )
    return "; ".join(words for speaks, words in said if speaks)
