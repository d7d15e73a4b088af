"""What graphs and engines themselves show: sizes baked in, precision not realised, zeros that buy nothing."""

from pathlib import Path

from strop_api.findings import Finding
from strop_job.audit.graph.stages import audit_precision_stage, audit_shapes_stage, audit_zeros_stage

__all__ = ["audit_precision_stage", "audit_shapes_stage", "audit_zeros_stage", "examine_engine", "examine_onnx"]


def examine_onnx(path: Path) -> list[Finding]:
    """All that an ONNX file on its own shows, worst first; it is run on made-up inputs. Never raises for a bad file."""
    from strop_job.audit.graph.alone import examine

    return examine(path)


def examine_engine(path: Path) -> list[Finding]:
    """All that an engine's file on its own shows, worst first. No code from it is run; what was not seen is said."""
    from strop_job.audit.graph.engines import examine

    return examine(path)
