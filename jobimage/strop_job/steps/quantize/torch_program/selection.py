"""What a step's `opTypes` and `excludeNodes` mean in a torch program."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch

from strop_api.steps import QuantizeStep
from strop_job.errors import InvalidInput

ATEN = torch.ops.aten
CONVOLUTIONS = frozenset({ATEN.conv1d.default, ATEN.conv2d.default, ATEN.conv3d.default, ATEN.conv1d.padding,
                          ATEN.conv2d.padding, ATEN.conv3d.padding, ATEN.convolution.default})  # fmt: skip
LINEAR = frozenset({ATEN.linear.default, ATEN.addmm.default})
PRODUCTS = frozenset({ATEN.matmul.default, ATEN.mm.default, ATEN.bmm.default, ATEN.baddbmm.default})
ATTENTION = frozenset({ATEN.scaled_dot_product_attention.default})
COMPUTE = CONVOLUTIONS | LINEAR | PRODUCTS | ATTENTION
"""What multiplies and accumulates."""
OPERATORS: Mapping[str, frozenset[Any]] = {
    "Conv": CONVOLUTIONS,
    "Gemm": LINEAR,
    "MatMul": LINEAR | PRODUCTS,
    "Attention": ATTENTION,
}
"""The spec speaks of ONNX operators; a linear layer is a Gemm or a MatMul there, whichever its input's rank gives."""


@dataclass(frozen=True)
class Selection:
    """What is quantized."""

    op_types: tuple[str, ...]
    """As in the spec; empty: all."""
    operators: frozenset[Any]
    """The same as torch's operators."""
    excluded: frozenset[str]
    """Names of nodes that are kept."""

    def has(self, node: torch.fx.Node) -> bool:
        """Whether a node is to be quantized."""
        return node.op == "call_function" and node.target in self.operators and node.name not in self.excluded


def select(step: QuantizeStep, index: int, graph: torch.fx.Graph, quantizable: frozenset[Any]) -> Selection:
    """Resolves the step's patterns. Raises InvalidInput, naming the field, for one that means nothing here."""
    where = f"spec.steps[{index}].quantize"
    present = {node.target for node in graph.nodes}
    chosen: set[Any] = set()
    can = [name for name, targets in OPERATORS.items() if targets & quantizable]
    for at, op_type in enumerate(step.op_types):
        field = f"{where}.opTypes[{at}]"
        if op_type not in can:
            raise InvalidInput(f"{op_type} cannot be quantized this way", field=field, mend=f"use {_listed(can)}")
        if not OPERATORS[op_type] & quantizable & present:
            raise InvalidInput(f"the program has no {op_type}", field=field, mend="leave it out")
        chosen |= OPERATORS[op_type] & quantizable
    excluded = {
        name for at, p in enumerate(step.exclude_nodes) for name in _matches(p, f"{where}.excludeNodes[{at}]", graph)
    }
    return Selection(tuple(step.op_types), frozenset(chosen or quantizable), frozenset(excluded))


def compute_nodes(graph: torch.fx.Graph) -> Iterator[torch.fx.Node]:
    """Nodes that multiply and accumulate, in order."""
    return (node for node in graph.nodes if node.op == "call_function" and node.target in COMPUTE)


def layer_name(node: torch.fx.Node) -> str:
    """The module a node comes from, `encoder.layer.0.attention.self.query`; the node's own name outside of modules."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return (paths[-1] if paths else "") or node.name


def _matches(pattern: str, field: str, graph: torch.fx.Graph) -> set[str]:
    named = {node.name: layer_name(node) for node in compute_nodes(graph)}
    found = {name for name, layer in named.items() if fnmatchcase(name, pattern) or fnmatchcase(layer, pattern)}
    if not found:
        examples = _listed(sorted(named.values())[:3])
        raise InvalidInput(f"no layer is called `{pattern}`", field=field, mend=f"names look like {examples} …")
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
