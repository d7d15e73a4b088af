"""Examines one file by its kind. Whatever is in it, the answer is findings: what cannot be read is one."""

import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from strop_api.checks.graph import UNREADABLE
from strop_api.checks.source import NOT_READ
from strop_job.audit import source
from strop_job.audit.source.located import Located
from strop_job.doctor import guarded, specs
from strop_job.doctor.files import Kind, Subject, subjects

USUAL = guarded.Bounds()


@dataclass(frozen=True)
class Examined:
    """One file and what was found in it."""

    path: Path
    kind: Kind | None
    found: tuple[Located, ...] = ()
    unread: bool = False
    """It was asked for by name and could not be read."""


@dataclass(frozen=True)
class Choice:
    """Which checks are shown; empty means all."""

    select: frozenset[str] = frozenset()
    ignore: frozenset[str] = frozenset()

    def takes(self, check: str) -> bool:
        """Whether findings of a check are shown."""
        return (not self.select or check in self.select) and check not in self.ignore


def examine_all(paths: list[Path], choice: Choice, bounds: guarded.Bounds = USUAL) -> Iterator[Examined]:
    """Every file that the paths mean, in order. A file of a folder that is none of ours is left out."""
    for subject in subjects(paths):
        examined = examine(subject, bounds)
        if examined is not None:
            found = tuple(located for located in examined.found if choice.takes(located.finding.check))
            yield Examined(examined.path, examined.kind, found, examined.unread)


def examine(subject: Subject, bounds: guarded.Bounds = USUAL) -> Examined | None:
    """What one file shows; None for YAML in a folder that holds no resource of ours."""
    if subject.kind is Kind.SPEC and subject.path.is_file() and specs.is_of_others(subject.path):
        return _of_others(subject)
    if subject.problem or subject.kind is None:
        return _unread(subject, subject.problem)
    try:
        return EXAMINERS[subject.kind](subject, bounds)
    except guarded.NotExamined as error:
        return _unread(subject, str(error))
    except OSError as error:
        return _unread(subject, error.strerror or "cannot be read")
    except UnicodeDecodeError as error:
        return _unread(subject, f"not {error.encoding.upper()} text: byte {error.start} is no character of it")


def _program(subject: Subject, _: guarded.Bounds) -> Examined:
    try:
        with tokenize.open(subject.path) as file:  # in the encoding that the program itself names
            text = file.read()
    except SyntaxError as error:
        why = str(error.msg).replace(f" for {str(subject.path)!r}", "")
        return _unread(subject, f"not UTF-8, and of no other encoding that is known: {why}")
    found = source.examine(subject.path, text)
    unread = [located.finding.message for located in found if located.finding.check == NOT_READ.name]
    return Examined(subject.path, Kind.PROGRAM, tuple(found), subject.named and bool(unread))


def _spec(subject: Subject, _: guarded.Bounds) -> Examined | None:
    text = subject.path.read_text(encoding="utf-8-sig")
    try:
        found = specs.examine(text)
    except specs.NotYaml as error:
        if not specs.speaks_of_ours(text):
            return _of_others(subject)
        return _unread(subject, f"not YAML that can be parsed: {error}", error.line, error.column)
    if found is None:
        return _of_others(subject)
    return Examined(subject.path, Kind.SPEC, tuple(found))


def _of_others(subject: Subject) -> Examined | None:
    """YAML that is none of ours, whatever else is wrong with it: a hint for who named it."""
    nothing = Located(NOT_READ.finding("holds no resource of strop.dev: nothing was examined"))
    return Examined(subject.path, Kind.SPEC, (nothing,)) if subject.named else None


def _graph(subject: Subject, bounds: guarded.Bounds) -> Examined:
    """A graph or an engine, which have no lines. One of which nothing else can be said was not read."""
    found = guarded.examine(subject.kind or Kind.ONNX, subject.path, bounds)
    broken = bool(found) and all(finding.check == UNREADABLE.name for finding in found)
    return Examined(subject.path, subject.kind, tuple(map(Located, found)), subject.named and broken)


def _unread(subject: Subject, why: str, line: int = 1, column: int = 1) -> Examined:
    located = Located(NOT_READ.finding(why), line, column, line)
    return Examined(subject.path, subject.kind, (located,), subject.named)


EXAMINERS: dict[Kind, Callable[[Subject, guarded.Bounds], Examined | None]] = {
    Kind.PROGRAM: _program,
    Kind.SPEC: _spec,
    Kind.ONNX: _graph,
    Kind.ENGINE: _graph,
}
