"""The catalogue of checks: what each name in a status, an Event or a report of `strop doctor` means."""

from strop_api.checks import calibration, evidence, graph, source, spec, training
from strop_api.checks.check import Check, worst_first

__all__ = ["AREAS", "CATALOGUE", "Check", "worst_first"]

AREAS: dict[str, tuple[Check, ...]] = {
    "Calibration data": calibration.CHECKS,
    "Graphs and engines": graph.CHECKS,
    "Choices of a spec": spec.CHECKS,
    "Training": training.CHECKS,
    "Measurements": evidence.CHECKS,
    "Python programs": source.CHECKS,
}
"""The checks by what they look at."""
CATALOGUE: dict[str, Check] = {check.name: check for checks in AREAS.values() for check in checks}
"""Every check by its name."""
