"""What a check found: its name, how bad it is, and in words what was seen. What the name means stands in `checks`."""

from enum import StrEnum
from typing import Annotated

from strop_api.base import Text
from strop_api.told import Told, unknown_as


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    CRITICAL = "Critical"
    """The model that comes out is likely to be wrong."""
    HIGH = "High"
    """The model is likely to be worse than it need be, or to fail at sizes it will meet."""
    MEDIUM = "Medium"
    """Time or memory is likely to be wasted."""
    LOW = "Low"
    """Worth knowing."""


CheckName = Annotated[str, Text(64, r"^[a-z0-9]+(-[a-z0-9]+)*$")]
"""Name of a check, such as `calibration-range`."""


class Finding(Told):
    """One thing that a check found."""

    check: CheckName
    """Which check."""
    severity: Annotated[Severity, unknown_as(Severity.HIGH, Severity)]
    """How bad it is."""
    message: Annotated[str, Text(256)]
    """What was seen, with its figures and the tensor, layer or field it is about."""
    mend: Annotated[str, Text(160, min_length=0)] = ""
    """What would mend it. Left out of a worker's result: the check's name stands for it."""
