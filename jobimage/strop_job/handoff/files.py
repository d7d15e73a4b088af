"""Putting files into a bundle's folder without a second copy where the file system can link."""

import os
import shutil
from pathlib import Path


def place(source: Path, target: Path) -> None:
    """The same content at `target`: a hard link, or a copy on a file system that has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def listed(folder: Path) -> tuple[str, ...]:
    """Every file below a folder, as sorted relative POSIX paths."""
    return tuple(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))
