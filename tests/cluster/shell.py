"""Commands, files, messages and waiting: the few verbs by which everything else touches the machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template

from .settings import HERE

_BEGAN = time.monotonic()


class ClusterError(Exception):
    """What stopped the cluster or a server from doing what was asked, in words for whoever asked."""


def say(text: str) -> None:
    """Tell progress on standard error; standard output is for answers."""
    print(f"[{time.monotonic() - _BEGAN:6.1f}s] {text}", file=sys.stderr, flush=True)


def run(
    *command: str | Path,
    check: bool = True,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return what it printed; `env` is added to the environment. Raises ClusterError."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            text=True,
            capture_output=True,
            check=False,
            input=stdin,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as missing:
        raise ClusterError(f"{missing.filename} is not installed; `python3 tests/cluster install` brings it") from None
    if check and done.returncode:
        raise ClusterError(f"failed: {' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}".strip())
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    """Whether a command that only asks a question answers yes."""
    return subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode == 0


def show(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a long command, with what it prints on standard error. Raises ClusterError."""
    words = [str(word) for word in command]
    if subprocess.run(words, check=False, cwd=cwd, env={**os.environ, **(env or {})}, stdout=sys.stderr).returncode:
        raise ClusterError(f"failed: {' '.join(words)}")


def wait_until(what: str, test: Callable[[], object], seconds: float = 60, every: float = 0.1) -> None:
    """Poll until `test` is true; after `seconds` raise ClusterError."""
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise ClusterError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


def write(path: Path, content: object) -> Path:
    """Write text as it is and anything else as JSON, making the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return path


def render(name: str, **values: object) -> str:
    """conf/NAME with its $NAMES filled in."""
    return Template((HERE / "conf" / name).read_text()).substitute(values)
