"""An ONNX graph computed as it is written: ONNX Runtime on the CPU with every optimization off.

What a graph says does not depend on the runtime it is for; this is what compilers and quantizers are held against.
The CPU has no bf16 kernels for most operators: such a graph is computed in fp32 with each result rounded to bf16, which
is what accelerators do, but for the order of their sums.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from strop_job.backends.graphs import MODEL_FILE, load, save
from strop_job.backends.onnxruntime import OrtSession, session_options
from strop_job.backends.providers import CPU
from strop_job.backends.refusals import REFUSED, refused
from strop_job.stages import Artifact


def open_reference(graph: Artifact, *, threads: int, spinning: bool = False) -> OrtSession:
    """A session over the graph. Raises Unsupported, naming operator and node, for what the CPU cannot compute."""
    with computable(graph) as ready:
        return _session(ready.entry, threads, spinning)


@contextmanager
def computable(graph: Artifact) -> Iterator[Artifact]:
    """The graph itself; in place of one with bf16, its copy in fp32, which is gone afterwards."""
    content = onnx.load(str(graph.entry), load_external_data=False)
    if not has_bfloat16(content):
        yield graph
        return
    with TemporaryDirectory(prefix="strop-reference-") as scratch:
        files = save(in_float(load(graph), types_of(content)), Path(scratch) / MODEL_FILE)
        yield Artifact(graph.kind, Path(scratch), files)


def has_bfloat16(model: onnx.ModelProto) -> bool:
    """Whether anything in it is bf16."""
    casts = (a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to")
    weights = (w.data_type for w in model.graph.initializer)
    return TensorProto.BFLOAT16 in {*casts, *weights}


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor that ONNX can infer, by name."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output, *graph.input)}


def in_float(model: onnx.ModelProto, types: dict[str, int]) -> onnx.ModelProto:
    """The same graph in fp32; what was bf16 is rounded to bf16 after every operator, weights included."""
    graph = model.graph
    for weight in graph.initializer:
        _widen(weight)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += _rounded(node, {name for name in node.output if types.get(name) == TensorProto.BFLOAT16})
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return model


def _widen(tensor: TensorProto) -> None:
    """In place; each bf16 number is an fp32 number."""
    if tensor.data_type == TensorProto.BFLOAT16:
        values = numpy_helper.to_array(tensor).astype("float32")
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _rounded(node: onnx.NodeProto, halves: set[str]) -> list[onnx.NodeProto]:
    """The node in fp32, followed by casts to bf16 and back for each of its bf16 outputs."""
    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    for attribute in wide.attribute:
        _widen(attribute.t)
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i == TensorProto.BFLOAT16:
            attribute.i = TensorProto.FLOAT
    made = [wide]
    for at, name in enumerate(wide.output):
        if name in halves:
            wide.output[at] = f"{name}/wide"
            made += [
                helper.make_node("Cast", [f"{name}/wide"], [f"{name}/rounded"], to=TensorProto.BFLOAT16),
                helper.make_node("Cast", [f"{name}/rounded"], [name], to=TensorProto.FLOAT),
            ]
    return made


def _session(path: Path, threads: int, spinning: bool) -> OrtSession:
    options = session_options(ort.GraphOptimizationLevel.ORT_DISABLE_ALL, threads=threads)
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return OrtSession(ort.InferenceSession(str(path), options, providers=[CPU]))
    except REFUSED as error:
        raise refused(path, error) from error
