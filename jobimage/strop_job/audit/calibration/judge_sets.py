"""Judges of the calibration set as a set: samples that say nothing, repeat each other, leak, or are too few."""

from collections.abc import Iterator

import numpy as np
from pydantic import JsonValue

from strop_api.checks import calibration as checks
from strop_api.findings import Finding, Severity
from strop_job.audit.calibration import duplicates, ranges
from strop_job.audit.calibration.judge_ranges import LEAST_HALVED
from strop_job.audit.calibration.observed import Observed, Role, Tensor
from strop_job.audit.calibration.verdict import Judgement, Pair, percent, rounded

LEAKED_SHARE = 0.1
"""So much more of the calibration set must lie near an evaluation sample than evaluation samples lie near each other.
Honest splits by source stay below 0.05: samples of other sources are less alike than those of one set."""
LEAST_LEAKED = 5
"""Samples that must be so: two of a handful may be alike by chance."""
REPEATED_SHARE = 0.4
"""So much more of the calibration set must repeat itself than the reference does: two fifths of it add little."""
SIZE_DECIBELS = 6.0
"""One bit of eight: what ranges from too few samples may cost on the median activation."""
FEW_UNSEEN = 0.1
"""Above this share of samples that may lie beyond the ranges, cost is blamed on the size of the set; below it, on tails
so heavy that no usual number of samples would do, which is only told."""
MOST_UNSEEN = 0.25
"""More than this share of samples may lie beyond the ranges: too few whatever the tails of these activations are."""


def degenerate(pair: Pair) -> Judgement:
    """Nothing varies: all samples are equal, or an input is constant that varies in the reference."""
    seen = pair.calibration
    distinct = distinct_samples(seen)
    figures = {"samples": len(seen), "distinct": distinct}
    if len(seen) > 1 and distinct == 1:
        what = "all zeros" if _all_zero(seen) else "the same"
        return Judgement((checks.DEGENERATE.finding(f"all {len(seen)} calibration samples are {what}"),), dict(figures))
    if len(seen) == 1:
        found = checks.DEGENERATE.finding("there is one calibration sample: every range is that sample's own")
        return Judgement((found,), dict(figures))
    if not comparable(pair.reference):
        return Judgement((_poor_reference(pair),), dict(figures))
    return Judgement(tuple(_constant_inputs(pair)), dict(figures))


def comparable(reference: Observed) -> bool:
    """Whether something can be held against a reference: it has samples enough to be held against itself."""
    return distinct_samples(reference) >= LEAST_HALVED


def _poor_reference(pair: Pair) -> Finding:
    count, distinct = len(pair.reference), distinct_samples(pair.reference)
    many = f"{distinct} distinct {pair.reference_name} sample{'s' if distinct > 1 else ''} among {count}"
    return checks.DEGENERATE.finding(
        f"{many}: calibration was not compared, which takes {LEAST_HALVED}",
        severity=Severity.HIGH,
        mend=f"Name more data in spec.data.{pair.reference_name}, and look at its reader: a failed load leaves zeros.",
    )


def distinct_samples(seen: Observed) -> int:
    """Samples whose inputs differ."""
    return len(np.unique(seen.prints, axis=0))


def _all_zero(seen: Observed) -> bool:
    return all(not one.quantiles.any() for one in seen.tensors.values() if one.role is Role.INPUT)


def _constant_inputs(pair: Pair) -> Iterator[Finding]:
    for name in pair.shared:
        mine, theirs = pair.calibration.tensors[name], pair.reference.tensors[name]
        if mine.role is not Role.INPUT or not (mine.finite and theirs.finite):
            continue
        if np.ptp(mine.quantiles) > 0 or np.ptp(theirs.quantiles) == 0:
            continue
        value = rounded(float(mine.quantiles[0, 0]))
        yield checks.DEGENERATE.finding(
            f"input `{name}` is {value:g} throughout all {len(mine.quantiles)} calibration samples; in the "
            f"{pair.reference_name} data it varies from {_span(theirs)}"
        )


def _span(tensor: Tensor) -> str:
    span = ranges.Span.of(tensor)
    return f"{rounded(span.low):g} to {rounded(span.high):g}"


def repeated(pair: Pair) -> Judgement:
    """Near-duplicates within the calibration set, over those within the reference."""
    found = duplicates.within(pair.calibration.prints, pair.reference.prints)
    figures = {"nearDuplicates": rounded(found.share), "inReference": rounded(found.usual)}
    if found.excess < REPEATED_SHARE:
        return Judgement((), dict(figures))
    told = checks.DUPLICATES.finding(
        f"{percent(found.share)} of {len(pair.calibration)} calibration samples nearly repeat another one "
        f"({percent(found.usual)} in the {pair.reference_name} data)"
    )
    return Judgement((told,), dict(figures))


def leaked(pair: Pair) -> Judgement:
    """Near-duplicates between the calibration set and what the model is judged by, over those within the latter."""
    found = duplicates.across(pair.calibration.prints, pair.held_out.prints)
    compared, total = len(pair.held_out), pair.held_out_of or len(pair.held_out)
    figures: dict[str, JsonValue] = {
        "nearEvaluation": rounded(found.share),
        "withinEvaluation": rounded(found.usual),
        "comparedWith": compared,
        "ofEvaluation": total,
    }
    if found.excess < max(LEAKED_SHARE, LEAST_LEAKED / len(pair.calibration)):
        return Judgement((), figures)
    least = "" if compared == total else "at least "
    whole = f"all {total:,}" if compared == total else f"{compared:,} of {total:,}"
    told = checks.LEAK.finding(
        f"{least}{percent(found.share)} of {len(pair.calibration)} calibration samples are near-duplicates "
        f"of evaluation samples ({whole} were compared), which are so near to each other in "
        f"{percent(found.usual)} of cases"
    )
    return Judgement((told,), figures)


def too_few(pair: Pair) -> Judgement:
    """How far ranges of so many samples may miss, from order statistics; see ranges.size_cost."""
    count = distinct_samples(pair.calibration)
    costs = [
        ranges.size_cost(one, count)
        for name, one in pair.reference.tensors.items()
        if name not in pair.reference.categories and one.finite
    ]
    beyond = 1 - ranges.seen_share(count)
    figures = {"beyond": rounded(beyond), "decibels": rounded(float(np.median(costs))) if costs else None}
    told = _size_finding(count, beyond, float(np.median(costs)) if costs else 0.0)
    return Judgement((told,) if told else (), dict(figures))


def _size_finding(count: int, beyond: float, decibels: float) -> Finding | None:
    costly = decibels >= SIZE_DECIBELS
    if not costly and beyond <= MOST_UNSEEN:
        return None
    text = f"{count} distinct calibration samples: with 95% confidence up to {percent(beyond)} of inputs go beyond them"
    if not costly:
        return checks.SAMPLE_SIZE.finding(text, severity=Severity.HIGH)
    text = f"{text}, and noise grows by up to {decibels:.0f} dB on half of the activations"
    severity = checks.SAMPLE_SIZE.severity if beyond > FEW_UNSEEN else Severity.LOW
    mend = "The tails are heavy: use the calibrator Percentile or Entropy, or more samples."
    return checks.SAMPLE_SIZE.finding(text, severity=severity, mend=mend if severity is Severity.LOW else None)
