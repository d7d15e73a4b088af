"""How much a graph computes, node by node: counted on the CPU, since a plan tells it nowhere."""

from collections.abc import Mapping

from strop_api.targets import Runtime, Target
from strop_job.backends.tensorrt.options import Shape
from strop_job.backends.tensorrt.weights import NodeCompute
from strop_job.errors import StropError
from strop_job.stages import Artifact

TARGET = Target(name="reference", runtime=Runtime.ONNX_RUNTIME)


def node_compute(graph: Artifact, shapes: Mapping[str, Shape]) -> NodeCompute:
    """Counts multiply-accumulates by node, in one call of the graph as it is written, on zeros.

    Shape inference does not do: it knows few shapes of an exported transformer.
    """
    from strop_job.backends.onnxruntime import OnnxRuntimeBackend
    from strop_job.backends.reference import computable

    with computable(graph) as ready:
        try:
            seen = OnnxRuntimeBackend().inspect(ready, TARGET, shapes)
        except StropError as error:
            return NodeCompute({}, note=error.message)
    macs = {layer.name: layer.macs for layer in seen.layers or () if layer.macs}
    return NodeCompute(macs, seen.uncounted, seen.note)
