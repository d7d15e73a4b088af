"""What a check is, for people: the row of the catalogue behind a finding's name."""

from collections.abc import Iterable
from dataclasses import dataclass

from strop_api.findings import Finding, Severity


@dataclass(frozen=True)
class Check:
    """One check of the catalogue. The code that looks lives where what it looks at lives."""

    name: str
    """Kebab-case, unique, never reused: `calibration-range`."""
    title: str
    """A few words: the trap, not the test."""
    severity: Severity
    """Usual severity; a finding may be milder where the case is."""
    explanation: str
    """Why it matters, in a sentence or two, with its source where there is one."""
    mend: str
    """What to do; at most 160 characters."""

    def finding(self, message: str, *, severity: Severity | None = None, mend: str | None = None) -> Finding:
        """What was seen, under this check's name; `message` is cut to 256 characters."""
        cut = message if len(message) <= 256 else message[:255] + "…"
        return Finding(check=self.name, severity=severity or self.severity, message=cut, mend=mend or self.mend)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """By severity; those of one severity stay in their order, and what is said twice is said once."""
    order = list(Severity)
    once = {(found.check, found.message): found for found in findings}
    return sorted(once.values(), key=lambda found: order.index(found.severity))
