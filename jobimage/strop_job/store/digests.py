"""Digests of files and folders, and copying that hashes on the way."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from strop_job.store.objects import CHUNK_BYTES

PREFIX = "sha256:"


def bytes_digest(data: bytes) -> str:
    """`sha256:…` of bytes."""
    return PREFIX + hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """`sha256:…` of a file's content, streamed."""
    with path.open("rb") as file:
        return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(files: Mapping[str, str]) -> str:
    """`sha256:…` of a folder, from its files' relative POSIX names and digests.

    It is the SHA-256 of what `sha256sum` prints for the files in byte order of their names, so that anyone can check:
    `find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum`.
    """
    ordered = sorted(files.items(), key=lambda item: item[0].encode())
    lines = "".join(f"{digest.removeprefix(PREFIX)}  {name}\n" for name, digest in ordered)
    return bytes_digest(lines.encode())


def copy_hashing(source: BinaryIO, sink: BinaryIO | None) -> str:
    """Copy a stream to another (or nowhere) and return the `sha256:…` of what passed."""
    running = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        running.update(chunk)
        if sink is not None:
            sink.write(chunk)
    return PREFIX + running.hexdigest()
