"""Examines graphs and engines in a process of their own, whose time and memory are bounded.

A graph from anywhere may loop for ever, ask for all memory there is, or end the library that reads it.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from strop_api.checks.graph import OPAQUE
from strop_api.findings import Finding, Severity
from strop_job.doctor.files import Kind

SECONDS = 60.0
"""For one file, unless asked otherwise."""
MEMORY = 4 << 30
"""Resident bytes that examining a file may take, beside what its own size makes up."""
COPIES = 4
"""Of a file's own bytes: as read, as parsed, as written for the runtime, and in it."""
READ_SECONDS = 10.0
"""To read a graph that took too much when it was run."""
START_SECONDS = 10.0
"""For the process to import its libraries and to answer, beside what the examination may take."""
POLL_SECONDS = 0.02
CHILD = "from strop_job.doctor.child import main; main()"
RUNS_ON = {"onnxruntime": "graphs are run with onnxruntime: install strop[job,cpu]"}


class NotExamined(Exception):  # noqa: N818 - says what was not looked at
    """Nothing was examined: for want of a library, or because the file cannot be read."""


@dataclass(frozen=True)
class Bounds:
    """What examining one file may take."""

    seconds: float = SECONDS
    memory: int = MEMORY
    """Resident bytes, beside what the file's size makes up."""


@dataclass(frozen=True)
class Ended:
    """How the process ended."""

    answer: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    """Why there is no answer, in words."""


def examine(kind: Kind, path: Path, bounds: Bounds) -> list[Finding]:
    """What a graph or an engine shows, never taking more than the bounds. Raises NotExamined.

    A graph that takes too much is read once more, and not run: what its file alone shows is still said.
    """
    first = _asked(kind, path, bounds, "run")
    if not first.why:
        return _findings(first)
    not_run = OPAQUE.finding(
        f"was not run to its end, so neither graph nor engine was judged: {first.why}",
        severity=Severity.MEDIUM,
        mend="Allow more with --seconds if the file is known to be honest, and look for endless loops and vast shapes",
    )
    again = (
        _asked(kind, path, replace(bounds, seconds=READ_SECONDS), "read") if kind is Kind.ONNX else Ended(why=first.why)
    )
    return [*([] if again.why else _findings(again)), not_run]


def _findings(ended: Ended) -> list[Finding]:
    if missing := ended.answer.get("missing"):
        raise NotExamined(RUNS_ON.get(missing, f"it takes {missing}, which is not installed: install strop[job,cpu]"))
    if unread := ended.answer.get("unread"):
        raise NotExamined(unread)
    return [Finding.model_validate(finding) for finding in ended.answer["findings"]]


def _asked(kind: Kind, path: Path, bounds: Bounds, how: str) -> Ended:
    """One process, watched until it ends or takes too much."""
    command = [sys.executable, "-P", "-c", CHILD, kind.value, str(path), str(bounds.seconds), how]
    with (
        TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            why = _watched(process, bounds, path.stat().st_size)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        return Ended(why=why) if why else _answer(said.read(), process.returncode)


def _watched(process: "subprocess.Popen[bytes]", bounds: Bounds, size: int) -> str:
    """Why the process had to be ended; empty if it ended by itself."""
    resident = _resident(process.pid)
    end = time.monotonic() + bounds.seconds + START_SECONDS
    while process.poll() is None:
        if resident() > bounds.memory + COPIES * size:
            return f"it took more than {_gib(bounds.memory)}"
        if time.monotonic() > end:
            return f"it took more than {bounds.seconds:g} s"
        time.sleep(POLL_SECONDS)
    return ""


def _resident(process: int) -> Callable[[], int]:
    """What the process holds now, in bytes; 0 once it has ended."""
    import psutil

    def now() -> int:
        try:
            return int(psutil.Process(process).memory_info().rss)
        except psutil.Error:
            return 0

    return now


def _answer(said: bytes, status: int) -> Ended:
    try:
        return Ended(answer=json.loads(said))
    except ValueError:
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        return Ended(why=f"the libraries that read it ended with {how}")


def _gib(size: int) -> str:
    return f"{size / (1 << 30):g} GiB"
