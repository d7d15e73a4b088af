"""Runtimes: each compiles a graph for a target, opens what it compiled, and inspects it."""

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from strop_api.targets import Runtime
from strop_job.backends.base import (
    Arithmetic,
    Arrays,
    Backend,
    Compilation,
    Inspection,
    Layer,
    NumberFormat,
    Session,
)
from strop_job.errors import Unsupported
from strop_job.stages import ArtifactKind

__all__ = [
    "TRAITS", "Arithmetic", "Arrays", "Backend", "Compilation", "Inspection", "Layer", "NumberFormat", "Session",
    "Traits", "backend_for",
]  # fmt: skip


@dataclass(frozen=True)
class Traits:
    """What the planner must know of a runtime without loading its libraries."""

    place: str
    """`module:class` of the backend."""
    extra: str
    """Optional dependencies of the distribution that hold its libraries."""
    libraries: tuple[str, ...]
    """Distributions whose versions shape the engine's bytes and facts."""
    starts_from: ArtifactKind
    """What the export must yield."""
    quantizes_to: ArtifactKind
    """What a Quantize step yields."""


TRAITS: dict[Runtime, Traits] = {
    Runtime.ONNX_RUNTIME: Traits(
        "strop_job.backends.onnxruntime:OnnxRuntimeBackend",
        "cpu",
        ("onnxruntime", "onnxruntime-gpu"),
        ArtifactKind.ONNX_GRAPH,
        ArtifactKind.ONNX_GRAPH,
    ),
    Runtime.OPENVINO: Traits(
        "strop_job.backends.openvino:OpenVinoBackend",
        "openvino",
        ("openvino", "nncf"),
        ArtifactKind.ONNX_GRAPH,
        ArtifactKind.OPENVINO_IR,
    ),
    Runtime.TENSORRT: Traits(
        "strop_job.backends.tensorrt:TensorRTBackend",
        "tensorrt",
        ("tensorrt", "onnxruntime", "onnxruntime-gpu", "onnx"),
        ArtifactKind.ONNX_GRAPH,
        ArtifactKind.ONNX_GRAPH,
    ),
    Runtime.TENSORRT_RTX: Traits(
        "strop_job.backends.tensorrt:TensorRTRTXBackend",
        "rtx",
        ("tensorrt-rtx", "onnxruntime", "onnxruntime-gpu", "onnx"),
        ArtifactKind.ONNX_GRAPH,
        ArtifactKind.ONNX_GRAPH,
    ),
    Runtime.INDUCTOR: Traits(
        "strop_job.backends.inductor:InductorBackend",
        "inductor",
        ("torch", "torchao"),
        ArtifactKind.EXPORTED_PROGRAM,
        ArtifactKind.EXPORTED_PROGRAM,
    ),
}


def backend_for(runtime: Runtime) -> Backend:
    """The backend of a runtime; its libraries are imported here, not before.

    Raises Unsupported, naming the extra to install, where they are not there.
    """
    traits = TRAITS[runtime]
    module, _, name = traits.place.partition(":")
    try:
        made = getattr(import_module(module), name)()
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"this worker has no {runtime}: the module {error.name} is not installed",
            field="spec.targets[].runtime",
            mend=f"use a worker image with strop[{traits.extra}]",
        ) from error
    return cast("Backend", made)
