"""What an engine takes and yields, read from the engine's own file; from the backend's facts where none can be read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from strop_job.errors import Unsupported
from strop_job.stages import Artifact, Facts

DYNAMIC = -1
"""A size that is given with each call."""
FIELD = "spec.output.formats"


@dataclass(frozen=True)
class Tensor:
    """One input or output."""

    name: str
    dtype: str
    """In NumPy's names, and `bfloat16`."""
    shape: tuple[int, ...]
    """Sizes, DYNAMIC for those given with each call."""

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in the engine's own order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Inputs, then outputs."""
        return self.inputs + self.outputs

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        return {"inputs": [t.facts() for t in self.inputs], "outputs": [t.facts() for t in self.outputs]}


def read_signature(engine: Artifact) -> Signature:
    """The engine's inputs and outputs: an ONNX file and an IR are read, other engines are asked by their facts.

    Raises Unsupported where neither tells them all.
    """
    readers = {".onnx": _of_onnx, ".xml": _of_ir}
    reader = readers.get(engine.entry.suffix)
    return reader(engine.entry) if reader else signature_of(engine.facts)


def _of_onnx(path: Path) -> Signature:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    return Signature(
        tuple(_of_value(value) for value in graph.input if value.name not in weights),
        tuple(_of_value(value) for value in graph.output),
    )


def _of_value(value: Any) -> Tensor:
    from onnx import TensorProto, helper

    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        raise _untold(f"the rank of {value.name}")
    bfloat16 = kind.elem_type == TensorProto.BFLOAT16
    dtype = "bfloat16" if bfloat16 else helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    shape = tuple(d.dim_value if d.HasField("dim_value") else DYNAMIC for d in kind.shape.dim)
    return Tensor(value.name, "str" if dtype == "object" else dtype, shape)


def _of_ir(path: Path) -> Signature:
    from strop_job.backends.openvino_library import core

    model = core().read_model(str(path))
    return Signature(tuple(map(_of_port, model.inputs)), tuple(map(_of_port, model.outputs)))


def _of_port(port: Any) -> Tensor:
    name, shape = port.get_any_name(), port.get_partial_shape()
    if shape.rank.is_dynamic:
        raise _untold(f"the rank of {name}")
    kind = port.get_element_type()
    dtype = "bfloat16" if kind.get_type_name() == "bf16" else kind.to_dtype().name
    return Tensor(name, dtype, tuple(d.get_length() if d.is_static else DYNAMIC for d in shape))


def signature_of(facts: Facts) -> Signature:
    """What facts tell as `inputs` and `outputs`. Raises Unsupported where they do not."""
    inputs, outputs = facts.get("inputs"), facts.get("outputs")
    if not (isinstance(inputs, list) and isinstance(outputs, list) and inputs and outputs):
        raise _untold("its inputs and outputs")
    return Signature(tuple(_told(inputs)), tuple(_told(outputs)))


def _told(entries: Iterable[JsonValue]) -> Iterable[Tensor]:
    for entry in entries:
        if not isinstance(entry, Mapping) or not {"name", "dtype", "shape"} <= entry.keys():
            raise _untold("name, type and shape of every input and output")
        shape = entry["shape"]
        sizes = [int(size) for size in shape if isinstance(size, int)] if isinstance(shape, list) else []
        yield Tensor(str(entry["name"]), str(entry["dtype"]), tuple(sizes))


def _untold(what: str) -> Unsupported:
    return Unsupported(
        f"the engine does not tell {what}, which a server must know",
        field=FIELD,
        mend="leave Triton and KServe out of output.formats",
    )
