"""How many planted calibration mismatches the audit finds, and how often it cries over honest data split by source.

    python tests/bench/bench_calibration_audit.py                     # four models, about four minutes
    python tests/bench/bench_calibration_audit.py --only cnn table    # those that are made in seconds
    python tests/bench/bench_calibration_audit.py --half choose       # the sources that thresholds were chosen on

One half of every model's sources was set aside for choosing thresholds; what is reported is of the other half. A honest
split gives each source wholly to one of the two sets. A planted mismatch spoils the calibration side of such a split.

    audit_M_K                  share of draws in which mismatch K was found on model M
    audit_found                share of all draws, over models and mismatches; baseline: what is asked
    audit_kinds_found          mismatches that were found in every draw on every model, n: mismatches
    audit_M_false_alarms       share of honest splits in which anything above severity Low was said
    audit_false_alarms         over all models, with the 95% Wilson interval
    audit_M_seconds            of one comparison, both sets being observed

Mismatches that were missed, and what was said of honest splits, go to standard error.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from calibration_audit.kinds import KINDS, Draw
from calibration_audit.subject import Subject
from calibration_audit.subjects import SUBJECTS, make
from lines import emit, emit_spread

from strop_api.findings import Severity
from strop_job.audit.calibration import Observed, Verdict, compare

COUNTS = (128, 64, 256)
"""Samples a side, in turn: what people calibrate with. Sources with fewer give what they have."""
PLANTED_COUNT = 128
ASKED_FOUND, ASKED_ALARMS = 0.95, 0.02
LABELLED = frozenset({"one class"})
"""Mismatches in which the calibration labels are known and tell something."""


@dataclass(frozen=True)
class Tried:
    """One planted mismatch."""

    subject: str
    kind: str
    verdict: Verdict

    @property
    def found(self) -> bool:
        """Whether anything above Low was said."""
        return self.verdict.mismatches > 0


def halves(subject: Subject) -> dict[str, np.ndarray]:
    """Sources for choosing thresholds and sources for reporting."""
    return {"choose": subject.source_names[::2], "report": subject.source_names[1::2]}


def sides(subject: Subject, half: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Rows for calibration and for reference, of different sources."""
    random = np.random.default_rng([seed, count])
    order = random.permutation(halves(subject)[half])
    mine, theirs = (subject.rows_of(order[at::2], count, random) for at in (0, 1))
    return mine, theirs, random


def honest(subject: Subject, pool: Observed, half: str, splits: int) -> Iterator[tuple[Verdict, float]]:
    """Verdicts on honest splits, and seconds."""
    for seed in range(splits):
        mine, theirs, _ = sides(subject, half, COUNTS[seed % len(COUNTS)], seed)
        begun = time.perf_counter()
        verdict = compare(pool.take(mine), pool.take(theirs))
        yield verdict, time.perf_counter() - begun


def planted(subject: Subject, pool: Observed, half: str, repeats: int, folder: Path) -> Iterator[Tried]:
    """Every mismatch that makes sense for the model, so often, each on other samples."""
    for kind, plant in KINDS[subject.name].items():
        for repeat in range(repeats):
            mine, theirs, random = sides(subject, half, PLANTED_COUNT, 10_000 + repeat)
            spoiled = plant(Draw(subject, mine, theirs, random))
            seen = subject.observe(spoiled, folder / f"{kind.replace('/', '-')}-{repeat}")
            if kind in LABELLED:
                seen = replace(seen, labels=np.zeros(len(seen), np.int64))
            yield Tried(subject.name, kind, compare(seen, pool.take(theirs)))


def say(text: str) -> None:
    """For whoever watches; the figures alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def told(verdict: Verdict) -> str:
    """What it says, in a line."""
    return " | ".join(f"{one.check}: {one.message}" for one in verdict.findings if one.severity is not Severity.LOW)


def measure(name: str, half: str, splits: int, repeats: int, *, verbose: bool) -> tuple[list[Tried], int]:
    """One model: its planted mismatches, and the number of false alarms."""
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as scratch:
        subject = make(name, Path(scratch) / "model")
        begun = time.perf_counter()
        pool = subject.observe(subject.samples, Path(scratch) / "pool")
        if subject.labels is not None:
            pool = replace(pool, labels=subject.labels)
        say(f"{name}: {len(pool)} samples of {len(subject.source_names)} sources, {time.perf_counter() - begun:.0f} s")
        tried = list(planted(subject, pool, half, repeats, Path(scratch)))
    for one in tried:
        if verbose or not one.found:
            say(f"{name}, {one.kind}: {told(one.verdict) if one.found else 'MISSED'}")
    judged = list(honest(subject, pool, half, splits))
    alarms = [verdict for verdict, _ in judged if verdict.mismatches]
    for verdict in alarms:
        say(f"{name}, honest: {told(verdict)}")
    for kind in dict.fromkeys(one.kind for one in tried):
        found = [one.found for one in tried if one.kind == kind]
        emit(f"audit_{name}_{kind.replace(' ', '_')}", "share", float(np.mean(found)), n=len(found), baseline=1)
    low, high = wilson(len(alarms), splits)
    emit(f"audit_{name}_false_alarms", "share", len(alarms) / splits, low=low, high=high, n=splits, baseline=0)
    emit_spread(f"audit_{name}_seconds", "seconds", [seconds for _, seconds in judged])
    return tried, len(alarms)


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927)."""
    share, spread = hits / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    reach = z * np.sqrt(share * (1 - share) / of + spread / of / 4) / (1 + spread)
    return float(max(0.0, middle - reach)), float(middle + reach)


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*SUBJECTS], default=[*SUBJECTS], help="models")
    parser.add_argument("--half", choices=["report", "choose"], default="report", help="of the sources")
    parser.add_argument("--splits", type=int, default=90, help="honest splits a model")
    parser.add_argument("--repeats", type=int, default=3, help="draws of each mismatch")
    parser.add_argument("--verbose", action="store_true", help="tell all that is said of planted mismatches")
    asked = parser.parse_args(arguments)
    tried: list[Tried] = []
    alarms = 0
    for name in asked.only:
        more, cried = measure(name, asked.half, asked.splits, asked.repeats, verbose=asked.verbose)
        tried += more
        alarms += cried
    found = [one.found for one in tried]
    emit("audit_found", "share", float(np.mean(found)), n=len(found), baseline=ASKED_FOUND)
    kinds = {one.kind for one in tried}
    always = kinds - {one.kind for one in tried if not one.found}
    emit("audit_kinds_found", "kinds", len(always), n=len(kinds), baseline=ASKED_FOUND * len(kinds))
    splits = asked.splits * len(asked.only)
    low, high = wilson(alarms, splits)
    emit("audit_false_alarms", "share", alarms / splits, low=low, high=high, n=splits, baseline=ASKED_ALARMS)


if __name__ == "__main__":
    main(sys.argv[1:])
