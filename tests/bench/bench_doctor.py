"""How much of what is wrong in Python programs the doctor finds, and how much of what it says is wrong indeed.

    python tests/bench/bench_doctor.py                    # the planted programs, then the labelled corpus
    python tests/bench/bench_doctor.py --show             # also each finding that no label has, and each label missed

The corpus is `doctor_corpus/labels.json`, made by other people than the checks: programs inside installed packages,
named by package and path. A program that is not installed as it was labelled (another digest, or not there) stops the
bench: a figure over fewer programs than were labelled would flatter.

Two figures are given of each kind. `at its line` counts a finding as right if a label of its category stands on one of
its lines (calls span several), `in its program` if a label of its category stands anywhere in the program. A finding
that only a label called `acceptable` covers is neither right nor wrong, and counts in neither.
"""

import argparse
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from doctor_programs import programs
from lines import emit

from strop_job.audit.source import examine

CORPUS = Path(__file__).parent / "doctor_corpus" / "labels.json"
CATEGORIES = {
    "source-missing-calibration": "missing-calibration",
    "source-missing-dynamic-shapes": "missing-dynamic-shapes",
    "source-missing-evaluation": "missing-evaluation",
    "source-missing-opset": "missing-opset",
    "source-fp16-without-scaler": "fp16-without-scaler",
    "source-quantize-before-train": "quantize-before-train",
    "source-export-without-checker": "export-without-checker",
    "source-removed-api": "deprecated-api",
    "source-deprecated-api": "deprecated-api",
    "source-convert-misuse": "convert-misuse",
    "source-train-mode-export": "other",
    "source-not-read": "other",
    "source-unknown-suppression": "other",
}
"""The labellers' word for each check. A new check without a word stops the bench."""


@dataclass(frozen=True)
class Said:
    """One finding, in the labellers' words."""

    category: str
    lines: range
    text: str


@dataclass(frozen=True)
class Judged:
    """One program of the corpus: what was said, what is labelled, and what may be said or left unsaid."""

    name: str
    said: tuple[Said, ...]
    labels: tuple[tuple[str, int], ...]
    acceptable: tuple[tuple[str, int], ...]
    """Line 0 is anywhere in the program."""

    def right(self, said: Said, *, exact: bool) -> bool:
        """Whether a label stands for the finding; one beside a label counts where the labellers list its line too."""
        trapped = {trap for trap, _ in self.labels}
        places = (*self.labels, *(place for place in self.acceptable if place[0] in trapped))
        return any(trap == said.category and (not exact or line in said.lines) for trap, line in places)

    def counts(self, said: Said, *, exact: bool) -> bool:
        """Whether the finding is right or wrong: not one that could be argued either way."""
        open_to_argument = any(
            trap == said.category and (not exact or line == 0 or line in said.lines) for trap, line in self.acceptable
        )
        return self.right(said, exact=exact) or not open_to_argument

    def found(self, label: tuple[str, int], *, exact: bool) -> bool:
        """Whether a finding stands for the label: at its line, or at another that the labellers list for its trap."""
        places = (label, *(place for place in self.acceptable if place[0] == label[0]))
        return any(
            said.category == label[0] and (not exact or any(line in said.lines for _, line in places))
            for said in self.said
        )


def planted() -> None:
    """Recall over the planted variants, each at its very line; findings of the same trap in the honest twins."""
    for kind, name in (("planted", "found at its line"), ("honest", "false alarms")):
        hits: dict[str, list[bool]] = {}
        for program in programs(kind):
            found = examine(Path("program.py"), program.text)
            lines = tuple(f.line for f in found if f.finding.check == f"source-{program.trap}")
            hits.setdefault(program.trap, []).append(lines == program.lines if kind == "planted" else bool(lines))
        for trap, each in hits.items():
            emit(f"doctor, {kind} {trap}, {name}", "share", sum(each) / len(each), n=len(each))
        every = [hit for each in hits.values() for hit in each]
        emit(f"doctor, {kind}, {name}", "share", sum(every) / len(every), n=len(every))


