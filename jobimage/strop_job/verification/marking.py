"""Making the inside of a graph visible: copies whose inner tensors are outputs too. What was compiled stays."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from strop_api.targets import Runtime, Target
from strop_job.stages import Artifact, ArtifactKind


@dataclass(frozen=True)
class Spot:
    """One tensor that a node yields."""

    tensor: str
    node: str
    operator: str
    inputs: tuple[str, ...]
    """Tensors that the node reads, but for constants."""


class Marker(Protocol):
    """One file format."""

    def spots(self, graph: Artifact) -> tuple[Spot, ...]:
        """What can be made visible, in the order of computing; nothing that is constant."""

    def mark(self, graph: Artifact, tensors: Sequence[str], folder: Path) -> Artifact:
        """A copy, in an empty folder, that yields these tensors beside its own outputs."""


MARKERS: dict[ArtifactKind, str] = {
    ArtifactKind.ONNX_GRAPH: "strop_job.verification.mark_onnx:OnnxMarker",
    ArtifactKind.OPENVINO_IR: "strop_job.verification.mark_openvino:OpenVinoMarker",
}
"""`module:class`, by the kind of graph; the library is imported when something has to be found."""

GRAPHS_INSIDE = {
    (Runtime.ONNX_RUNTIME, ".onnx"): ArtifactKind.ONNX_GRAPH,
    (Runtime.OPENVINO, ".xml"): ArtifactKind.OPENVINO_IR,
}
"""Engines that are graphs, by runtime and the suffix of their entry file."""


def marker_of(graph: Artifact) -> Marker | None:
    """Who marks a graph of this kind; None where nobody can."""
    return _load(MARKERS[graph.kind]) if graph.kind in MARKERS else None


def engine_marker(engine: Artifact, target: Target) -> Marker | None:
    """Who marks an engine itself, which is possible where it is a graph on the disk; None elsewhere."""
    kind = GRAPHS_INSIDE.get((target.runtime, Path(engine.files[0]).suffix))
    return None if kind is None else _load(MARKERS[kind])


def _load(place: str) -> Marker:
    module, _, name = place.partition(":")
    return cast("Callable[[], Marker]", getattr(import_module(module), name))()


def beside(graph: Artifact, folder: Path) -> tuple[str, ...]:
    """Everything but the entry file, linked into a folder: weights of their own are never copied where a link will do.

    Returns the files' names.
    """
    for name in graph.files[1:]:
        source, wanted = graph.folder / name, folder / name
        wanted.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, wanted)
        except OSError:
            shutil.copyfile(source, wanted)
    return graph.files[1:]
