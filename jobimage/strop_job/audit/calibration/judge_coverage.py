"""The judge of coverage: classes and values that are common in the reference and missing in the calibration set."""

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import JsonValue

from strop_api.checks import calibration as checks
from strop_api.findings import Finding, Severity
from strop_job.audit.calibration import coverage
from strop_job.audit.calibration.verdict import Judgement, Pair, percent, rounded

UNSEEN_CLASSES = 0.55
"""More than half of the reference belongs to classes of which nothing was observed. Honest splits by source stay below
0.42, where files of one package are of few types."""
VALUE_DISTANCE = 0.45
"""Weighted Jaccard distance of the values common in either set. Honest splits by source stay below 0.22; another
language is 0.8, a text cut to six tokens 0.42 with its full stops missing altogether."""
PLACEHOLDER = 0.2
"""Where the model misses no more than this on samples of one label, the labels are taken for placeholders."""
SEVERAL = 1.5
"""Effective classes (see coverage.effective) from which the model is taken to tell several apart."""
MISSING_SHARE = 0.35
"""A value that one sample in three holds in one set, and none in the other: a full stop, a marker. In honest splits of
64 samples by source it was 0.28 at most: bytes of binary files that one package alone has."""
PADDING_SHARE = 0.2
"""The same for a value that samples are filled up with."""
ENOUGH = 16
"""With fewer samples a value of PADDING_SHARE may be missing by chance (0.8^16 = 3%)."""


def covered(pair: Pair) -> Judgement:
    """By the classes that the model names, and by the values of integer inputs."""
    findings = [*_classes(pair), *_values(pair)]
    figures: dict[str, JsonValue] = {}
    if pair.calibration.classes is not None and pair.reference.classes is not None:
        share = coverage.unseen_share(pair.calibration.classes, pair.reference.classes)
        figures["unseenClasses"] = rounded(share)
    for name in _integers(pair):
        found = coverage.common(pair.calibration.categories[name], pair.reference.categories[name])
        figures[f"distance {name}"] = rounded(found.distance)
    return Judgement(tuple(findings), figures)


def _integers(pair: Pair) -> tuple[str, ...]:
    return tuple(name for name in pair.reference.categories if name in pair.calibration.categories)


def _classes(pair: Pair) -> Iterator[Finding]:
    mine, theirs, labels = pair.calibration.classes, pair.reference.classes, pair.calibration.labels
    if mine is None or theirs is None:
        return
    kinds, share = len(np.unique(theirs)), coverage.unseen_share(mine, theirs)
    if labels is not None and len(np.unique(labels)) == 1 and len(labels) > 1 and coverage.effective(theirs) >= SEVERAL:
        yield checks.COVERAGE.finding(
            f"all {len(labels)} calibration samples have the label {labels[0]}; the model names "
            f"{len(np.unique(mine))} classes on them and {kinds} on {pair.reference_name}",
            severity=checks.COVERAGE.severity if share > PLACEHOLDER else Severity.LOW,
        )
        return
    if share > UNSEEN_CLASSES and len(mine) >= ENOUGH:
        yield checks.COVERAGE.finding(
            f"the model names {len(np.unique(mine))} classes on the calibration samples and {kinds} on "
            f"{pair.reference_name}: {percent(share)} of the latter are of classes that calibration never shows"
        )


def _values(pair: Pair) -> Iterator[Finding]:
    for name in _integers(pair):
        mine, theirs = pair.calibration.categories[name], pair.reference.categories[name]
        if len(mine) < ENOUGH or len(theirs) < ENOUGH:
            continue
        found = coverage.common(mine, theirs)
        text = _padding(mine, theirs, pair) or _missing(found, pair) or _distant(found, pair)
        if text:
            yield checks.COVERAGE.finding(f"input `{name}`: {text}")


def _padding(mine: Sequence[coverage.Ints], theirs: Sequence[coverage.Ints], pair: Pair) -> str:
    """A value that fills up samples of one set and is nowhere in the other, in words."""
    for rows, others, whose in (
        (theirs, mine, f"{pair.reference_name} samples and in no calibration sample"),
        (mine, theirs, f"calibration samples and in no {pair.reference_name} sample"),
    ):
        for value, share in coverage.filling(rows).items():
            if share >= PADDING_SHARE and not any((row == value).any() for row in others):
                return f"value {value} fills up {percent(share)} of the {whose}: another padding?"
    return ""


def _missing(found: coverage.Common, pair: Pair) -> str:
    """The commonest value that one of the sets lacks altogether, in words."""
    absent = np.where(found.calibration == 0, found.reference, 0.0)
    foreign = np.where(found.reference == 0, found.calibration, 0.0)
    if not len(found.values) or max(absent.max(), foreign.max()) < MISSING_SHARE:
        return ""
    at = int(max((absent, foreign), key=np.max).argmax())
    count = int((np.maximum(absent, foreign) >= MISSING_SHARE).sum())
    more = f", and {count - 1} more values are in one set alone" if count > 1 else ""
    return (
        f"value {found.values[at]} is in {percent(found.calibration[at])} of the calibration samples and in "
        f"{percent(found.reference[at])} of {pair.reference_name}{more}: padding, tokenizer or language?"
    )


def _distant(found: coverage.Common, pair: Pair) -> str:
    if found.distance < VALUE_DISTANCE:
        return ""
    apart = np.abs(found.calibration - found.reference)
    at = int(apart.argmax())
    return (
        f"{len(found.values)} common values overlap by {percent(1 - found.distance)}; value {found.values[at]} is in "
        f"{percent(found.calibration[at])} of the calibration samples and in {percent(found.reference[at])} of "
        f"{pair.reference_name}: tokenizer or language?"
    )
