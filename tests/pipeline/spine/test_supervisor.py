"""The supervisor over real child processes: what it serves, what it writes, how it ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from strop_api.result import Result, StageMark


class Pod:
    """A running supervisor and what can be seen of it from outside."""

    def __init__(self, process, port, log, wait_for):
        self.process, self.port, self.log, self.wait_for = process, port, log, wait_for

    def get(self, path, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return None
        finally:
            connection.close()

    def report(self):
        answer = self.get("/progress")
        return json.loads(answer[1]) if answer else None

    def stage(self, name):
        assert self.process.poll() is None
        return self.wait_for(lambda: (r := self.report()) and r["progress"]["stage"].startswith(name) and r)

    def end(self):
        self.process.wait(30)
        return self.process.returncode

    def result(self):
        return Result.model_validate_json(self.log.read_bytes())

    def children(self):
        text = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True
        ).stdout
        return [int(word) for word in text.split()]


@pytest.fixture
def pod(tmp_path, spine):
    @contextmanager
    def start(mode, stale=30.0, grace=10.0):
        request, log, port = tmp_path / "request.json", tmp_path / "log", spine.free_port()
        request.write_text(spine.make_request().model_dump_json(by_alias=True))
        command = [sys.executable, str(spine.parts / "drive.py"), mode, request, log, port, stale, grace]
        process = subprocess.Popen([str(word) for word in command])
        try:
            yield Pod(process, port, log, spine.wait_for)
        finally:
            for child in Pod(process, port, log, spine.wait_for).children():
                os.kill(child, signal.SIGKILL)
            process.kill()
            process.wait(10)

    return start


def test_the_result_is_the_termination_message(pod):
    """Without it the operator would never learn how a run ended."""
    with pod("good") as p:
        assert p.end() == 0
        assert p.result().outcome == "Published"


def test_the_sequence_of_progress_grows(pod):
    """The operator would take old progress for new."""
    with pod("steps") as p:
        first = p.stage("export")
        second = p.wait_for(lambda: (r := p.report()) and r["sequence"] > first["sequence"] and r)
        assert second["progress"]["percent"] > first["progress"]["percent"]


def test_a_stage_is_marked_in_the_termination_log_when_it_begins(pod):
    """A container killed for memory could not name its stage."""
    with pod("waits") as p:
        p.stage("export")
        assert StageMark.model_validate_json(p.log.read_bytes()).stage == "export"


def test_the_child_is_told_of_sigterm_and_the_run_is_evicted(pod):
    """An eviction would count as a failure."""
    with pod("obeys") as p:
        p.stage("export")
        p.process.send_signal(signal.SIGTERM)
        assert p.end() == 42
        assert p.result().outcome == "Evicted"


def test_a_child_that_ignores_sigterm_is_killed_within_the_grace_period(pod):
    """The kubelet would kill the supervisor, and no result would be written."""
    with pod("deaf", grace=0.3) as p:
        p.stage("export")
        p.process.send_signal(signal.SIGTERM)
        assert p.end() == 42
        assert "export" in p.result().message


@pytest.mark.parametrize(("mode", "words"), [("crashes", "SIGSEGV"), ("silent_end", "code 3")])
def test_a_child_that_dies_is_a_failure_that_names_the_stage(pod, mode, words):
    """A crash would be a mystery."""
    with pod(mode) as p:
        assert p.end() == 1
        assert words in p.result().message
        assert "int8" in p.result().message


def test_a_child_killed_by_kill_9_is_a_failure_that_speaks_of_memory(pod):
    """The kernel's OOM killer would be a mystery."""
    with pod("waits") as p:
        p.stage("export")
        os.kill(p.children()[0], signal.SIGKILL)
        assert p.end() == 1
        assert "SIGKILL during export: most likely the kernel, for memory" in p.result().message


def test_health_turns_red_when_the_child_is_stopped_and_green_again(pod):
    """The kubelet would never restart a hung worker."""
    with pod("waits", stale=0.5) as p:
        p.stage("export")
        assert p.get("/healthz")[0] == 200
        os.kill(p.children()[0], signal.SIGSTOP)
        p.wait_for(lambda: p.get("/healthz")[0] == 503)
        os.kill(p.children()[0], signal.SIGCONT)
        p.wait_for(lambda: p.get("/healthz")[0] == 200)


def test_what_the_child_started_ends_with_it(pod):
    """A benchmark's processes would go on using the node."""
    with pod("orphans") as p:
        grandchild = int(p.stage("pid-")["progress"]["stage"].removeprefix("pid-"))
        os.kill(p.children()[0], signal.SIGKILL)
        assert p.end() == 1
        with pytest.raises(ProcessLookupError):
            os.kill(grandchild, 0)


def test_a_message_that_is_not_understood_does_no_harm(pod):
    """A damaged line would end a run of hours."""
    with pod("babbles") as p:
        assert p.end() == 0


def test_only_get_and_only_two_paths_are_answered(pod):
    """The port would be a way in."""
    with pod("waits") as p:
        p.stage("export")
        assert p.get("/")[0] == 404
        assert p.get("/progress/../etc/passwd")[0] == 404
        assert p.get("/progress", "POST")[0] == 501


def test_idle_connections_do_not_block_the_probe(pod):
    """A slow client would turn health red."""
    with pod("waits") as p:
        p.stage("export")
        idle = [socket.create_connection(("127.0.0.1", p.port)) for _ in range(20)]
        try:
            p.wait_for(lambda: (answer := p.get("/healthz")) and answer[0] == 200)
        finally:
            for connection in idle:
                connection.close()


def test_progress_fits_its_limit(pod):
    """The operator reads no more than that."""
    with pod("waits") as p:
        p.stage("export")
        assert len(p.get("/progress")[1]) <= 8192


def test_a_request_that_cannot_be_read_is_invalid_input(tmp_path, spine):
    """The pod would be retried for ever."""
    (tmp_path / "request.json").write_text("{}")
    command = [
        sys.executable,
        str(spine.parts / "drive.py"),
        "good",
        tmp_path / "request.json",
        tmp_path / "log",
        0,
        1,
        1,
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 11
    assert "cannot be read" in done.stderr
