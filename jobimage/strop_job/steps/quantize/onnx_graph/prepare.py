"""An exported graph made ready for a quantizer: folded, fused, named and typed; and the patterns of a spec resolved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import onnx
import onnxruntime as ort
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from strop_api.steps import QuantizeStep
from strop_job.backends.graphs import all_nodes, is_large, load, name_nodes, save
from strop_job.backends.onnxruntime import session_options
from strop_job.backends.refusals import refused
from strop_job.errors import InvalidInput
from strop_job.stages import Artifact

KEPT_APART = ["MatMulAddFusion", "ConstantSharing"]
"""Basic optimizations left out: the first turns MatMul into Gemm, which no pattern or dynamic quantizer would find; the
second gives weights other names."""
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits"})
"""Operators of a graph that is quantized already."""


@dataclass(frozen=True)
class Prepared:
    """A graph ready to be quantized."""

    path: Path
    """Types are inferred, batch norms folded, every node has a name."""
    model: onnx.ModelProto
    exported: onnx.ModelProto
    """The graph before: what patterns of node names speak of."""

    @property
    def is_large(self) -> bool:
        """Whether the weights need a file of their own."""
        return is_large(self.model.ByteSize())


@dataclass(frozen=True)
class Selection:
    """What a spec's `opTypes` and `excludeNodes` mean for one graph."""

    op_types: tuple[str, ...]
    excluded: tuple[str, ...]
    """Names of nodes kept in high precision."""

    def nodes(self, model: onnx.ModelProto) -> list[onnx.NodeProto]:
        """The nodes to be quantized."""
        return [n for n in model.graph.node if n.op_type in self.op_types and n.name not in self.excluded]


def prepare(graph: Artifact, scratch: Path) -> Prepared:
    """Runs ONNX Runtime's basic optimizations and ONNX's type inference on a copy.

    A graph that an earlier step quantized is not optimized again: the optimizer knows one runtime's Q/DQ patterns, and
    would give another runtime an integer bias. Stale `value_info` of exporters is dropped first: it contradicts what
    quantizers infer.
    """
    model = load(graph)
    del model.graph.value_info[:]
    name_nodes(model)
    named, optimized, inferred = (scratch / n for n in ("named.onnx", "optimized.onnx", "inferred.onnx"))
    save(model, named)
    exported = onnx.load(str(named), load_external_data=False)
    quantized = any(node.op_type in QUANTIZERS for node in model.graph.node)
    large = is_large(model.ByteSize())
    del model
    if not quantized:
        _optimize(graph.entry, named, optimized, external=large)
    onnx.shape_inference.infer_shapes_path(str(named if quantized else optimized), str(inferred))
    ready = onnx.load(str(inferred))
    _forget_domains(ready)
    name_nodes(ready)
    add_pre_process_metadata(ready)
    save(ready, inferred)
    return Prepared(inferred, ready, exported)


def _optimize(entry: Path, named: Path, optimized: Path, *, external: bool) -> None:
    options = session_options(ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, threads=1)
    options.optimized_model_filepath = str(optimized)
    if external:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimized.data")
    try:
        ort.InferenceSession(
            str(named), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(KEPT_APART)
        )
    except Exception as error:  # ONNX Runtime's own exceptions have no common base
        raise refused(entry, error) from error


def _forget_domains(model: onnx.ModelProto) -> None:
    """Drops the operator sets that ONNX Runtime declares and no node is of: other parsers need not know them."""
    used = {"", "ai.onnx"} | {node.domain for node in all_nodes(model.graph)}
    used |= {node.domain for function in model.functions for node in function.node}
    kept = [o for o in model.opset_import if o.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def select(
    step: QuantizeStep,
    index: int,
    prepared: Prepared,
    quantizable: Iterable[str],
    unnamed: frozenset[str] | None = None,
) -> Selection:
    """Resolves the step's patterns. Raises InvalidInput, naming the field, for one that matches nothing.

    `unnamed` narrows what is quantized where the step names no operators.
    """
    where = f"spec.steps[{index}].quantize"
    can = frozenset(quantizable)
    present = {node.op_type for node in prepared.model.graph.node}
    for at, op_type in enumerate(step.op_types):
        field = f"{where}.opTypes[{at}]"
        if op_type not in can:
            raise InvalidInput(f"{op_type} cannot be quantized this way", field=field, mend=f"use {_listed(can)}")
        if op_type not in present:
            raise InvalidInput(f"the graph has no {op_type}", field=field, mend=f"it has {_listed(present & can)}")
    wanted = tuple(step.op_types) or tuple(sorted(present & (can if unnamed is None else can & unnamed)))
    excluded = {
        n for at, p in enumerate(step.exclude_nodes) for n in _matches(p, f"{where}.excludeNodes[{at}]", prepared)
    }
    return Selection(wanted, tuple(sorted(excluded)))


def _matches(pattern: str, field: str, prepared: Prepared) -> set[str]:
    """Nodes of the prepared graph that a pattern means, by their own name or by that of a node fused into them."""
    direct = {n.name for n in prepared.model.graph.node if fnmatchcase(n.name, pattern)}
    fused = [n for n in prepared.exported.graph.node if fnmatchcase(n.name, pattern) and n.name not in direct]
    if not direct and not fused:
        names = [n.name for n in prepared.exported.graph.node]
        raise InvalidInput(
            f"no node is called `{pattern}`", field=field, mend=f"names look like {_listed(names[:3])} …"
        )
    return direct | _now_in(fused, prepared)


def _now_in(fused: Sequence[onnx.NodeProto], prepared: Prepared) -> set[str]:
    """Follows outputs downstream until one still exists: the node that makes it swallowed the fused one."""
    makers = {out: n.name for n in prepared.model.graph.node for out in n.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in prepared.exported.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: set[str] = set()
    seen: set[str] = set()
    queue = [out for node in fused for out in node.output]
    while queue:
        tensor = queue.pop()
        if tensor in makers:
            found.add(makers[tensor])
        elif tensor not in seen:
            seen.add(tensor)
            queue.extend(out for node in readers.get(tensor, []) for out in node.output)
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
