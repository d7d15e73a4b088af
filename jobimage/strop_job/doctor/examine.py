"""Examines one file by its kind. Whatever is in it, the answer is findings: what cannot be read is one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from strop_api.checks.source import NOT_READ
from strop_api.findings import Finding
from strop_job.audit import source
from strop_job.audit.source.located import Located
from strop_job.doctor import specs
from strop_job.doctor.files import Kind, Subject, subjects


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


def examine_all(paths: list[Path], choice: Choice) -> Iterator[Examined]:
    """Every file that the paths mean, in order. A file of a folder that is none of ours is left out."""
    for subject in subjects(paths):
        examined = examine(subject)
        if examined is not None:
            found = tuple(located for located in examined.found if choice.takes(located.finding.check))
            yield Examined(examined.path, examined.kind, found, examined.unread)


def examine(subject: Subject) -> Examined | None:
    """What one file shows; None for YAML in a folder that holds no resource of ours."""
    if subject.problem or subject.kind is None:
        return _unread(subject, subject.problem)
    try:
        return EXAMINERS[subject.kind](subject)
    except OSError as error:
        return _unread(subject, error.strerror or "cannot be read")
    except UnicodeDecodeError:
        return _unread(subject, "not UTF-8 text")


def _program(subject: Subject) -> Examined:
    found = source.examine(subject.path, _text(subject.path))
    unread = [located.finding.message for located in found if located.finding.check == NOT_READ.name]
    return Examined(subject.path, Kind.PROGRAM, tuple(found), subject.named and bool(unread))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _spec(subject: Subject) -> Examined | None:
    try:
        found = specs.examine(_text(subject.path))
    except specs.NotYaml as error:
        return _unread(subject, f"not YAML that can be parsed: {error}", error.line, error.column)
    if found is None:
        nothing = Located(NOT_READ.finding("holds no resource of strop.dev: nothing was examined"))
        return Examined(subject.path, Kind.SPEC, (nothing,)) if subject.named else None
    return Examined(subject.path, Kind.SPEC, tuple(found))


def _onnx(subject: Subject) -> Examined:
    from strop_job.audit.graph import examine_onnx

    return Examined(subject.path, Kind.ONNX, _whole(examine_onnx(subject.path)))


def _engine(subject: Subject) -> Examined:
    from strop_job.audit.graph import examine_engine

    return Examined(subject.path, Kind.ENGINE, _whole(examine_engine(subject.path)))


def _whole(findings: Iterable[Finding]) -> tuple[Located, ...]:
    """Findings about a file that has no lines."""
    return tuple(Located(finding) for finding in findings)


def _unread(subject: Subject, why: str, line: int = 1, column: int = 1) -> Examined:
    located = Located(NOT_READ.finding(why), line, column, line)
    return Examined(subject.path, subject.kind, (located,), subject.named)


EXAMINERS: dict[Kind, Callable[[Subject], Examined | None]] = {
    Kind.PROGRAM: _program,
    Kind.SPEC: _spec,
    Kind.ONNX: _onnx,
    Kind.ENGINE: _engine,
}
