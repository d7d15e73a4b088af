"""How things are written: safe for a terminal, with nothing secret, aligned, and short enough for 80 columns."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = 2
LEAST = 8
USER_INFO = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s@]+@")


def shown(text: str) -> str:
    """Without what would steer a terminal: the words are those of whoever made the object."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def hidden(text: str) -> str:
    """Addresses without the user and password that some of them carry."""
    return USER_INFO.sub(r"\1[hidden]@", text)


def age(since: str, now: datetime | None = None) -> str:
    """As kubectl writes it: `45s`, `12m`, `5h`, `3d`."""
    seconds = max(0, round(((now or datetime.now(UTC)) - moment(since)).total_seconds()))
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def moment(text: str) -> datetime:
    """An API timestamp."""
    return datetime.fromisoformat(text)


def aligned(
    headings: Sequence[str], rows: Iterable[Sequence[str | Text]], width: int | None = None, shrink: int = 0
) -> Iterator[Text]:
    """A line for the headings and each row, columns padded, the last one not. Lines longer than `width` lose from
    column `shrink`, whose texts end in an ellipsis then."""
    cells = [[Text(h, "bold") for h in headings], *([_cell(c) for c in row] for row in rows)]
    widths = [max(cell_len(row[at].plain) for row in cells) for at in range(len(headings))]
    if width is not None and (over := sum(widths) + GAP * (len(widths) - 1) - width) > 0:
        widths[shrink] = max(LEAST, widths[shrink] - over)
    for row in cells:
        line = Text()
        for at, (cell, size) in enumerate(zip(row, widths, strict=True)):
            line.append_text(_fitted(cell, size, pad=at < len(widths) - 1))
            line.append(" " * GAP if at < len(widths) - 1 else "")
        line.rstrip()
        yield line


def _cell(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(shown(value))


def _fitted(cell: Text, size: int, *, pad: bool) -> Text:
    plain = cell.plain
    if cell_len(plain) > size:
        plain = set_cell_size(plain, size - 1) + "…"
    return Text(plain + " " * (size - cell_len(plain) if pad else 0), cell.style)
