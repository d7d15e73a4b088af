"""Commands and waiting, as the end-to-end tests and the tour need them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")
Json = dict[str, Any]
_BEGAN = time.monotonic()


class StackError(Exception):
    """What kept the stack from coming up, in words for whoever asked for it."""


def say(text: str) -> None:
    """Tell progress on standard error."""
    print(f"[{time.monotonic() - _BEGAN:6.1f}s] {text}", file=sys.stderr, flush=True)


def run(*words: str | Path, stdin: str | None = None, check: bool = True, env: dict[str, str] | None = None) -> str:
    """What a command prints. Raises StackError with its last words when it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        input=stdin, text=True, capture_output=True, check=False, cwd=ROOT, env={**os.environ, **(env or {})},
    )  # fmt: skip
    if check and done.returncode:
        raise StackError(f"failed: {' '.join(map(str, words))}\n{done.stdout[-1500:]}{done.stderr[-3000:]}".strip())
    return done.stdout


def wait_until(what: str, look: Callable[[], T], seconds: float = 60, every: float = 0.2) -> T:
    """The first true answer of `look`; StackError after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := look()):
        if time.monotonic() > end:
            raise StackError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return answer


class Kubectl:
    """kubectl against one cluster."""

    def __init__(self, binary: str | Path, kubeconfig: Path) -> None:
        self.binary, self.kubeconfig = binary, kubeconfig

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints."""
        return run(self.binary, "--kubeconfig", self.kubeconfig, *words, stdin=stdin, check=check)

    def get(self, *words: str) -> Json:
        """An object or list as JSON; {} when there is none."""
        return dict(json.loads(self("get", *words, "-o", "json", "--ignore-not-found") or "{}"))

    def apply(self, *documents: Json) -> None:
        """Server-side apply."""
        text = "\n---\n".join(json.dumps(document) for document in documents)
        self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def succeeds(*words: str) -> bool:
    """Whether a command that only asks a question answers yes."""
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
