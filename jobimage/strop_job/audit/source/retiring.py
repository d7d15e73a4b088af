"""Programs that use what libraries have removed, or say that they will."""

import ast
from collections.abc import Iterator

from strop_api.checks.source import DEPRECATED_API, REMOVED_API
from strop_job.audit.source.events import Circumstances, Event
from strop_job.audit.source.located import Located, at
from strop_job.audit.source.program import Program, expects_failure
from strop_job.audit.source.retired import PARAMETERS, Retired, retired, usual

ASKS = ("version", "hasattr", "is_trt", "find_spec", "tuple")
"""Parts of words of a condition that asks which release is there."""


def retired_names(program: Program) -> Iterator[Located]:
    """Each retired name once, where it is used first, with the other lines."""
    seen: dict[str, list[ast.AST]] = {}
    rows: dict[str, Retired] = {}
    for path, node in _spelled(program):
        row = retired(path)
        if row is not None:
            rows[row.path] = row
            seen.setdefault(row.path, []).append(node)
    for name, nodes in seen.items():
        nodes.sort(key=lambda node: (getattr(node, "lineno", 0), getattr(node, "col_offset", 0)))
        first = getattr(nodes[0], "lineno", 0)
        others = sorted({getattr(node, "lineno", 0) for node in nodes} - {first})
        yield _told(rows[name], nodes[0]).again(others)
    yield from _parameters(program)


def _told(row: Retired, node: ast.AST) -> Located:
    since = f" since {row.since}" if row.since else ""
    if row.removed:
        return at(node, REMOVED_API, f"{row.path} is gone{since}: use {row.instead}")
    return at(node, DEPRECATED_API, f"{row.path} is deprecated{since}: use {row.instead}")


def _spelled(program: Program) -> Iterator[tuple[str, ast.AST]]:
    """Every retired library name that the file reaches, without those that it guards."""
    for use in program.uses:
        row = retired(use.path)
        if row is None or _own(use.path, program) or _guarded(use.at, use.path):
            continue
        if not use.imported or row.removed:
            yield use.path, use.node
    for event in _events(program):
        path = event.name.removesuffix(" =")
        if "()" in path and not _own(path, program) and not _guarded(event.at, path):
            yield path, event.node


def _events(program: Program) -> Iterator[Event]:
    """Every call once, however many flows read it."""
    yield from {id(event.node): event for flow in program.flows for event in reversed(flow.events)}.values()


def _parameters(program: Program) -> Iterator[Located]:
    for event in _events(program):
        gone = [word for word in PARAMETERS.get(usual(event.name), ()) if word in event.keywords]
        if gone and not _guarded(event.at, event.name) and not _own(event.name, program):
            yield at(event.node, REMOVED_API, f"{event.name} has no parameter {gone[0]} any more: leave it out")


def _own(path: str, program: Program) -> bool:
    """A library may use its own."""
    return program.package != "" and path.partition(".")[0] == program.package


def _guarded(circumstances: Circumstances, path: str) -> bool:
    """Whether the program asks first, or expects that it fails."""
    if circumstances.tried or expects_failure(circumstances):
        return True
    return any(_asks(test) for test in circumstances.tests)


def _asks(test: ast.expr) -> bool:
    words = {
        part.attr if isinstance(part, ast.Attribute) else part.id
        for part in ast.walk(test)
        if isinstance(part, ast.Attribute | ast.Name)
    }
    return any(sign in word.lower() for word in words for sign in ASKS) or any(
        isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.isupper() and len(part.value) > 2
        for part in ast.walk(test)
    )
