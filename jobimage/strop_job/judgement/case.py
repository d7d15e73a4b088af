"""What one gate function is given."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strop_api.optimization import ModelOptimizationSpec
from strop_api.steps import Precision
from strop_api.targets import Gates, Target

if TYPE_CHECKING:  # the supervisor asks for `asked_precision`, and must stay small
    from strop_job.judgement.evidence import Evidence


@dataclass(frozen=True)
class Case:
    """One run before its gates."""

    gates: Gates
    target: Target
    seen: "Evidence"
    seed: int
    asked: Precision | None = None
    """The precision that the last Quantize step asked for."""
    max_looks: int = 1
    """How often latency may be looked at; the looks share the error that a confidence leaves."""


def asked_precision(spec: ModelOptimizationSpec) -> Precision | None:
    """The precision that the last Quantize step asked for; None without such a step: it stays as it was given."""
    return next((step.quantize.precision for step in reversed(spec.steps) if step.quantize is not None), None)
