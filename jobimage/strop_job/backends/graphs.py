"""ONNX graphs on the disk, between the worker's own stages: read, written, walked, named."""

from collections.abc import Iterator
from pathlib import Path

import onnx

from strop_job.errors import InvalidInput
from strop_job.stages import Artifact

MODEL_FILE = "model.onnx"
EXTERNAL_FROM_BYTES = 1_800_000_000
"""A protobuf ends at 2 GiB; from here on weights go to a file of their own."""


def load(graph: Artifact) -> onnx.ModelProto:
    """The graph with its weights. Raises InvalidInput for a file that is no ONNX model."""
    try:
        return onnx.load(str(graph.entry))
    except Exception as error:  # protobuf's and onnx's errors differ by implementation
        raise InvalidInput(
            f"{graph.files[0]} is no readable ONNX model: {error}",
            field="spec.model.uri",
            mend="upload the complete file",
        ) from error


def is_large(size_bytes: int) -> bool:
    """Whether weights of this size need a file of their own."""
    return size_bytes > EXTERNAL_FROM_BYTES


def save(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """Writes one file, or a second one with the weights where one would be too large. Returns the files' names.

    The model keeps its weights: onnx takes them out of it while it writes them beside the file.
    """
    external = path.with_name(path.name + ".data")
    external.unlink(missing_ok=True)
    if not is_large(model.ByteSize()):
        onnx.save(model, str(path))
        return (path.name,)
    onnx.save(model, str(path), save_as_external_data=True, location=external.name)
    onnx.load_external_data_for_model(model, str(path.parent))
    return (path.name, external.name) if external.exists() else (path.name,)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from all_nodes(inner)


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every nameless node a name, so that it can be spoken of."""
    taken = {node.name for node in model.graph.node}
    for at, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{at}"
            node.name = name if name not in taken else f"{name}_{len(taken)}"
            taken.add(node.name)


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
