"""What the judges are given and what they say."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from strop_api.findings import Finding, Severity
from strop_job.audit.calibration.observed import Observed


@dataclass(frozen=True)
class Pair:
    """What is compared."""

    calibration: Observed
    reference: Observed
    held_out: Observed
    """What the model is judged by, fingerprints alone: of every sample, or of as many as were taken."""
    reference_name: str = "evaluation"
    """As people say it: `validation` or `evaluation`."""
    held_out_of: int | None = None
    """Samples that the model is judged by; None: those in `held_out` are all."""

    @property
    def shared(self) -> tuple[str, ...]:
        """Tensors that were seen on both sets."""
        return tuple(name for name in self.reference.tensors if name in self.calibration.tensors)


@dataclass(frozen=True)
class Judgement:
    """What one judge says."""

    findings: tuple[Finding, ...] = ()
    figures: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What all judges say."""

    findings: tuple[Finding, ...]
    figures: Mapping[str, JsonValue]
    """By judge."""

    @property
    def mismatches(self) -> int:
        """Distinct kinds of mismatch; those of severity Low are not counted."""
        return len({found.check for found in self.findings if found.severity is not Severity.LOW})


def rounded(value: float, digits: int = 4) -> float:
    """To so many significant digits, for people and JSON."""
    return float(f"{value:.{digits}g}")


def percent(share: float) -> str:
    """A share of 0 to 1, in words."""
    return f"{100 * share:.0f}%" if share >= 0.1 or share == 0 else f"{100 * share:.2g}%"


def short(name: str, most: int = 40) -> str:
    """A long name's end, which tells more than its beginning."""
    return name if len(name) <= most else f"…{name[1 - most :]}"
