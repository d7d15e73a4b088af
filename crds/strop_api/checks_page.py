"""The page on checks, docs/checks.md, made from the catalogue; written and checked by strop_api.reference."""

from collections.abc import Iterator

from strop_api.checks import AREAS
from strop_api.checks.check import Check
from strop_api.findings import Severity
from strop_api.markdown import table

SEVERITIES = {
    Severity.CRITICAL: "the model that comes out is likely to be wrong",
    Severity.HIGH: "the model is likely to be worse than it need be, or to fail at sizes it will meet",
    Severity.MEDIUM: "time or memory is likely to be wasted",
    Severity.LOW: "worth knowing",
}


def checks_page() -> str:
    """The whole page."""
    return "\n".join(part.strip() + "\n" for part in (_introduction(), *_areas()))


def _introduction() -> str:
    rows = ((f"**{severity}**", words) for severity, words in SEVERITIES.items())
    return f"""# Checks

Generated from the catalogue in `crds/strop_api/checks`; do not edit.

A check looks for one known trap. What it finds stands in `status.findings`, in the report and in `strop run`; what is
Critical or High is an Event as well. Findings warn: what is refused is refused by rules and gates. `strop doctor` runs
the checks that need no run. The severity of a check is its usual one: a finding may be milder, or worse, where what was
measured shows so, and says its own.

{table(("Severity", "means"), rows)}
"""


def _areas() -> Iterator[str]:
    for title, checks in AREAS.items():
        rows = (_row(check) for check in checks)
        yield f"## {title}\n\n" + table(("Check", "Severity", "Why it matters", "Mend"), rows)


def _row(check: Check) -> tuple[str, ...]:
    return f"`{check.name}`: {check.title}", check.severity, check.explanation, check.mend
