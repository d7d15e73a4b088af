"""What an object store is to the worker: a small protocol, URIs that cannot escape, errors every store raises."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from strop_job.errors import DiskFull, InvalidInput

KEY_LIMIT_BYTES = 1024
"""S3's own limit on the length of a key."""
SEGMENT_LIMIT_BYTES = 240
"""File systems take 255 for one name of a path; unfinished files have a longer one."""
CHUNK_BYTES = 1 << 20
"""Streams are read, hashed and written in pieces of this size."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


class ObjectMissing(InvalidInput):
    """There is no such object or bucket."""


@dataclass(frozen=True)
class ObjectInfo:
    """One object as it is right now."""

    uri: str
    size_bytes: int
    etag: str
    """Changes whenever the content does; means nothing else."""
    modified_at: datetime
    """In UTC."""


@dataclass(frozen=True)
class Location:
    """A taken-apart `s3://bucket/key`; an empty key is the whole bucket."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """Put together again."""
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"


class ObjectStore(Protocol):
    """Objects by `s3://bucket/key`. A folder is every key below `uri/`.

    Every method raises StoreFailed when the store or the network fails, InvalidInput for a malformed URI, and
    DiskFull when the local disk is full. `field` is the field of the spec that named the URI; errors repeat it.
    """

    def stat(self, uri: str, *, field: str | None = None) -> ObjectInfo | None:
        """The object, or None if there is none."""

    def list(self, prefix_uri: str, *, field: str | None = None) -> Iterator[ObjectInfo]:
        """Every object below the folder, sorted by key. A missing folder is empty."""

    def download(self, uri: str, path: Path, *, field: str | None = None) -> str:
        """Stream the object into a file that appears only when it is whole; returns its `sha256:…`.

        Raises ObjectMissing.
        """

    def digest(self, uri: str, *, field: str | None = None) -> str:
        """`sha256:…` of the object's content, read through but kept nowhere. Raises ObjectMissing."""

    def read(self, uri: str, limit_bytes: int, *, field: str | None = None) -> bytes:
        """A small object whole. Raises ObjectMissing, and InvalidInput if it is larger than the limit."""

    def upload(self, uri: str, path: Path, *, field: str | None = None) -> None:
        """Make or overwrite the object with the file's content, all of it or nothing."""

    def create(self, uri: str, data: bytes | Path, *, field: str | None = None) -> bool:
        """Make the object unless there is one (If-None-Match); False if somebody else's is there."""

    def replace(self, uri: str, data: bytes, etag: str | None, *, field: str | None = None) -> bool:
        """Overwrite the object if it still has this etag (If-Match); False if not. None: it must not exist."""

    def delete(self, uri: str, *, field: str | None = None) -> None:
        """Remove the object; nothing happens if there is none."""


def parse(uri: str, *, field: str | None = None) -> Location:
    """Take an `s3://bucket/key` apart; a trailing slash is dropped. Raises InvalidInput."""
    scheme, _, rest = uri.partition("://")
    if scheme != "s3":
        raise InvalidInput(f"{uri} is not an s3:// URI", field=field, mend="write s3://bucket/key")
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidInput(f"{bucket!r} is not the name of a bucket", field=field, mend="write s3://bucket/key")
    key = key.removesuffix("/")
    if key and not is_safe_name(key):
        raise InvalidInput(f"{uri} is not a plain path", field=field, mend="no empty, `.` or `..` parts in a key")
    return Location(bucket, key)


def parse_object(uri: str, *, field: str | None = None) -> Location:
    """As `parse`, and the URI names an object rather than a bucket."""
    location = parse(uri, field=field)
    if not location.key:
        raise InvalidInput(f"{uri} names a bucket, not an object", field=field, mend="write s3://bucket/key")
    return location


def join(uri: str, *parts: str) -> str:
    """The URI of something below a folder's URI."""
    return "/".join((uri.rstrip("/"), *parts))


def is_safe_name(name: str) -> bool:
    """Whether a relative POSIX path stays below its root on every file system the worker may write to."""
    segments = name.split("/")
    return (
        len(name.encode()) <= KEY_LIMIT_BYTES
        and not _FORBIDDEN.search(name)
        and all(s not in ("", ".", "..") and len(s.encode()) <= SEGMENT_LIMIT_BYTES for s in segments)
    )


@contextmanager
def disk_full_is_named(path: Path) -> Iterator[None]:
    """A full disk or a used-up quota while writing below `path` becomes DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"no space left while writing {path.name}", mend="raise spec.worker.scratch") from error
