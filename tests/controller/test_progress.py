"""Progress: polled from the supervisor in the pod, believed only when it is what it should be."""

import itertools
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cluster_parts import Kubelet, Namespace, eventually, result, run_of

from strop_api.result import PROGRESS_PORT

pytestmark = pytest.mark.apiserver


class Supervisor:
    """Answers /progress with whatever the test says."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        # An address of its own: pods of other tests may still be polled at theirs.
        self.address = f"127.83.{os.getpid() % 250}.{next(self._numbers)}"
        self.status, self.body, self.asked = 200, b"{}", 0
        self.location = ""
        parts = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts.asked += 1
                self.send_response(parts.status)
                if parts.location:
                    self.send_header("Location", parts.location)
                self.end_headers()
                self.wfile.write(parts.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((self.address, PROGRESS_PORT), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def says(self, run_id: str, sequence: int, stage: str, percent: int, **more: object) -> None:
        progress = {"stage": stage, "percent": percent, "message": "at work"}
        self.body = json.dumps({"runId": run_id, "sequence": sequence, "progress": progress, **more}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    supervisor.close()


def progress(namespace: Namespace) -> tuple[str, int] | None:
    told = namespace.get()["status"].get("progress")
    return (told["stage"], told["percent"]) if told else None


def asked_twice_more(supervisor: Supervisor) -> None:
    """Let the operator hear what is said now."""
    asked = supervisor.asked
    eventually("asked twice", lambda: supervisor.asked >= asked + 2)


def test_progress_is_told_in_steps_worth_telling_and_ends_with_the_run(
    namespace: Namespace, kubelet: Kubelet, supervisor: Supervisor
) -> None:
    """People watch it; etcd pays for each step."""
    namespace.create()
    pod = namespace.pod()
    supervisor.says(run_of(pod), 1, "export", 10)
    kubelet.runs(pod, supervisor.address)
    eventually("export", lambda: progress(namespace) == ("export", 10))
    assert namespace.get()["status"]["summary"]["progress"] == "export 10%"
    supervisor.says(run_of(pod), 2, "export", 12)
    asked_twice_more(supervisor)
    assert progress(namespace) == ("export", 10)
    supervisor.says(run_of(pod), 3, "int8", 13)
    eventually("int8", lambda: progress(namespace) == ("int8", 13))
    kubelet.ends(pod, 0, result(run_of(pod)))
    assert "progress" not in namespace.reason("Published")


def test_hostile_progress_is_unknown_progress(namespace: Namespace, kubelet: Kubelet, supervisor: Supervisor) -> None:
    """A pod may answer anything: HTML, another run, a flood, a redirect into the cluster."""
    namespace.create()
    pod = namespace.pod()
    supervisor.body = b"<html>" + b"x" * 100
    kubelet.runs(pod, supervisor.address)
    namespace.reason("Running")
    asked_twice_more(supervisor)
    supervisor.says("0000000000", 5, "another run", 50)
    asked_twice_more(supervisor)
    supervisor.says(run_of(pod), 5, "flood", 50)
    supervisor.body += b" " * 9000
    asked_twice_more(supervisor)
    supervisor.says(run_of(pod), 5, "redirect", 50)
    supervisor.status, supervisor.location = 302, f"http://{supervisor.address}:{PROGRESS_PORT}/elsewhere"
    asked_twice_more(supervisor)
    assert progress(namespace) is None
    assert namespace.get()["status"]["phase"] == "Running"


def test_a_worker_that_measures_is_left_alone(namespace: Namespace, kubelet: Kubelet, supervisor: Supervisor) -> None:
    """A poll in the middle of a benchmark is in its latency."""
    namespace.create()
    pod = namespace.pod()
    supervisor.says(run_of(pod), 1, "benchmark", 80, measuring=True)
    kubelet.runs(pod, supervisor.address)
    eventually("benchmark", lambda: progress(namespace) == ("benchmark", 80))
    asked = supervisor.asked
    supervisor.says(run_of(pod), 2, "report", 95)
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Published")
    assert supervisor.asked == asked
