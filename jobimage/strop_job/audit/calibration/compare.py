"""Holds a calibration set against a reference set: a list of judges, each for one kind of mismatch."""

from collections.abc import Callable, Mapping

from strop_api.checks import calibration as checks
from strop_api.checks import worst_first
from strop_api.findings import Finding, Severity
from strop_job.audit.calibration import judge_coverage, judge_distribution, judge_ranges, judge_sets
from strop_job.audit.calibration.observed import Observed, Role
from strop_job.audit.calibration.verdict import Judgement, Pair, Verdict

JUDGES: Mapping[str, Callable[[Pair], Judgement]] = {
    "ranges": judge_ranges.spans,
    "distributions": judge_distribution.distributions,
    "coverage": judge_coverage.covered,
    "duplicates": judge_sets.repeated,
    "leak": judge_sets.leaked,
    "size": judge_sets.too_few,
}
OF_INPUTS = frozenset({checks.DISTRIBUTION.name, checks.COVERAGE.name})
"""Checks that may speak of inputs alone."""


def compare(
    calibration: Observed,
    reference: Observed,
    held_out: Observed | None = None,
    *,
    reference_name: str = "evaluation",
    held_out_of: int | None = None,
) -> Verdict:
    """Every mismatch between two sets that were observed with the same model, worst first.

    `held_out` is what the model is judged by where that is more than the reference, taken from `held_out_of` samples;
    only its fingerprints are read. Of a
    calibration set in which nothing varies, or a reference of next to nothing, that alone is said. Raises ValueError
    for an empty set.
    """
    if not len(calibration) or not len(reference):
        raise ValueError("nothing was observed of one of the sets")
    pair = Pair(calibration, reference, reference if held_out is None else held_out, reference_name, held_out_of)
    first = judge_sets.degenerate(pair)
    if judge_sets.distinct_samples(calibration) == 1 or not judge_sets.comparable(reference):
        return Verdict(first.findings, {"set": dict(first.figures)})
    judged = {"set": first} | {name: judge(pair) for name, judge in JUDGES.items()}
    findings = _weighed([found for judgement in judged.values() for found in judgement.findings], pair)
    return Verdict(tuple(worst_first(findings)), {name: dict(one.figures) for name, one in judged.items()})


def _weighed(findings: list[Finding], pair: Pair) -> list[Finding]:
    """Inputs that differ while nothing inside the model does are milder: the ranges they set fit the reference."""
    inside = any(one.role is not Role.INPUT for one in pair.reference.tensors.values())
    alone = all(found.check in OF_INPUTS and found.message.startswith("input ") for found in findings)
    if not (inside and alone):
        return findings
    return [found.model_copy(update={"severity": Severity.MEDIUM}) for found in findings]
