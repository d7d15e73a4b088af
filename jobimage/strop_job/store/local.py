"""Objects as files, DIR/bucket/key: the very same URIs on a laptop, with the same guarantees for many processes."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from strop_job.errors import DiskFull, InvalidInput, StoreFailed
from strop_job.store.digests import bytes_digest, copy_hashing, file_digest
from strop_job.store.objects import (
    CHUNK_BYTES,
    Location,
    ObjectInfo,
    ObjectMissing,
    disk_full_is_named,
    parse,
    parse_object,
)

_SMALL_BYTES = 1 << 20
"""Up to here the etag is a digest of the content; beyond it, of size, time and inode."""
_PRIVATE = ".strop"
"""Folder for locks and unfinished files; no bucket may start with a dot."""


class LocalStore:
    """An ObjectStore in a folder. Writes are atomic: a temporary file, fsync, then rename or link."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def stat(self, uri: str, *, field: str | None = None) -> ObjectInfo | None:
        """The object, or None if there is none."""
        location = parse_object(uri, field=field)
        with _named(uri, field):
            return _info(location, self._path(location))

    def list(self, prefix_uri: str, *, field: str | None = None) -> Iterator[ObjectInfo]:
        """Every object below the folder, sorted by key."""
        location = parse(prefix_uri, field=field)
        base = self.root / location.bucket
        with _named(prefix_uri, field):
            keys = sorted(_keys_below(base, self._path(location)), key=str.encode)
        for key in keys:
            with _named(prefix_uri, field):
                info = _info(Location(location.bucket, key), base / key)
            if info is not None:
                yield info

    def download(self, uri: str, path: Path, *, field: str | None = None) -> str:
        """Copy the object into a file that appears only when it is whole; returns its `sha256:…`."""
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            with _named(uri, field), disk_full_is_named(path), self._open(uri, field) as source:
                path.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as sink:
                    digest = copy_hashing(source, sink)
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return digest

    def digest(self, uri: str, *, field: str | None = None) -> str:
        """`sha256:…` of the object's content."""
        with _named(uri, field), self._open(uri, field) as source:
            return copy_hashing(source, None)

    def read(self, uri: str, limit_bytes: int, *, field: str | None = None) -> bytes:
        """A small object whole."""
        with _named(uri, field), self._open(uri, field) as source:
            data = source.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise InvalidInput(f"{uri} is larger than {limit_bytes} bytes", field=field)
        return data

    def upload(self, uri: str, path: Path, *, field: str | None = None) -> None:
        """Make or overwrite the object with the file's content."""
        target = self._path(parse_object(uri, field=field))
        with _named(uri, field), self._written(path) as temporary:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
            _sync_folder(target.parent)

    def create(self, uri: str, data: bytes | Path, *, field: str | None = None) -> bool:
        """Make the object unless there is one."""
        target = self._path(parse_object(uri, field=field))
        with _named(uri, field), self._lock(uri):
            if target.exists():
                return False
            with self._written(data) as temporary:
                return _link(temporary, target)

    def replace(self, uri: str, data: bytes, etag: str | None, *, field: str | None = None) -> bool:
        """Overwrite the object if it still has this etag."""
        if etag is None:
            return self.create(uri, data, field=field)
        location = parse_object(uri, field=field)
        target = self._path(location)
        with _named(uri, field), self._lock(uri):
            current = _info(location, target)
            if current is None or current.etag != etag:
                return False
            with self._written(data) as temporary:
                temporary.replace(target)
                _sync_folder(target.parent)
        return True

    def delete(self, uri: str, *, field: str | None = None) -> None:
        """Remove the object; its folder stays, as another process may be about to write there."""
        path = self._path(parse_object(uri, field=field))
        with _named(uri, field), self._lock(uri):
            path.unlink(missing_ok=True)

    def _path(self, location: Location) -> Path:
        return self.root / location.bucket / location.key

    def _open(self, uri: str, field: str | None) -> BufferedReader:
        path = self._path(parse_object(uri, field=field))
        if not path.is_file():
            raise ObjectMissing(f"{uri} does not exist", field=field, mend="check the uri")
        return path.open("rb")

    @contextlib.contextmanager
    def _written(self, data: bytes | Path) -> Iterator[Path]:
        """The content on the store's own disk, flushed, under a temporary name that is gone afterwards."""
        folder = self.root / _PRIVATE / "unfinished"
        temporary = folder / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as sink:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, sink, CHUNK_BYTES)
                else:
                    sink.write(data)
                sink.flush()
                os.fsync(sink.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self, uri: str) -> Iterator[None]:
        """One writer at a time per object (rather, per shard of objects), across threads and processes."""
        folder = self.root / _PRIVATE / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / hashlib.sha256(uri.encode()).hexdigest()[:2]).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _info(location: Location, path: Path) -> ObjectInfo | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not path.is_file():
        return None
    modified = datetime.fromtimestamp(found.st_mtime, UTC)
    return ObjectInfo(location.uri, found.st_size, _etag(path, found), modified)


def _etag(path: Path, found: os.stat_result) -> str:
    """A digest where compare-and-swap happens (small objects); else size, time and inode, as reading would be slow."""
    if found.st_size <= _SMALL_BYTES:
        return file_digest(path).removeprefix("sha256:")
    return bytes_digest(f"{found.st_size} {found.st_mtime_ns} {found.st_ino}".encode()).removeprefix("sha256:")


def _keys_below(base: Path, folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            yield (Path(parent) / name).relative_to(base).as_posix()


def _link(temporary: Path, target: Path) -> bool:
    """Give a finished file its name unless the name is taken; the caller holds the object's lock."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        temporary.replace(target)  # no hard links here: the lock alone keeps other writers of ours away
    _sync_folder(target.parent)
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _named(uri: str, field: str | None) -> Iterator[None]:
    """The file system's errors in the store's words."""
    try:
        yield
    except FileNotFoundError:
        raise ObjectMissing(f"{uri} does not exist", field=field, mend="check the uri") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left for {uri} in the store's folder", field=field, mend="free some") from error
        reason = error.strerror or type(error).__name__
        raise StoreFailed(f"{uri}: {reason}", field=field, mend="check the store's folder") from error
