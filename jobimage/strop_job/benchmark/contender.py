"""One variant's process as the parent sees it: started, handed the baton, reaped. Nothing here outlives its `with`."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from strop_job.benchmark.protocol import Answer, Setup, Turn
from strop_job.errors import StropError
from strop_job.memory import KillWatch, exhausted, is_exhaustion, killed

CHILD = (sys.executable, "-m", "strop_job.benchmark.child")
"""The command that serves one variant; it is given the path of its Setup."""
LOAD_SECONDS = 600.0
"""An engine that has not loaded by then hangs."""
GRACE_SECONDS = 60.0
"""How far beyond its budget a turn may run: one slow call may begin at its very end."""
POLL_SECONDS = 0.25
LEAVE_SECONDS = 5.0
TAIL_BYTES = 2000


class Contender:
    """A child process that holds one loaded variant. A context manager: leaving it ends the process."""

    def __init__(self, name: str, setup: Setup, folder: Path, command: tuple[str, ...] = CHILD) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        path = folder / f"{name}.json"
        setup.write(path)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        self._pending, self._kills = b"", KillWatch()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def loaded(self, alive: Callable[[], None]) -> Answer:
        """Waits for the variant to be loaded. `alive` is called now and then; what it raises ends the wait."""
        return self._answer(LOAD_SECONDS, "loading its engine", alive)

    def take(self, turn: Turn, alive: Callable[[], None]) -> Answer:
        """Hands over the baton and waits for it. Raises StropError when the child crashes, hangs or refuses."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(turn.line())
        except BrokenPipeError:
            raise self._crashed() from None
        return self._answer(turn.budget_seconds + GRACE_SECONDS, "running its calls", alive)

    def _answer(self, seconds: float, doing: str, alive: Callable[[], None]) -> Answer:
        line = self._line(time.monotonic() + seconds, alive)
        if line is None:
            raise StropError(
                f"the benchmark of {self.name} hangs: nothing for {seconds:.0f} s while {doing}",
                mend="run it again; if it stays, the engine hangs on its own inputs",
            )
        try:
            answer = Answer.parse(line)
        except ValueError:
            raise self._crashed() from None
        if answer.error and is_exhaustion(RuntimeError(answer.error)):
            raise exhausted("benchmark")
        if answer.error:
            raise StropError(f"the benchmark of {self.name} failed: {answer.error}")
        return answer

    def _line(self, end: float, alive: Callable[[], None]) -> bytes | None:
        """The next line from the child; empty when it is gone, None when time is up."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if time.monotonic() > end:
                    return None
                alive()
                if selector.select(POLL_SECONDS):
                    data = os.read(self._process.stdout.fileno(), 1 << 20)
                    if not data:
                        return b""
                    self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _crashed(self) -> StropError:
        """How it ended, with the last words it wrote."""
        try:
            code = self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            code = 0
        if self._kills.explains(code):
            return killed("benchmark")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        words = " ".join(self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").split())[-300:]
        return StropError(f"the benchmark of {self.name} {how}" + (f": {words}" if words else ""))

    def __enter__(self) -> "Contender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closing its input tells the child to leave; one that was interrupted in a call is killed."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if kind is not None:
            process.kill()
        try:
            process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
