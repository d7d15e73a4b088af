"""The pod's first process: minds the child that works, serves progress and health, writes the result.

It imports no numeric library, polls nothing and sleeps until the child speaks, a signal comes or somebody asks: a
benchmark beside it is not disturbed. The child is another program image (no fork of threads), in a session of its own,
so that everything it started ends with it.
"""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from strop_api.failures import ExitCode
from strop_api.result import TERMINATION_LIMIT_BYTES, Outcome, ProgressReport, Result, RunRequest, StageMark, encode
from strop_api.status import Progress
from strop_job.memory import KillWatch, killed
from strop_job.outcome import exit_code, make_result, now
from strop_job.progress_server import Board, ProgressServer

LINE_LIMIT_BYTES = 1 << 18
"""A longer message from the child is not one of ours."""
START = "start"
"""What is named before the first stage."""
BURY_SECONDS = 1.0
"""After the child's end, for its killed descendants to be collected."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Settings:
    """How the supervisor runs; the defaults are the pod's."""

    request: Path
    termination_log: Path
    port: int
    stale_seconds: float = 600.0
    """Health turns red when the child gets on with nothing for this long; each stage has a bound of its own."""
    grace_seconds: float = 20.0
    """After SIGTERM the child has this long before it is killed; must be below the pod's grace period."""


@dataclass(frozen=True)
class Ended:
    """How the child ended, as `os.waitstatus_to_exitcode` says: negative is the signal."""

    code: int


class Supervisor:
    """One child from its start to its end."""

    def __init__(self, settings: Settings, request: RunRequest, command: Callable[[int], Sequence[str]]) -> None:
        self._settings, self._request, self._command = settings, request, command
        self._board = Board(
            ProgressReport(run_id=request.run_id, sequence=0, progress=Progress(stage=START, percent=0)),
            settings.stale_seconds,
        )
        self._stage = START
        self._kills = KillWatch()
        self._result: Result | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._ended: Ended | None = None
        self._asked = False
        """SIGTERM or SIGINT has arrived."""
        self._hang: str | None = None
        """In words, when the child was already hanging at that time."""
        self._deadline: float | None = None
        self._buffer = b""

    def run(self) -> int:
        """Starts the child, waits for its end, writes the termination message; returns the exit code."""
        adopt_orphans()
        with ProgressServer(self._settings.port, self._board):
            wake, pipe = self._watch_signals(), self._start()
            self._loop(wake, pipe)
        result = self._last_word()
        write_termination(self._settings.termination_log, encode(result))
        say(f"{result.outcome}: {result.message}" if result.message else str(result.outcome))
        return int(exit_code(result.outcome))

    def _last_word(self) -> Result:
        """What the child said, corrected by what it could not know: that it hung, or was killed for memory."""
        result = self._result or self._unspoken()
        if self._hang and result.outcome is Outcome.EVICTED:
            return result.model_copy(update={"outcome": Outcome.FAILED, "message": self._hang})
        if result.outcome is not Outcome.FAILED or not self._killed_for_memory():
            return result
        say(result.message)
        cause = killed(self._stage)
        changes = {"outcome": cause.outcome, "message": f"{cause.message} ({cause.mend})", "field": cause.field}
        return result.model_copy(update=changes)

    def _killed_for_memory(self) -> bool:
        """Whether the kernel says so; or, where it does not count, nobody else can have killed the child."""
        silently = self._result is None and self._ended is not None and self._deadline is None
        return self._kills.counted() or (silently and self._kills.explains(self._ended.code if self._ended else None))

    def _mark(self) -> None:
        """Leaves the stage as the termination message, for the case that nobody can say more."""
        mark = StageMark(run_id=self._request.run_id, stage=self._stage, at=now())
        write_termination(self._settings.termination_log, mark.model_dump_json(by_alias=True).encode())

    def _start(self) -> int:
        read_end, write_end = os.pipe()
        self._child = subprocess.Popen(
            list(self._command(write_end)), pass_fds=(write_end,), start_new_session=True, stdin=subprocess.DEVNULL
        )
        os.close(write_end)
        os.set_blocking(read_end, False)
        return read_end

    def _watch_signals(self) -> int:
        """Signals become bytes on a pipe, so that the loop may wait for everything at once."""
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._note())
        return read_end

    def _note(self) -> None:
        """All that happens inside a signal handler: it may run between any two steps of the loop."""
        self._asked = True

    def _stop(self) -> None:
        """Passes SIGTERM on and sets the child's deadline."""
        assert self._child is not None
        self._deadline = time.monotonic() + self._settings.grace_seconds
        self._hang = self._board.hang()
        with suppress(ProcessLookupError):
            os.kill(self._child.pid, signal.SIGTERM)

    def _loop(self, wake: int, pipe: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ)
            selector.register(pipe, selectors.EVENT_READ)
            while self._ended is None:
                timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                ready = {key.fd for key, _ in selector.select(timeout)}
                if wake in ready:
                    drain(wake)
                if self._asked and self._deadline is None:
                    self._stop()
                if pipe in ready and not self._listen(pipe):
                    selector.unregister(pipe)
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._kill()
                self._reap()
        self._listen(pipe)
        os.close(pipe)
        self._bury()

    def _bury(self) -> None:
        """Ends what the child left behind; what hides in a session of its own ends with the container."""
        self._kill()
        end = time.monotonic() + BURY_SECONDS
        while self._reap() and time.monotonic() < end:
            time.sleep(0.01)

    def _reap(self) -> bool:
        """Collects every ended process: the child, and whatever it left behind. Whether any is still alive."""
        assert self._child is not None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child.pid:
                self._ended = Ended(os.waitstatus_to_exitcode(status))
                self._child.returncode = self._ended.code

    def _kill(self) -> None:
        """Ends the child's whole session: a benchmark's processes do not outlive it."""
        assert self._child is not None
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _listen(self, pipe: int) -> bool:
        """Takes in what the child said; False at the end of the pipe."""
        while True:
            try:
                data = os.read(pipe, 65_536)
            except BlockingIOError:
                return True
            if not data:
                return False
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            if len(self._buffer) > LINE_LIMIT_BYTES:
                self._buffer = b""
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message: Mapping[str, object] = json.loads(line)
            silence = message.get("silence")
            self._board.heard(float(silence) if isinstance(silence, int | float) else None)
            if (progress := message.get("progress")) is not None:
                self._progress(Progress.model_validate(progress), bool(message.get("measuring")))
            if (result := message.get("result")) is not None:
                self._result = Result.model_validate(result)
        except (ValueError, ValidationError, AttributeError):
            say("a message of the child was not understood")

    def _progress(self, progress: Progress, measuring: bool) -> None:
        if progress.stage != self._stage:
            self._stage = progress.stage
            self._mark()
            say(f"{progress.percent:3d} % {progress.stage}")
        self._board.show(progress, measuring=measuring)

    def _unspoken(self) -> Result:
        """The child ended without a result: after SIGTERM that is an eviction, else a failure naming the stage."""
        if self._deadline is not None:
            return make_result(
                self._request,
                Outcome.EVICTED,
                message=f"stopped by SIGTERM during {self._stage}; finished stages are kept",
            )
        return make_result(self._request, Outcome.FAILED, message=death(self._ended, self._stage))


