"""Where a published folder is read from: the object store, or a copy of it on a disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strop_job.errors import InvalidInput
from strop_job.store.digests import file_digest
from strop_job.store.objects import ObjectMissing, ObjectStore, join


class Place(Protocol):
    """A folder of files by relative POSIX name. What the store raises passes through."""

    @property
    def uri(self) -> str:
        """What it is called."""

    def below(self, name: str) -> "Place":
        """A folder in it."""

    def names(self) -> Iterator[str]:
        """Every file in it, at any depth."""

    def read(self, name: str, limit_bytes: int) -> bytes | None:
        """A small file whole, None if there is none. Raises InvalidInput if it is larger than the limit."""

    def digest(self, name: str) -> str | None:
        """`sha256:…` of a file, None if there is none."""


@dataclass(frozen=True)
class StoredPlace:
    """A folder of an object store."""

    store: ObjectStore
    uri: str

    def below(self, name: str) -> "StoredPlace":
        """A folder in it."""
        return StoredPlace(self.store, join(self.uri, name))

    def names(self) -> Iterator[str]:
        """Every object below it."""
        start = len(self.uri.rstrip("/")) + 1
        return (found.uri[start:] for found in self.store.list(self.uri))

    def read(self, name: str, limit_bytes: int) -> bytes | None:
        """A small object whole."""
        try:
            return self.store.read(join(self.uri, name), limit_bytes)
        except ObjectMissing:
            return None

    def digest(self, name: str) -> str | None:
        """Of an object, read through but kept nowhere."""
        try:
            return self.store.digest(join(self.uri, name))
        except ObjectMissing:
            return None


@dataclass(frozen=True)
class DiskPlace:
    """A folder on a disk: a copy of what was published."""

    path: Path

    @property
    def uri(self) -> str:
        """Its path."""
        return str(self.path)

    def below(self, name: str) -> "DiskPlace":
        """A folder in it."""
        return DiskPlace(self.path / name)

    def names(self) -> Iterator[str]:
        """Every file below it; a link counts as what it is called."""
        return (p.relative_to(self.path).as_posix() for p in sorted(self.path.rglob("*")) if not p.is_dir())

    def read(self, name: str, limit_bytes: int) -> bytes | None:
        """A small file whole."""
        path = self.path / name
        if not path.is_file():
            return None
        with path.open("rb") as source:
            data = source.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise InvalidInput(f"{path} is larger than {limit_bytes} bytes")
        return data

    def digest(self, name: str) -> str | None:
        """Of a file."""
        path = self.path / name
        return file_digest(path) if path.is_file() else None
