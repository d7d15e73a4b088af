"""Comments by which a program's author takes responsibility: `# strop: ignore[check, check]` on the finding's line."""

import io
import re
import tokenize
from collections.abc import Iterable, Iterator

from strop_api.checks import CATALOGUE
from strop_api.checks.source import UNKNOWN_SUPPRESSION
from strop_job.audit.source.located import Located

COMMENT = re.compile(r"#\s*strop:\s*ignore\[([^\]]*)\]")


def suppressions(text: str) -> dict[int, tuple[tuple[str, int], ...]]:
    """The names that each line's comment lists, with the columns they stand at. Comments only: never a string."""
    found: dict[int, tuple[tuple[str, int], ...]] = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        match = COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
        if match is not None:
            row, column = token.start
            found[row] = tuple((name.strip(), column + 1) for name in match[1].split(","))
    return found


def kept(found: Iterable[Located], text: str) -> Iterator[Located]:
    """The findings that no comment on one of their lines suppresses, and one for each name that nothing has."""
    named = suppressions(text)
    for located in found:
        lines = range(located.line, located.end_line + 1)
        names = {name for line in lines for name, _ in named.get(line, ())}
        if located.finding.check not in names:
            yield located
    for line, entries in named.items():
        for name, column in entries:
            if name not in CATALOGUE:
                yield Located(UNKNOWN_SUPPRESSION.finding(f"no check is named {name[:64]!r}"), line, column, line)
