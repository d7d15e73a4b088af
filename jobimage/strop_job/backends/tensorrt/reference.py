"""The same graph without TensorRT: ONNX Runtime on the CPU, with every optimization off."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from strop_api.targets import Runtime, Target
from strop_job.backends.base import Session
from strop_job.backends.graphs import MODEL_FILE, all_nodes, load, save
from strop_job.backends.tensorrt.options import Shape
from strop_job.backends.tensorrt.weights import NodeCompute
from strop_job.errors import StropError
from strop_job.stages import Artifact, ArtifactKind

TARGET = Target(name="reference", runtime=Runtime.ONNX_RUNTIME)


def open_reference(graph: Artifact, *, threads: int, spinning: bool) -> Session:
    """A session that computes the graph as it is written.

    ONNX Runtime's CPU kernels lack bf16, so such a graph is computed in fp32 with the same (bf16) weights: what differs
    is the rounding of activations alone.
    """
    from strop_job.backends.onnxruntime import OnnxRuntimeBackend

    with _without_bf16(graph) as wide:
        return OnnxRuntimeBackend().open(wide, TARGET, threads=threads, optimized=False, spinning=spinning)


def node_compute(graph: Artifact, shapes: Mapping[str, Shape]) -> NodeCompute:
    """Counts multiply-accumulates by node, in one call of the graph as it is written, on zeros.

    Shape inference does not do: it knows few shapes of an exported transformer.
    """
    from strop_job.backends.onnxruntime import OnnxRuntimeBackend

    with _without_bf16(graph) as wide:
        try:
            seen = OnnxRuntimeBackend().inspect(wide, TARGET, shapes)
        except StropError as error:
            return NodeCompute({}, note=error.message)
    macs = {layer.name: layer.macs for layer in seen.layers or () if layer.macs}
    return NodeCompute(macs, seen.uncounted, seen.note)


@contextmanager
def _without_bf16(graph: Artifact) -> Iterator[Artifact]:
    """The graph itself, or a copy in fp32 that is gone afterwards."""
    model = load(graph)
    if not has_bf16(model):
        yield graph
        return
    widen(model)
    with TemporaryDirectory(prefix="strop-reference-") as folder:
        yield Artifact(ArtifactKind.ONNX_GRAPH, Path(folder), save(model, Path(folder) / MODEL_FILE))


def has_bf16(model: onnx.ModelProto) -> bool:
    """Whether the graph computes in bf16 anywhere."""
    return any(w.data_type == TensorProto.BFLOAT16 for w in model.graph.initializer) or any(
        a.name == "to" and a.i == TensorProto.BFLOAT16 for node in all_nodes(model.graph) for a in node.attribute
    )


def widen(model: onnx.ModelProto) -> None:
    """Makes every bf16 tensor fp32, in place. Weights keep their values: each bf16 number is an fp32 number."""
    for weight in model.graph.initializer:
        _widen_tensor(weight)
    for node in all_nodes(model.graph):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.type == onnx.AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.BFLOAT16:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
