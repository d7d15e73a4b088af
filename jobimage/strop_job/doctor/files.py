"""Which files are meant by the paths of a command line, and of which kind each is. Bounded; links are not followed."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FOLDER_LIMIT = 20_000
"""Files looked at below one folder, at most."""
MIB = 1 << 20
SKIPPED = frozenset({"__pycache__", "node_modules"})


class Kind(StrEnum):
    """What doctor knows how to examine."""

    SPEC = "spec"
    PROGRAM = "program"
    ONNX = "ONNX model"
    ENGINE = "engine"


SUFFIXES: dict[str, Kind] = {
    ".yaml": Kind.SPEC,
    ".yml": Kind.SPEC,
    ".py": Kind.PROGRAM,
    ".onnx": Kind.ONNX,
    ".engine": Kind.ENGINE,
    ".plan": Kind.ENGINE,
    ".trt": Kind.ENGINE,
}
LIMITS: dict[Kind, int] = {Kind.SPEC: MIB, Kind.PROGRAM: 2 * MIB, Kind.ONNX: 8192 * MIB, Kind.ENGINE: 8192 * MIB}
"""Largest size in bytes that is read, by kind."""


@dataclass(frozen=True)
class Subject:
    """One file to examine, or one path that cannot be."""

    path: Path
    kind: Kind | None = None
    problem: str = ""
    """Why it cannot be examined; empty if it can."""
    named: bool = True
    """Given by name, and not met inside a folder."""


def subjects(paths: list[Path]) -> Iterator[Subject]:
    """Every file that the paths mean, each once; for what cannot be read, the reason."""
    seen: set[Path] = set()
    for path in paths:
        for subject in _below(path) if path.is_dir() else (_named(path),):
            if subject.path not in seen:
                seen.add(subject.path)
                yield subject


def _named(path: Path) -> Subject:
    kind = SUFFIXES.get(path.suffix.lower())
    if not path.exists():
        return Subject(path, kind, "there is no such file")
    if not path.is_file():
        return Subject(path, kind, "not a file or a folder")
    if kind is None:
        return Subject(path, None, f"not a kind that is examined: {', '.join(sorted(SUFFIXES))}")
    return Subject(path, kind, _too_large(path, kind))


def _too_large(path: Path, kind: Kind) -> str:
    try:
        size = path.stat().st_size
    except OSError as error:
        return error.strerror or "cannot be read"
    return f"larger than {LIMITS[kind] // MIB} MiB" if size > LIMITS[kind] else ""


def _below(folder: Path) -> Iterator[Subject]:
    """The files of a folder and of those inside it, by name; hidden folders and links are left out."""
    waiting, looked = [folder], 0
    while waiting:
        here = waiting.pop()
        try:
            entries = sorted(here.iterdir())
        except OSError as error:
            yield Subject(here, None, error.strerror or "cannot be read", named=False)
            continue
        for entry in entries:
            if entry.is_symlink():
                continue
            if entry.is_dir():
                waiting += [] if entry.name in SKIPPED or entry.name.startswith(".") else [entry]
            elif (kind := SUFFIXES.get(entry.suffix.lower())) is not None and entry.is_file():
                looked += 1
                if looked > FOLDER_LIMIT:
                    yield Subject(folder, None, f"more than {FOLDER_LIMIT:,} files: the others were not looked at")
                    return
                yield Subject(entry, kind, _too_large(entry, kind), named=False)