def corpus(path: Path) -> list[Judged]:
    """Every labelled program, examined. Stops at one that is not there as it was labelled."""
    return [_judged(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _judged(entry: dict) -> Judged:
    path = _installed(entry["distribution"], entry["path"])
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise SystemExit(f"{path} is not the program that was labelled: install the locked versions")
    said = tuple(
        Said(
            CATEGORIES[located.finding.check],
            range(located.line, located.end_line + 1),
            f"{located.line}: {located.finding.check}: {located.finding.message}",
        )
        for located in examine(path, content.decode("utf-8"))
    )
    return Judged(entry["path"], said, _places(entry["findings"]), _places(entry["acceptable"]))


def _places(labels: list[dict]) -> tuple[tuple[str, int], ...]:
    return tuple((label["trap"], label["line"]) for label in labels)


def _installed(distribution: str, path: str) -> Path:
    """Where a distribution, named with its release, put a file."""
    try:
        found = Path(str(importlib.metadata.distribution(distribution.partition("==")[0]).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{distribution} is not installed: install the locked versions") from None
    if not found.is_file():
        raise SystemExit(f"{distribution} has no {path}: install the locked versions")
    return found


def judge(judged: list[Judged], *, exact: bool) -> None:
    """Precision, recall and false findings in 30 programs."""
    where = "at its line" if exact else "in its program"
    said = [(program, one) for program in judged for one in program.said if program.counts(one, exact=exact)]
    right = sum(program.right(one, exact=exact) for program, one in said)
    labels = [(program, label) for program in judged for label in program.labels]
    found = sum(program.found(label, exact=exact) for program, label in labels)
    if said:
        emit(f"doctor, corpus, precision, {where}", "share", right / len(said), n=len(said))
    if labels:
        emit(f"doctor, corpus, recall, {where}", "share", found / len(labels), n=len(labels))
    false = (len(said) - right) * 30 / len(judged)
    emit(f"doctor, corpus, false findings in 30 programs, {where}", "findings", false, n=len(judged), baseline=1)
    noisy = len({program.name for program, one in said if not program.right(one, exact=exact)})
    emit(f"doctor, corpus, programs with a false finding, {where}", "programs", noisy, n=len(judged))


def by_category(judged: list[Judged]) -> None:
    """Recall and precision of each category, in its program."""
    named = {said.category for p in judged for said in p.said} | {trap for p in judged for trap, _ in p.labels}
    for category in sorted(named):
        spoken = [(p, one) for p in judged for one in p.said if one.category == category]
        said = [p.right(one, exact=False) for p, one in spoken if p.counts(one, exact=False)]
        labels = [p.found(label, exact=False) for p in judged for label in p.labels if label[0] == category]
        for word, each in (("precision", said), ("recall", labels)):
            if each:
                emit(f"doctor, corpus, {category}, {word}, in its program", "share", sum(each) / len(each), n=len(each))


def shown(judged: Iterable[Judged]) -> None:
    """What was said without a label, and what was labelled and not said."""
    for program in judged:
        for one in program.said:
            if not program.right(one, exact=True):
                near = "line differs" if program.right(one, exact=False) else "false"
                near = near if program.counts(one, exact=True) else "acceptable"
                print(json.dumps({"program": program.name, "finding": one.text, "verdict": near}))
        for label in program.labels:
            if not program.found(label, exact=True):
                near = "line differs" if program.found(label, exact=False) else "missed"
                print(json.dumps({"program": program.name, "label": list(label), "verdict": near}))


def main() -> None:
    """Both parts; the corpus must be there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, default=CORPUS)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--planted-only", action="store_true")
    asked = parser.parse_args()
    planted()
    if asked.planted_only:
        return
    judged = corpus(asked.labels)
    for exact in (True, False):
        judge(judged, exact=exact)
    by_category(judged)
    if asked.show:
        shown(judged)


if __name__ == "__main__":
    main()
