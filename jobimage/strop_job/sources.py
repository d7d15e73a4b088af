"""Where inputs lie: object store, volume or (on the command line) this machine's disk. Listing and copying only."""

import shutil
import stat as modes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from strop_job.errors import InvalidInput, Unsupported
from strop_job.store.digests import bytes_digest, file_digest
from strop_job.store.objects import ObjectMissing, ObjectStore, disk_full_is_named, is_safe_name, parse

FILES_LIMIT = 100_000
"""Most files of one source."""
VOLUMES = Path("/pvc")
"""Where claims are mounted, by name."""


@dataclass(frozen=True)
class Reach:
    """What a worker can get at."""

    store: ObjectStore
    command_line: bool = False
    """`file://` is allowed: it names the user's own disk, not a pod's."""
    volumes: Path = VOLUMES


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, not yet copied."""

    name: str
    """Relative POSIX path below the source; of a single file its own name."""
    version: str
    """Changes whenever the content does: an etag, or size, time and inode."""
    size_bytes: int


@dataclass(frozen=True)
class Source:
    """A file or folder that was found under a URI."""

    uri: str
    field: str
    is_folder: bool
    files: tuple[SourceFile, ...]
    """Sorted by name."""
    take: Callable[[SourceFile, Path], str]
    """Copies one file and returns its `sha256:…`."""

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(f.size_bytes for f in self.files)

    @property
    def version(self) -> str:
        """`sha256:…` that changes whenever any file does, known without reading them."""
        lines = "".join(f"{f.version} {f.size_bytes} {f.name}\n" for f in self.files)
        return bytes_digest(lines.encode())


def look(uri: str, reach: Reach, *, field: str, limit_bytes: int) -> Source:
    """Find what lies under a URI, without reading it.

    Raises InvalidInput when there is nothing, too much, or a name that could escape; Unsupported for a scheme this
    worker cannot read. Both name the field.
    """
    scheme = uri.partition("://")[0]
    if scheme == "s3":
        found = _in_store(uri, reach.store, field)
    elif scheme == "pvc":
        found = _on_volume(uri, reach.volumes, field)
    elif scheme == "file" and reach.command_line:
        found = _on_disk(uri, Path(unquote(uri.removeprefix("file://"))), field)
    else:
        raise _unsupported(scheme, uri, field)
    _check(found, limit_bytes)
    return found


def _unsupported(scheme: str, uri: str, field: str) -> Unsupported:
    if scheme == "file":
        return Unsupported(f"{uri} names a file of the pod", field=field, mend="file:// is for the command line only")
    return Unsupported(f"this release does not read {scheme}://", field=field, mend="copy it to s3:// or a pvc://")


def _check(source: Source, limit_bytes: int) -> None:
    names = [f.name for f in source.files]
    if not names:
        raise ObjectMissing(f"nothing lies at {source.uri}", field=source.field, mend="check the uri")
    if len(names) > FILES_LIMIT:
        raise InvalidInput(f"{source.uri} has more than {FILES_LIMIT} files", field=source.field, mend="use fewer")
    if source.size_bytes > limit_bytes:
        message = f"{source.uri} has {source.size_bytes} bytes, more than the {limit_bytes} a run may take in"
        raise InvalidInput(message, field=source.field, mend="make it smaller")
    unsafe = next((n for n in names if not is_safe_name(n)), None)
    if unsafe is not None:
        raise InvalidInput(
            f"{source.uri} holds {unsafe!r}, no plain relative path", field=source.field, mend="rename it"
        )
    folders = {str(parent) for n in names for parent in PurePosixPath(n).parents}
    both = next((n for n in names if n in folders), None)
    if both is not None:
        raise InvalidInput(f"in {source.uri}, {both!r} is a file and a folder", field=source.field, mend="rename one")


def _in_store(uri: str, store: ObjectStore, field: str) -> Source:
    location = parse(uri, field=field)
    single = store.stat(uri, field=field) if location.key else None
    if single is not None:
        name = PurePosixPath(location.key).name
        alone = SourceFile(name, single.etag, single.size_bytes)
        return Source(uri, field, False, (alone,), lambda _, path: store.download(uri, path, field=field))
    start = len(location.uri) + 1
    files = tuple(SourceFile(i.uri[start:], i.etag, i.size_bytes) for i in store.list(uri, field=field))
    return Source(
        uri, field, True, files, lambda file, path: store.download(f"{location.uri}/{file.name}", path, field=field)
    )


def _on_volume(uri: str, volumes: Path, field: str) -> Source:
    claim, _, inside = uri.removeprefix("pvc://").partition("/")
    inside = inside.removesuffix("/")
    if not is_safe_name(claim) or (inside and not is_safe_name(inside)):
        raise InvalidInput(f"{uri} is not a plain path", field=field, mend="write pvc://claim/path")
    root = volumes / claim
    if not root.is_dir():
        raise InvalidInput(f"the claim {claim} is not mounted", field=field, mend="check its name and the policy")
    return _on_disk(uri, root / inside, field, root=root)


def _on_disk(uri: str, path: Path, field: str, root: Path | None = None) -> Source:
    """Files on a disk; below `root`, if given, also after following links."""
    try:
        files = tuple(sorted(_disk_files(uri, path, field, root), key=lambda f: f.name.encode()))
    except PermissionError as error:
        raise InvalidInput(f"{uri} may not be read", field=field, mend="check its permissions") from error
    folder = path if path.is_dir() else path.parent
    return Source(uri, field, path.is_dir(), files, lambda file, target: _copied(folder / file.name, target))


def _disk_files(uri: str, path: Path, field: str, root: Path | None) -> Iterator[SourceFile]:
    folder = path if path.is_dir() else path.parent
    for file in path.rglob("*") if path.is_dir() else [path]:
        if root is not None and not file.resolve().is_relative_to(root.resolve()):
            raise InvalidInput(f"{uri}: {file.name} is a link out of the volume", field=field, mend="copy the file")
        if not file.exists() or file.is_dir():
            continue
        found = file.stat()
        if not modes.S_ISREG(found.st_mode):
            raise InvalidInput(f"{uri}: {file.name} is not a regular file", field=field, mend="remove it")
        version = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
        yield SourceFile(file.relative_to(folder).as_posix(), version, found.st_size)


def _copied(source: Path, target: Path) -> str:
    with disk_full_is_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return file_digest(target)
