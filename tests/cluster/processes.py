"""Long-running processes, by records on disk, so that any later command can find, stop and restart them.

A record holds argv, environment, pid and the process's start time: a pid that was reused is never signalled.
"""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .shell import ClusterError, write


@dataclass(frozen=True)
class Record:
    """One started process."""

    argv: list[str]
    environment: dict[str, str]
    pid: int
    started: str | None  # in clock ticks after boot

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self.started is not None and started_at(self.pid) == self.started


def started_at(pid: int) -> str | None:
    """When a process started, in clock ticks after boot; None if there is none or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class Processes:
    """The processes whose records and logs lie in one folder."""

    def __init__(self, directory: Path) -> None:
        self._records, self._logs = directory / "run", directory / "logs"

    def names(self) -> list[str]:
        """All that were started, whether they run or not."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def record(self, name: str) -> Record | None:
        """The newest record of NAME."""
        path = self._records / f"{name}.json"
        return Record(**json.loads(path.read_text())) if path.exists() else None

    def alive(self, name: str) -> bool:
        """Whether NAME runs."""
        record = self.record(name)
        return record is not None and record.alive

    def start(self, name: str, argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start NAME in a session of its own; nothing happens if it runs. `environment` is added to ours."""
        if self.alive(name):
            return
        words, extra = [str(word) for word in argv], dict(environment or {})
        self._logs.mkdir(parents=True, exist_ok=True)
        log = os.fspath(self.log(name))
        try:
            # Not subprocess.Popen: these outlive the object that started them, and often the interpreter.
            pid = os.posix_spawnp(
                words[0],
                words,
                {**os.environ, **extra},
                setsid=True,
                setsigdef=[signal.SIGPIPE],
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
            )
        except FileNotFoundError:
            raise ClusterError(f"{words[0]} is not installed; `python3 tests/cluster install` brings it") from None
        write(self._records / f"{name}.json", asdict(Record(words, extra, pid, started_at(pid))))

    def start_again(self, name: str) -> None:
        """Start NAME with the command line it had last time."""
        record = self.record(name)
        if record is None:
            raise ClusterError(f"{name} was never started here; known: {', '.join(self.names()) or 'none'}")
        self.start(name, record.argv, record.environment)

    def stop(self, name: str, sig: str = "TERM", seconds: float = 10) -> None:
        """Signal NAME until it is gone, with KILL after `seconds`; STOP and CONT only freeze and thaw it."""
        if f"SIG{sig}" not in signal.Signals.__members__:
            raise ClusterError(f"{sig} is no signal; say KILL, TERM, STOP or CONT")
        end = time.monotonic() + seconds
        while (record := self.record(name)) and record.alive:
            try:
                os.kill(record.pid, signal.Signals[f"SIG{sig if time.monotonic() < end else 'KILL'}"])
            except ProcessLookupError:
                break
            if sig in ("STOP", "CONT"):
                return
            time.sleep(0.05)
        if (record := self.record(name)) and started_at(record.pid) is None:
            with contextlib.suppress(ChildProcessError):  # another interpreter's child, or reaped already
                os.waitpid(record.pid, 0)  # a zombie whose last threads still end holds its ports until now

    def restart(self, name: str, sig: str = "TERM") -> None:
        """Stop NAME by a signal and start it with the command line it had."""
        self.stop(name, sig)
        self.start_again(name)

    def log(self, name: str) -> Path:
        """Where NAME's output goes."""
        return self._logs / f"{name}.log"

    def await_ready(self, name: str, ready: Callable[[], object], seconds: float = 30) -> None:
        """Wait until NAME is ready; a process that ends, or is too slow, is an error with the end of its log."""
        end = time.monotonic() + seconds
        while not (ready() and self.alive(name)):
            if not self.alive(name):
                raise ClusterError(f"{name} has ended:\n{self._tail(name)}")
            if time.monotonic() > end:
                raise ClusterError(f"{name} is not ready after {seconds:g} s:\n{self._tail(name)}")
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])


def private_folder(prefix: str) -> Path:
    """A temporary folder for the processes of this interpreter; what dead interpreters left running ends first."""
    for owner in Path(tempfile.gettempdir()).glob(f"{prefix}*/owner.json"):
        try:
            left = not Record(**json.loads(owner.read_text())).alive
        except (OSError, ValueError):  # being written, or being removed by another interpreter
            continue
        if left:
            processes = Processes(owner.parent)
            for name in processes.names():
                processes.stop(name, "KILL")
            shutil.rmtree(owner.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    write(folder / "owner.json", asdict(Record([], {}, os.getpid(), started_at(os.getpid()))))
    return folder
