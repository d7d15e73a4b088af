"""What doctor says: as text for people, JSON for programs, SARIF 2.1.0 for code review."""

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from strop_api.checks import CATALOGUE, Check
from strop_api.findings import Severity
from strop_job.audit.source.located import Located
from strop_job.doctor.examine import Examined

SIGNS: dict[Severity, tuple[str, str]] = {
    Severity.CRITICAL: ("✖", "bold red"),
    Severity.HIGH: ("✗", "red"),
    Severity.MEDIUM: ("!", "yellow"),
    Severity.LOW: ("·", "cyan"),
}
LEVELS = {Severity.CRITICAL: "error", Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note"}
RANKS = {Severity.CRITICAL: "9.0", Severity.HIGH: "7.0", Severity.MEDIUM: "5.0", Severity.LOW: "2.0"}
"""`security-severity` of code review tools, which sort by it."""
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def show_text(console: Console, examined: Sequence[Examined]) -> None:
    """One block a finding: place, severity in a sign and a word, check, message; then what mends it."""
    for entry in examined:
        for located in entry.found:
            finding = located.finding
            sign, style = SIGNS[finding.severity]
            place = f"{entry.path}:{located.line}:{located.column}: "
            head = Text.assemble((place, "bold"), (f"{sign} {finding.severity}", style), f" {finding.check}: ")
            console.print(head.append(finding.message), soft_wrap=True)
            console.print(Text.assemble(("  mend: ", "dim"), finding.mend), soft_wrap=True)
    console.print(Text(summary(examined)), soft_wrap=True)


def summary(examined: Sequence[Examined]) -> str:
    """How many files and findings, in a line."""
    severities = [located.finding.severity for entry in examined for located in entry.found]
    counted = [f"{severities.count(kind)} {kind}" for kind in Severity if kind in severities]
    files = f"{len(examined)} file{'' if len(examined) == 1 else 's'} examined"
    return f"{files}: {', '.join(counted) or 'nothing found'}"


def as_json(examined: Sequence[Examined]) -> str:
    """A list of files, each with its findings."""
    return json.dumps([_file(entry) for entry in examined], indent=2, ensure_ascii=False)


def _file(entry: Examined) -> dict[str, Any]:
    return {
        "path": str(entry.path),
        "kind": str(entry.kind) if entry.kind else None,
        "unread": entry.unread,
        "findings": [
            {
                **located.finding.model_dump(mode="json", by_alias=True),
                "line": located.line,
                "column": located.column,
                "endLine": located.end_line,
            }
            for located in entry.found
        ],
    }


def as_sarif(examined: Sequence[Examined]) -> str:
    """A SARIF 2.1.0 log of one run; every check of the catalogue is a rule, found or not."""
    rules = list(CATALOGUE.values())
    places = {check.name: index for index, check in enumerate(rules)}
    driver = {
        "name": "strop doctor",
        "version": _release(),
        "rules": [_rule(check) for check in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(entry.path, located, places) for entry in examined for located in entry.found],
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": list(_notifications(examined))}],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _rule(check: Check) -> dict[str, Any]:
    return {
        "id": check.name,
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": check.explanation},
        "help": {
            "text": f"{check.explanation} {check.mend}",
            "markdown": f"{check.explanation}\n\n**Mend:** {check.mend}",
        },
        "defaultConfiguration": {"level": LEVELS[check.severity]},
        "properties": {"tags": ["model-optimization"], "problem.severity": LEVELS[check.severity]},
    }


def _result(path: Path, located: Located, places: dict[str, int]) -> dict[str, Any]:
    finding = located.finding
    region = {"startLine": located.line, "startColumn": located.column, "endLine": located.end_line}
    physical = {"artifactLocation": {"uri": _uri(path)}, "region": region}
    index = {"ruleIndex": places[finding.check]} if finding.check in places else {}
    return {
        "ruleId": finding.check,
        **index,
        "level": LEVELS[finding.severity],
        "message": {"text": f"{finding.message}. {finding.mend}" if finding.mend else finding.message},
        "locations": [{"physicalLocation": physical}],
        "properties": {"severity": str(finding.severity), "rank": RANKS[finding.severity]},
    }


def _uri(path: Path) -> str:
    """Relative to where doctor runs if it can be, as code review wants it; percent-encoded."""
    from urllib.parse import quote

    absolute = path.absolute()
    here = Path.cwd()
    return quote(absolute.relative_to(here).as_posix()) if absolute.is_relative_to(here) else absolute.as_uri()


def _notifications(examined: Sequence[Examined]) -> Iterator[dict[str, Any]]:
    for entry in examined:
        if entry.unread:
            place = {"physicalLocation": {"artifactLocation": {"uri": _uri(entry.path)}}}
            yield {"level": "error", "message": {"text": f"{entry.path} was not read"}, "locations": [place]}


def _release() -> str:
    try:
        return version("strop")
    except PackageNotFoundError:
        return "0"