def death(ended: Ended | None, stage: str) -> str:
    """What a child's end without a word means."""
    code = ended.code if ended else 0
    if code >= 0:
        return f"the worker's process left with code {code} during {stage}"
    name = signal.Signals(-code).name
    hint = ": perhaps by the kernel, for memory" if -code == signal.SIGKILL else ""
    return f"the worker's process was ended by {name} during {stage}{hint}"


def supervise(settings: Settings, command: Callable[[int], Sequence[str]]) -> int:
    """Reads the request and runs the supervisor; one that cannot be read is invalid input. Returns the exit code."""
    try:
        request = RunRequest.model_validate_json(settings.request.read_bytes())
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        say(f"the run request {settings.request} cannot be read: {first}")
        return int(ExitCode.INVALID_INPUT)
    return Supervisor(settings, request, command).run()


def child_command(settings: Settings, *flags: str) -> Callable[[int], Sequence[str]]:
    """The command line of the working process, given the descriptor it speaks on."""
    base = [sys.executable, "-m", "strop_job.worker", "--request", str(settings.request)]
    return lambda descriptor: [*base, "--descriptor", str(descriptor), *flags]


def adopt_orphans() -> None:
    """Makes orphaned grandchildren ours when this is not PID 1, so that they are reaped all the same (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def write_termination(path: Path, data: bytes) -> None:
    """Replaces the termination message; the kubelet keeps its last 4,096 bytes. A missing log stops nobody."""
    try:
        with path.open("wb") as file:
            file.write(data[-TERMINATION_LIMIT_BYTES:])
    except OSError as error:
        say(f"the termination log cannot be written: {error.strerror}")


def drain(descriptor: int) -> None:
    """Empties a non-blocking pipe."""
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return


def say(text: str) -> None:
    """One line for the pod's log."""
    print(f"strop: {text}", file=sys.stderr, flush=True)
