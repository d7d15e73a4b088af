"""The supervisor over real child processes: what it serves, what it writes, how it ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from strop_api.failures import OOM_EXIT_CODE
from strop_api.result import Result, StageMark
from strop_operator.facts import PodFact
from strop_operator.pods import describe, explain, read_result


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
    def start(mode, stale=30.0, grace=10.0, within=(), drive="drive.py"):
        request, log, port = tmp_path / "request.json", tmp_path / "log", spine.free_port()
        request.write_text(spine.make_request().model_dump_json(by_alias=True))
        command = [*within, sys.executable, str(spine.parts / drive), mode, request, log, port, stale, grace]
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
        assert "SIGKILL during export: perhaps by the kernel, for memory" in p.result().message


def test_health_turns_red_when_the_child_is_stopped_and_green_again(pod):
    """The kubelet would never restart a hung worker."""
    with pod("waits", stale=0.5) as p:
        p.stage("export")
        assert p.get("/healthz")[0] == 200
        os.kill(p.children()[0], signal.SIGSTOP)
        p.wait_for(lambda: p.get("/healthz")[0] == 503)
        os.kill(p.children()[0], signal.SIGCONT)
        p.wait_for(lambda: p.get("/healthz")[0] == 200)


def test_a_stage_that_never_comes_back_turns_health_red_and_is_a_failure_when_it_is_stopped(pod):
    """A hung worker would hold its node for ever; or, as an eviction, be started again for ever."""
    with pod("wedged", grace=0.3) as p:
        p.stage("int8")
        status, words = p.wait_for(lambda: (answer := p.get("/healthz")) and answer[0] == 503 and answer)
        assert status == 503
        assert b"no progress in stage int8 for" in words
        p.process.send_signal(signal.SIGTERM)
        assert p.end() == 1
        assert p.result().outcome == "Failed"
        assert p.result().message.startswith("no progress in stage int8 for ")


def test_the_child_leaves_when_its_supervisor_is_killed(pod):
    """It would work on, unheard, and hold what the next attempt needs."""
    with pod("wedged") as p:
        p.stage("int8")
        (child,) = p.children()
        p.process.kill()
        p.process.wait(10)

        def gone():
            try:
                return Path(f"/proc/{child}/stat").read_text().split(")")[1].split()[0] == "Z"
            except FileNotFoundError:
                return True

        p.wait_for(gone)


def test_a_sigterm_that_meets_the_childs_end_loses_no_result(pod):
    """The supervisor would die in its signal handler, and leave nothing to be read."""
    with pod("silent_end", drive="drive_late.py") as p:
        assert p.end() == 1
        assert "code 3 during int8" in p.result().message


def test_what_the_child_started_ends_with_it(pod):
    """A benchmark's processes would go on using the node."""
    with pod("orphans") as p:
        grandchild = int(p.stage("pid-")["progress"]["stage"].removeprefix("pid-"))
        os.kill(p.children()[0], signal.SIGKILL)
        assert p.end() == 1
        with pytest.raises(ProcessLookupError):
            os.kill(grandchild, 0)


@pytest.fixture
def small_cgroup():
    """The words that start a process in a control group of 64 MiB, of either version."""
    root = Path("/sys/fs/cgroup")
    second = (root / "cgroup.controllers").exists()
    folder = (root if second else root / "memory") / f"strop-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
        (folder / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(64 << 20))
    except OSError as error:
        pytest.skip(f"this machine lets nobody make a control group: {error}")
    yield ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
    folder.rmdir()


@pytest.mark.parametrize("named", ["OOMKilled", "Error"])
@pytest.mark.parametrize(("mode", "stage"), [("hogs", "int8"), ("hogs_in_a_child", "export")])
def test_where_the_kernel_kills_only_the_child_for_memory_stage_and_limit_are_named(
    pod, small_cgroup, mode, stage, named
):
    """The run would be tried again in vain, and the status would name neither the stage nor the limit."""
    with pod(mode, within=small_cgroup) as p:
        assert p.end() == OOM_EXIT_CODE
        result, seen = p.result(), p.log.read_text()
    assert (result.outcome, result.field) == ("OutOfMemory", "spec.worker.resources.limits.memory")
    killed = PodFact(
        namespace="team", name="p", uid="p", version=1, job_uid="j", owner_uid="u", created_at=0.0, phase="Failed",
        exit_code=OOM_EXIT_CODE, exit_reason=named, termination=seen,
    )  # fmt: skip
    words = describe(explain(killed), killed, read_result(killed, result.run_id), result.run_id)
    assert stage in words
    assert "64.0 MiB" in words


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
