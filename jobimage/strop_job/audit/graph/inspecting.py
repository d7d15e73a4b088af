"""What engines that are data compute with, by the backends' own inspections, at sizes that they take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from strop_api.targets import Runtime, Target
from strop_job.audit.graph.interface import of_graph
from strop_job.audit.graph.running import one_line, open_model
from strop_job.audit.graph.shapes import served_at
from strop_job.backends import backend_for
from strop_job.backends.graphs import integer_nodes
from strop_job.stages import Artifact, ArtifactKind

DYNAMIC_SIZES = (4, 16)
"""Of the first axis, and of others."""


def onnx_inspection(path: Path) -> dict[str, Any]:
    """Of a graph for ONNX Runtime on a CPU, as its facts; `quantized` says whether some of it is meant to be."""
    model = onnx.load(str(path))
    try:
        served, below = served_at(open_model(model), of_graph(model))
    except Exception as error:  # whatever the runtime raises for a graph it does not load
        return {"inspected": False, "note": one_line(error)}
    if below is None:
        return {"inspected": False, "note": "it takes none of the made-up inputs that were tried"}
    sizes = served.sizes[0]
    shapes = {i.name: tuple(sizes[a] if isinstance(a, str) else a for a in i.shape) for i in served.inputs}
    engine = Artifact(ArtifactKind.ENGINE, path.parent, (path.name,))
    target = Target(name="cpu", runtime=Runtime.ONNX_RUNTIME)
    facts = backend_for(Runtime.ONNX_RUNTIME).inspect(engine, target, shapes).facts()
    return {**facts, "quantized": bool(integer_nodes(model))}


def openvino_inspection(path: Path) -> tuple[Mapping[str, tuple[object, ...]], dict[str, Any]]:
    """Declared shapes of the inputs, and the facts of an inspection. Raises StropError for a file that is no IR."""
    from strop_job.backends.openvino_graphs import quantized, read

    artifact = Artifact(ArtifactKind.OPENVINO_IR, path.parent, (path.name, path.with_suffix(".bin").name))
    model = read(artifact)
    declared = {port.get_any_name(): tuple(_sizes(port)) for port in model.inputs}
    shapes = {name: tuple(_chosen(at, size) for at, size in enumerate(dims)) for name, dims in declared.items()}
    backend = backend_for(Runtime.OPENVINO)
    facts = backend.inspect(artifact, Target(name="cpu", runtime=Runtime.OPENVINO), shapes).facts()
    return declared, {**facts, "quantized": bool(quantized(model))}


def _sizes(port: Any) -> list[object]:
    return [
        dim.get_length() if dim.is_static else (dim.get_min_length(), dim.get_max_length())
        for dim in port.get_partial_shape()
    ]


def _chosen(at: int, size: object) -> int:
    """The size itself, or one within its bounds."""
    if isinstance(size, int):
        return size
    assert isinstance(size, tuple)
    low, high = (int(bound) for bound in size)
    wanted = DYNAMIC_SIZES[min(at, 1)]
    return max(wanted, low) if high < 0 else min(max(wanted, low), high)
