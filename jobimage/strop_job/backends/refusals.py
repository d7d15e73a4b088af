"""What ONNX Runtime's refusals mean, in words: the operator and the node, the versions, the memory."""

import re
from pathlib import Path

import onnx
import onnxruntime as ort

from strop_job.errors import InvalidInput, OutOfMemory, StropError, Unsupported

NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |/\S*onnxruntime\S*:\d+ .*?\) (?=[A-Z])|Load model from \S+ failed:"
)
"""Codes, C++ signatures and paths in the runtime's messages."""
REFUSED = (
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.NoSuchFile,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.EPFail,
)
"""What ONNX Runtime raises for a file it does not take; all are plain Exceptions with no common base."""
UNKNOWN = (
    re.compile(r"No Op registered for (?P<op>\w+)"),
    re.compile(r"(?:[\w.]*:)(?P<op>\w+)\(-?\d+\) is not a registered function/op"),
    re.compile(r"Could not find an implementation for (?P<op>\w+)\(\d+\) node with name '(?P<node>[^']*)'"),
)
"""Three stages of loading, three messages for an operator that cannot be run; one of them does not name the node."""
MEMORY = re.compile(
    r"[Ff]ailed to allocate memory for requested buffer of size (?P<bytes>\d+)|bad allocation|bad_alloc"
    r"|CUDA failure 2|cudaErrorMemoryAllocation|out of memory|Available memory of \d+ is smaller than requested"
)
NAMED_NODES = 3


def first_line(error: BaseException) -> str:
    """An exception's text without ONNX Runtime's codes and C++ signatures, short enough for a status."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return NOISE.sub("", line).strip()[:300]


def refused(path: Path, error: BaseException) -> StropError:
    """What ONNX Runtime's refusal of a file means."""
    text = first_line(error)
    if (memory := out_of_memory(error)) is not None:
        return memory
    if (unknown := unknown_operator(path, str(error))) is not None:
        return unknown
    if "opset" in text.lower() or "ir version" in text.lower():
        return Unsupported(
            f"ONNX Runtime {ort.__version__} is too old for {path.name}{_versions(path)}: {text}",
            field="spec.model.uri",
            mend="export with an older opset and IR version",
        )
    return InvalidInput(f"ONNX Runtime refuses {path.name}: {text}", field="spec.model.uri")


def unknown_operator(path: Path, text: str) -> Unsupported | None:
    """The refusal of an operator, with the nodes that are one; None when the text speaks of something else."""
    found = next((match for pattern in UNKNOWN if (match := pattern.search(text))), None)
    if found is None:
        return None
    operator, node = found["op"], found.groupdict().get("node")
    names = [node] if node else _nodes(path, operator)
    listed = ", ".join(f"`{name}`" for name in names[:NAMED_NODES]) + (" …" if len(names) > NAMED_NODES else "")
    types = _operand_types(path, names[0]) if names else ""
    return Unsupported(
        f"ONNX Runtime {ort.__version__} cannot run the operator {operator}{types} of node {listed or 'unknown'}"
        f"{_versions(path)}",
        field="spec.model.uri",
        mend="replace the operator in the model, or choose a runtime that has it",
    )


def out_of_memory(error: BaseException) -> OutOfMemory | None:
    """The runtime's own words for memory that did not suffice; None when it says something else."""
    found = MEMORY.search(str(error))
    if found is None:
        return None
    wanted = found["bytes"]
    size = f" of {int(wanted) / 2**20:,.0f} MiB" if wanted else ""
    device = "the device's memory" if "CUDA" in str(error) or "cuda" in str(error) else "memory"
    return OutOfMemory(
        f"ONNX Runtime ran out of {device}: an allocation{size} failed",
        field="spec.model.dimensions",
        mend="lower the largest sizes there, or give the pod more memory with spec.worker.resources",
    )


def _nodes(path: Path, operator: str) -> list[str]:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # the file is being refused already; its nodes only help the reader
        return []
    return [n.name or f"{n.op_type} that yields {n.output[0]}" for n in model.graph.node if n.op_type == operator]


def _operand_types(path: Path, node: str) -> str:
    """` on bfloat16`, where the operand's type is written in the file: the operator may exist for other types."""
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception:  # see above
        return ""
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {w.name: w.data_type for w in graph.initializer}
    operands = [name for n in graph.node if n.name == node for name in n.input[:1]]
    found = [onnx.TensorProto.DataType.Name(types[name]).lower() for name in operands if types.get(name)]
    return f" on {found[0]}" if found else ""


def _versions(path: Path) -> str:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # see above
        return ""
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    return f" (IR {model.ir_version}, opset {opsets})"
