"""Which function carries out which step: names, so that nothing is imported before it is needed."""

from dataclasses import dataclass

from strop_api.steps import StepType


@dataclass(frozen=True)
class Technique:
    """How one type of step is served."""

    handler: str
    """`module:function`, a `strop_job.shaping.workshop.Handler`."""
    version: int
    """Raised whenever it comes out differently for the same parameters."""
    data: tuple[str, ...] = ("validation",)
    """Sets of `spec.data` that it reads."""
    libraries: tuple[str, ...] = ("torch",)
    """Distributions whose versions shape the bytes."""
    weight: float = 2.0
    """Expected share of the run's time."""


TRAINED = ("training", "validation")

TECHNIQUES: dict[StepType, Technique] = {
    StepType.FINE_TUNE: Technique("strop_job.shaping.fine_tune:fine_tune", 1, TRAINED, weight=10.0),
}
"""One row a technique; a step type without a row is refused by name."""
