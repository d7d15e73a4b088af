"""What a spec's `opTypes` and `excludeNodes` mean for an OpenVINO model, in which nodes have other types and names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import onnx

from strop_api.steps import QuantizeStep
from strop_job.backends.openvino_graphs import COMPUTE, operations
from strop_job.errors import InvalidInput
from strop_job.stages import Artifact
from strop_job.steps.quantize.openvino_nncf import AGNOSTIC, QUANTIZABLE
from strop_job.steps.quantize.openvino_recipe import Kind

ONNX_NAMES: Mapping[str, str] = {
    "MatMul": "MatMul", "Convolution": "Conv", "GroupConvolution": "Conv", "ConvolutionBackpropData": "ConvTranspose",
    "GroupConvolutionBackpropData": "ConvTranspose", "Multiply": "Mul", "Subtract": "Sub", "Divide": "Div",
    "AvgPool": "AveragePool", "Interpolate": "Resize", "Power": "Pow", "Maximum": "Max", "Minimum": "Min",
    "LSTMSequence": "LSTM", "GRUSequence": "GRU", "BatchNormInference": "BatchNormalization",
}  # fmt: skip
"""ONNX's name of an operation, where it is another, for a model that no longer knows the graph it was."""


CONSTANTS = frozenset({"Constant", "Parameter", "Result"})
"""What no quantizer takes."""


@dataclass(frozen=True)
class Origin:
    """The node of the ONNX graph that an operation comes from."""

    name: str
    op_type: str


@dataclass(frozen=True)
class Scope:
    """Which operations are left alone."""

    op_types: tuple[str, ...]
    """ONNX operators that may be quantized."""
    excluded: tuple[str, ...]
    """Operations that the spec's patterns name."""
    ignored: tuple[str, ...]
    """These, and those of other operators."""


def scope(step: QuantizeStep, index: int, model: Any, graph: Artifact, kind: Kind | None) -> Scope:
    """Resolves the step's patterns. Raises InvalidInput, naming the field, for one that matches nothing.

    `kind` decides what is quantized where the spec does not say; None: matrix products and convolutions, with tables.
    """
    origins = origins_of(model, graph)
    takes = QUANTIZABLE if kind is not None else COMPUTE | {"Gather"}
    able = [node for node in operations(model) if node.get_type_name() in takes]
    present = {origins[node.get_friendly_name()].op_type for node in able}
    where = f"spec.steps[{index}].quantize"
    for at, op_type in enumerate(step.op_types):
        if op_type not in present:
            raise InvalidInput(
                f"the graph has no {op_type} that NNCF quantizes",
                field=f"{where}.opTypes[{at}]",
                mend=f"it has {_listed(present)}",
            )
    patterns = enumerate(step.exclude_nodes)
    excluded = {n for at, p in patterns for n in _matches(p, f"{where}.excludeNodes[{at}]", model, origins)}
    working = [node for node in operations(model) if node.get_type_name() not in AGNOSTIC | CONSTANTS]
    other = {node.get_friendly_name() for node in working if not _wanted(node, step, kind, origins)}
    wanted = set(step.op_types) or {
        origins[node.get_friendly_name()].op_type for node in able if node.get_friendly_name() not in other
    }
    return Scope(tuple(sorted(wanted)), tuple(sorted(excluded)), tuple(sorted(excluded | other)))


def origins_of(model: Any, graph: Artifact) -> dict[str, Origin]:
    """The ONNX node of every operation, by the operation's name.

    The frontend keeps the names of tensors; what lies between two named tensors belongs to the node that makes the
    later one. An IR has no ONNX graph beside it: there an operation is its own origin.
    """
    made = _onnx_nodes(graph)
    origins: dict[str, Origin] = {}
    for node in reversed(list(operations(model))):
        name, kind = node.get_friendly_name(), node.get_type_name()
        tensors = [tensor for port in node.outputs() for tensor in port.get_names() if tensor in made]
        later = [origins[reader] for reader in _readers(node) if made and reader in origins]
        own = Origin(name, ONNX_NAMES.get(kind, kind))
        origins[name] = made[tensors[0]] if tensors else next(iter(later), own)
    return origins


def _readers(node: Any) -> list[str]:
    ports = (reader for port in node.outputs() for reader in port.get_target_inputs())
    return [port.get_node().get_friendly_name() for port in ports]


def _onnx_nodes(graph: Artifact) -> dict[str, Origin]:
    if graph.entry.suffix != ".onnx":
        return {}
    content = onnx.load(str(graph.entry), load_external_data=False)
    return {out: Origin(n.name or out, n.op_type) for n in content.graph.node for out in n.output}


def _wanted(node: Any, step: QuantizeStep, kind: Kind | None, origins: Mapping[str, Origin]) -> bool:
    if step.op_types:
        return origins[node.get_friendly_name()].op_type in step.op_types
    return kind is not Kind.PRODUCTS or node.get_type_name() in COMPUTE


def _matches(pattern: str, field: str, model: Any, origins: Mapping[str, Origin]) -> set[str]:
    """Operations that a pattern means: by the name of the ONNX node they come from, or by their own."""
    found = {
        name for name, origin in origins.items() if fnmatchcase(origin.name, pattern) or fnmatchcase(name, pattern)
    }
    constants = {n.get_friendly_name() for n in operations(model) if n.get_type_name() in CONSTANTS}
    if not found - constants:
        names = list(dict.fromkeys(origin.name for origin in origins.values()))
        raise InvalidInput(
            f"no node is called `{pattern}`", field=field, mend=f"names look like {_listed(names[:3])} …"
        )
    return found - constants


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
