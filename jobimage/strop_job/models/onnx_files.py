"""ONNX files that came from outside: read with care, compared with the spec, brought into one shape."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from strop_api.model import InputTensor, ModelSource
from strop_job.errors import InvalidInput, Unsupported
from strop_job.stages import Artifact

FIELD = "spec.model.uri"
IR_VERSION = 10
"""Written for what this worker exports; ONNX Runtime 1.32 refuses the newest."""
MAX_IR_VERSION = 13
MIN_OPSET = 13
"""Per-channel QuantizeLinear needs 13; older graphs are converted up to it."""
MAX_OPSET = 26
"""The highest of ONNX Runtime 1.32."""
SIZE_LIMIT_BYTES = 2**31 - 1
"""Protobuf's own bound for the file without its external data."""
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator sets that the runtimes of this worker know."""


@dataclass(frozen=True)
class GraphFacts:
    """What was read back from a file, never what was asked for."""

    opset: int
    ir_version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: dict[str, int]


def read_graph(source: Artifact) -> onnx.ModelProto:
    """The validated graph, its external data still outside (`load_weights` brings it in).

    Raises InvalidInput for what is no ONNX file, for external data outside the folder or missing, for a graph that the
    checker refuses and for NaN or Inf weights; Unsupported for operators and versions that no runtime here knows.
    """
    path = onnx_file(source)
    model = parse(path)
    for tensor in _external(model):
        _refuse_escape(tensor, path.parent)
    _refuse_versions(model)
    _refuse_operators(model)
    _check(path)
    _refuse_bad_weights(model, path.parent)
    return model


def load_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Bring external data into the graph, in place."""
    onnx.load_external_data_for_model(model, str(folder))


def facts_of(model: onnx.ModelProto) -> GraphFacts:
    """Versions, names and operator counts."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return GraphFacts(
        opset_of(model),
        model.ir_version,
        tuple(v.name for v in graph_inputs(model)),
        tuple(v.name for v in model.graph.output),
        dict(sorted(counts.items())),
    )


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Real inputs: without the weights that old graphs list among them."""
    weights = {i.name for i in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in weights]


def match_inputs(model: onnx.ModelProto, spec: ModelSource) -> None:
    """Compare names, types and shapes with the spec; write the spec's names of dynamic dimensions into the graph.

    Raises InvalidInput that names the input and both sides.
    """
    found = {v.name: v for v in graph_inputs(model)}
    asked = {t.name: t for t in spec.inputs}
    if found.keys() != asked.keys():
        raise InvalidInput(
            f"the model's inputs are {_names(found)}; the spec names {_names(asked)}", field="spec.model.inputs"
        )
    for position, tensor in enumerate(spec.inputs):
        _match(found[tensor.name].type.tensor_type, tensor, spec, f"spec.model.inputs[{position}]")


def normalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without traces of where it was made, at versions every part of this worker reads."""
    if opset_of(model) < MIN_OPSET:
        model = _raise_opset(model)
    model.ir_version = min(max(model.ir_version, 8), MAX_IR_VERSION)
    model.ClearField("metadata_props")
    model.doc_string = ""
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.ClearField("metadata_props")
        value.doc_string = ""
    model.graph.ClearField("metadata_props")
    return model


def save(model: onnx.ModelProto, folder: Path) -> tuple[str, ...]:
    """Write `model.onnx`, with `model.onnx.data` beside it where protobuf ends at 2 GiB; the files' names."""
    if model.ByteSize() < SIZE_LIMIT_BYTES - 2**20:
        onnx.save(model, str(folder / "model.onnx"))
        return ("model.onnx",)
    onnx.save(model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data")
    return ("model.onnx", "model.onnx.data")


def onnx_file(source: Artifact) -> Path:
    """The graph itself: the artifact's entry."""
    return source.entry


def parse(path: Path) -> onnx.ModelProto:
    """The graph without its external data; InvalidInput when it is none."""
    if path.stat().st_size > SIZE_LIMIT_BYTES:
        raise InvalidInput(f"{path.name} is larger than 2 GiB", field=FIELD, mend="save the weights as external data")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise _not_onnx(path, str(error)) from error
    if not model.HasField("graph") or not model.graph.output:
        raise _not_onnx(path, "it holds no graph with outputs")
    return model


def _not_onnx(path: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{path.name} cannot be read as ONNX: {why}; it may be truncated or of another format",
        field=FIELD,
        mend="upload the complete file, or set spec.model.format",
    )


def _external(model: onnx.ModelProto) -> Iterator[TensorProto]:
    return (t for t in tensors(model.graph) if t.data_location == TensorProto.EXTERNAL)


def tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Every constant of a graph, those in attributes and in subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from tensors(attribute.g)
            for inner in attribute.graphs:
                yield from tensors(inner)


def _refuse_escape(tensor: TensorProto, folder: Path) -> None:
    location = next((e.value for e in tensor.external_data if e.key == "location"), "")
    path = folder / location
    if (
        not location
        or PurePosixPath(location).is_absolute()
        or "\\" in location
        or not path.resolve().is_relative_to(folder.resolve())
    ):
        raise InvalidInput(
            f"the external data of {tensor.name!r} lies outside the model's folder: {location!r}",
            field=FIELD,
            mend="save the model with its data in one folder",
        )
    if not path.is_file():
        raise InvalidInput(
            f"the external data of {tensor.name!r} is missing: {location!r}",
            field=FIELD,
            mend="let the URI name the folder that holds both files",
        )


def _refuse_versions(model: onnx.ModelProto) -> None:
    opset = opset_of(model)
    if not 7 <= opset <= MAX_OPSET:
        raise Unsupported(
            f"the model's opset is {opset}; this worker reads 7 to {MAX_OPSET}",
            field=FIELD,
            mend=f"export with opset {MIN_OPSET} to {MAX_OPSET}",
        )
    if model.ir_version > onnx.IR_VERSION:
        raise Unsupported(
            f"the model's IR version is {model.ir_version}; this worker reads up to {onnx.IR_VERSION}",
            field=FIELD,
            mend="export with an older version of onnx, or lower ir_version where the opset allows it",
        )


def _refuse_operators(model: onnx.ModelProto) -> None:
    unknown = sorted(
        {f"{_operator(n)} (`{n.name}`)" if n.name else _operator(n) for n in nodes(model.graph) if not _known(n, model)}
    )
    if unknown:
        raise Unsupported(
            f"operators that no runtime of this worker knows: {', '.join(unknown[:8])}",
            field=FIELD,
            mend="export without custom operators, or use an image that brings them",
        )


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
            for inner in attribute.graphs:
                yield from nodes(inner)


def _operator(node: onnx.NodeProto) -> str:
    return f"{node.domain or 'ai.onnx'}::{node.op_type}"


def _known(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    if any(f.name == node.op_type and f.domain == node.domain for f in model.functions):
        return True
    if node.domain not in DOMAINS:
        return False
    if node.domain == "com.microsoft":
        return True
    return bool(onnx.defs.has(node.op_type, "" if node.domain == "ai.onnx" else node.domain))


def _check(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = " ".join(str(error).split())[:400]
        raise InvalidInput(f"the ONNX checker refuses {path.name}: {reason}", field=FIELD) from error


FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})


def _refuse_bad_weights(model: onnx.ModelProto, folder: Path) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type not in FLOATS:
            continue
        try:
            values = numpy_helper.to_array(tensor, str(folder))
        except (ValueError, TypeError, onnx.checker.ValidationError) as error:
            raise InvalidInput(f"the weight {tensor.name!r} cannot be read: {error}", field=FIELD) from error
        if not _finite(values):
            raise InvalidInput(
                f"the weight {tensor.name!r} holds NaN or infinity",
                field=FIELD,
                mend="the training diverged or the file is damaged: take an earlier checkpoint",
            )


def _finite(values: np.ndarray) -> bool:
    """Scalars may be infinite: a mask's fill value or a clip's open bound is no weight."""
    return values.size <= 1 or bool(np.isfinite(values).all())


def _match(found: onnx.TypeProto.Tensor, asked: InputTensor, spec: ModelSource, field: str) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(found.elem_type).name
    if dtype != asked.dtype.value:
        raise InvalidInput(
            f"the model's input {asked.name} is {dtype}, the spec says {asked.dtype.value}", field=f"{field}.dtype"
        )
    if not found.HasField("shape"):
        return
    if len(found.shape.dim) != len(asked.shape):
        raise InvalidInput(
            f"the model's input {asked.name} has shape {_shape(found)}, the spec says {_spec_shape(asked)}",
            field=f"{field}.shape",
        )
    fixed = {d.name for d in spec.dimensions if d.min == d.max}
    for dim, size in zip(found.shape.dim, asked.shape, strict=True):
        _match_dimension(dim, size, fixed, found, asked, field)


def _match_dimension(
    dim: onnx.TensorShapeProto.Dimension,
    size: int | str,
    fixed: set[str],
    found: onnx.TypeProto.Tensor,
    asked: InputTensor,
    field: str,
) -> None:
    if isinstance(size, str):
        if dim.HasField("dim_value") and size not in fixed:
            raise InvalidInput(
                f"the model fixes {size} of input {asked.name} to {dim.dim_value} ({_shape(found)}), "
                "the spec calls it dynamic",
                field=f"{field}.shape",
                mend=f"export the model with a dynamic {size}, or write {dim.dim_value} in the spec",
            )
        if not dim.HasField("dim_value"):
            dim.dim_param = size
    elif dim.HasField("dim_value") and dim.dim_value != size:
        raise InvalidInput(
            f"the model's input {asked.name} has shape {_shape(found)}, the spec says {_spec_shape(asked)}",
            field=f"{field}.shape",
        )


def _raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.version_converter.convert_version(model, MIN_OPSET)
    except (RuntimeError, ValueError) as error:
        raise Unsupported(
            f"the model's opset {opset_of(model)} cannot be raised to {MIN_OPSET}: {error}",
            field=FIELD,
            mend=f"export with opset {MIN_OPSET} or newer",
        ) from error


def _shape(found: onnx.TypeProto.Tensor) -> str:
    return "[" + ", ".join(d.dim_param or str(d.dim_value or "?") for d in found.shape.dim) + "]"


def _spec_shape(asked: InputTensor) -> str:
    return "[" + ", ".join(str(d) for d in asked.shape) + "]"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
