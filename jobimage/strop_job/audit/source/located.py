"""A finding with its place in a file."""

import ast
from dataclasses import dataclass, replace

from strop_api.checks.check import Check
from strop_api.findings import Finding, Severity


@dataclass(frozen=True)
class Located:
    """One finding; lines and columns count from 1, the end is the last line of what is shown."""

    finding: Finding
    line: int = 1
    column: int = 1
    end_line: int = 1

    def again(self, lines: list[int]) -> "Located":
        """The same, with the further lines where it also holds."""
        if not lines:
            return self
        listed = ", ".join(map(str, lines[:6])) + (", …" if len(lines) > 6 else "")
        more = f"{self.finding.message} (also line {listed})"
        return replace(self, finding=self.finding.model_copy(update={"message": more[:256]}))


def at(node: ast.AST, check: Check, message: str, *, severity: Severity | None = None) -> Located:
    """A finding where a node of the program stands."""
    line = getattr(node, "lineno", 1)
    end = getattr(node, "end_lineno", None) or line
    return Located(check.finding(message, severity=severity), line, getattr(node, "col_offset", 0) + 1, end)
