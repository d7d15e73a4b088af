"""An ONNX graph computed as it is written: ONNX Runtime on the CPU with every optimization off.

What a graph says does not depend on the runtime it is for; this is what compilers and quantizers are held against.
The CPU has no 16-bit kernels for most operators: bf16 is refused, and fp16 is computed in fp32 between casts, of which
those between two operators are dropped, and overflow and rounding with them. Such a graph is computed in fp32 with each
result rounded, which is what accelerators do, but for the order of their sums.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from strop_job.backends.graphs import HALVES, MODEL_FILE, all_nodes, load, save
from strop_job.backends.onnxruntime import OrtSession, session_options
from strop_job.backends.providers import CPU
from strop_job.backends.refusals import REFUSED, refused
from strop_job.stages import Artifact

FP16 = TensorProto.FLOAT16


def open_reference(graph: Artifact, *, threads: int, spinning: bool = False) -> OrtSession:
    """A session over the graph. Raises Unsupported, naming operator and node, for what the CPU cannot compute."""
    with computable(graph) as ready:
        return _session(ready.entry, threads, spinning)


@contextmanager
def computable(graph: Artifact) -> Iterator[Artifact]:
    """The graph itself; in place of one with 16-bit floats, its copy in fp32, which is gone afterwards."""
    content = onnx.load(str(graph.entry), load_external_data=False)
    if not has_halves(content):
        yield graph
        return
    with TemporaryDirectory(prefix="strop-reference-") as scratch:
        files = save(in_float(load(graph), halves_of(content)), Path(scratch) / MODEL_FILE)
        yield Artifact(graph.kind, Path(scratch), files)


def has_halves(model: onnx.ModelProto) -> bool:
    """Whether anything in it is bf16 or fp16."""
    casts = (a.i for n in all_nodes(model.graph) if n.op_type == "Cast" for a in n.attribute if a.name == "to")
    weights = (w.data_type for w in model.graph.initializer)
    given = (v.type.tensor_type.elem_type for v in model.graph.input)
    constants = (a.t.data_type for n in all_nodes(model.graph) for a in n.attribute)
    return not HALVES.isdisjoint({*casts, *weights, *given, *constants})


def halves_of(model: onnx.ModelProto) -> dict[str, int]:
    """Which 16-bit float each tensor is of, by its name; those inside subgraphs included.

    ONNX does not know the results of other domains' operators: such a one is taken to be of its operands' type.
    """
    while True:
        model = onnx.shape_inference.infer_shapes(model)
        graphs = list(_graphs(model.graph))
        known = {v.name: v.type.tensor_type.elem_type for g in graphs for v in (*g.value_info, *g.output, *g.input)}
        operands = {**{w.name: w.data_type for g in graphs for w in g.initializer}, **known}
        guessed = [
            helper.make_tensor_value_info(node.output[0], kind, None)
            for node in model.graph.node
            if node.domain not in ("", "ai.onnx") and node.op_type != "QuantizeLinear"
            if node.output and node.output[0] and node.output[0] not in known
            for kind in {operands.get(name, 0) for name in node.input} & HALVES
        ]
        if not guessed:
            return {name: kind for name, kind in known.items() if kind in HALVES}
        model.graph.value_info.extend(guessed)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside its nodes, each after the one it is in."""
    yield graph
    for node in all_nodes(graph):
        for attribute in node.attribute:
            yield from (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else []))


def in_float(model: onnx.ModelProto, halves: Mapping[str, int]) -> onnx.ModelProto:
    """The same graph in fp32; what was a 16-bit float is rounded to it after every operator, weights included.

    Inputs and outputs in fp16 stay so; in bf16, which no array has, they become fp32.
    """
    graph = model.graph
    given, made = ([v.name for v in values if halves.get(v.name) == FP16] for values in (graph.input, graph.output))
    inner = {name: f"{name}/float" for name in (*given, *made)}
    for part in reversed(list(_graphs(graph))):
        for value in (*part.input, *part.output):
            if value.type.tensor_type.elem_type in HALVES and not (part is graph and value.name in inner):
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for weight in part.initializer:
            _widen(weight)
        _round_in(part, halves, inner)
    first = [helper.make_node("Cast", [name], [inner[name]], to=TensorProto.FLOAT) for name in given]
    last = [helper.make_node("Cast", [inner[name]], [name], to=FP16) for name in made if name not in given]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _round_in(graph: onnx.GraphProto, halves: Mapping[str, int], inner: Mapping[str, str]) -> None:
    """In place; `inner` gives new names to tensors whose own the graph's interface keeps."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        made = _rounded(node, halves)
        for each in made:
            each.input[:] = [inner.get(name, name) for name in each.input]
            each.output[:] = [inner.get(name, name) for name in each.output]
        nodes += made
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]


def _widen(tensor: TensorProto) -> None:
    """In place; each 16-bit float is an fp32 number."""
    if tensor.data_type in HALVES:
        values = numpy_helper.to_array(tensor).astype("float32")
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _rounded(node: onnx.NodeProto, halves: Mapping[str, int]) -> list[onnx.NodeProto]:
    """The node in fp32, followed by casts to its 16-bit float and back for each of its outputs that has one."""
    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    for attribute in wide.attribute:
        if attribute.HasField("t"):
            _widen(attribute.t)
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in HALVES:
            attribute.i = TensorProto.FLOAT
    made = [wide]
    for at, name in enumerate(wide.output):
        if name in halves:
            wide.output[at] = f"{name}/wide"
            made += [
                helper.make_node("Cast", [f"{name}/wide"], [f"{name}/rounded"], to=halves[name]),
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
