"""`strop ls`: a line for each resource, all of it from status."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.text import Text

from strop_cli.optimizations import Optimization
from strop_cli.words import age, aligned, shown

HEADINGS = ("NAME", "READY", "REASON", "PROGRESS", "SPEED-UP", "DROP", "AGE")
PROGRESS = HEADINGS.index("PROGRESS")
TONES = {"True": "green", "False": "", "Unknown": "yellow"}


def lines(
    found: Sequence[Optimization], *, namespaced: bool, width: int | None = None, now: datetime | None = None
) -> Iterator[Text]:
    """The table; with `namespaced` a column for the namespace in front."""
    headings = ("NAMESPACE", *HEADINGS) if namespaced else HEADINGS
    rows = [((o.namespace, *_row(o, now)) if namespaced else _row(o, now)) for o in found]
    shrink = 1 if namespaced else 0
    if any(row[PROGRESS + namespaced] for row in rows):
        shrink = PROGRESS + namespaced
    return aligned(headings, rows, width, shrink)


def _row(found: Optimization, now: datetime | None) -> tuple[str | Text, ...]:
    ready, summary = found.ready, found.status.summary
    stalled = any(c.type == "Stalled" for c in found.status.conditions)
    value = ready.status if ready is not None else "Unknown"
    return (
        found.name,
        Text(value, TONES[value]),
        Text(shown(str(ready.reason)) if ready is not None else "", "red" if stalled else ""),
        summary.progress if summary is not None else "",
        summary.speedup if summary is not None else "",
        summary.drop if summary is not None else "",
        age(found.created, now),
    )
