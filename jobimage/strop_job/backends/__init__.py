"""Runtimes: each compiles a graph for a target, opens what it compiled, and inspects it."""

from strop_api.targets import Runtime
from strop_job.backends.base import Arrays, Backend, Inspection, Session
from strop_job.errors import Unsupported

__all__ = ["Arrays", "Backend", "Inspection", "Session", "backend_for"]


def backend_for(runtime: Runtime) -> Backend:
    """The backend of a runtime; its libraries are imported here, not before. Raises Unsupported for the others."""
    if runtime is Runtime.ONNX_RUNTIME:
        from strop_job.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend()
    raise Unsupported(
        f"this worker has no {runtime} backend", field="spec.targets[].runtime", mend=f"use {Runtime.ONNX_RUNTIME}"
    )
