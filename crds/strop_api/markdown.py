"""The few pieces of Markdown that the generated pages are made of."""

from collections.abc import Iterable


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table; a cell is one line."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def listed(values: Iterable[object]) -> str:
    """`a, b, c`, in the order given."""
    return ", ".join(str(value) for value in values)
