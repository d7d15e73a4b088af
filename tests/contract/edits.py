"""Changes to a document by path: `put("spec.targets[0].cpu", {})`, `drop("spec.data.calibration")`."""

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tests.contract.documents import Document

Edit = Callable[[Document], None]


def parts(path: str) -> list[str | int]:
    """`spec.a[0].b` as ["spec", "a", 0, "b"]."""
    return [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path)]


def put(path: str, value: Any) -> Edit:
    """Set the value, making the mappings on the way; an index one past the end appends."""

    def edit(document: Document) -> None:
        *way, last = parts(path)
        at: Any = document
        for part in way:
            at = at[part] if isinstance(part, int) else at.setdefault(part, {})
        if isinstance(last, int) != isinstance(at, list):
            raise TypeError(f"{path}: an index is of a list, and only an index")
        if isinstance(last, int) and last == len(at):
            at.append(deepcopy(value))
        else:
            at[last] = deepcopy(value)

    return edit


def drop(path: str) -> Edit:
    """Remove the value."""

    def edit(document: Document) -> None:
        *way, last = parts(path)
        at: Any = document
        for part in way:
            at = at[part]
        del at[last]

    return edit


def step(name: str, kind: str, **config: Any) -> Document:
    """A step of `type` kind."""
    member = kind[0].lower() + kind[1:]
    return {"name": name, "type": kind, member: config}
