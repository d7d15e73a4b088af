"""The command: examine, show, and say by the exit code whether something as bad as asked was found."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

from rich.console import Console

from strop_api.checks import CATALOGUE
from strop_api.failures import ExitCode
from strop_api.findings import Severity
from strop_job.doctor.examine import Choice, Examined, examine_all
from strop_job.doctor.formats import as_json, as_sarif, show_text
from strop_job.doctor.guarded import SECONDS, Bounds
from strop_job.errors import InvalidInput

FOUND = 10
"""Exit code when there is a finding as bad as `--fail-on`, or worse."""


class Format(StrEnum):
    """How the findings are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


class FailOn(StrEnum):
    """The mildest severity that fails."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NEVER = "never"


def doctor(
    paths: list[Path],
    console: Console,
    shape: Format,
    fail_on: FailOn,
    select: Iterable[str],
    ignore: Iterable[str],
    seconds: float = SECONDS,
) -> int:
    """Examine the paths and print what was found; the exit code. A graph may be run for `seconds`.

    Raises InvalidInput for a check that is not known.
    """
    choice = Choice(_known(select, "--select"), _known(ignore, "--ignore"))
    examined = list(examine_all(paths, choice, Bounds(seconds)))
    if shape is Format.TEXT:
        show_text(console, examined)
    else:
        console.file.write((as_json if shape is Format.JSON else as_sarif)(examined) + "\n")
    return verdict(examined, fail_on)


def verdict(examined: Sequence[Examined], fail_on: FailOn) -> int:
    """0, FOUND, or INVALID_INPUT if something that was asked for by name could not be read."""
    if any(entry.unread for entry in examined):
        return int(ExitCode.INVALID_INPUT)
    failing = [kind for kind in Severity if _rank(kind) <= _bound(fail_on)]
    found = {located.finding.severity for entry in examined for located in entry.found}
    return FOUND if found & set(failing) else 0


def _rank(severity: Severity) -> int:
    return list(Severity).index(severity)


def _bound(fail_on: FailOn) -> int:
    return -1 if fail_on is FailOn.NEVER else list(FailOn).index(fail_on)


def _known(names: Iterable[str], option: str) -> frozenset[str]:
    found = frozenset(name.strip() for entry in names for name in entry.split(",") if name.strip())
    unknown = sorted(found - CATALOGUE.keys())
    if unknown:
        raise InvalidInput(f"{option}: no check is named {unknown[0]}", mend="docs/checks.md lists them")
    return found
