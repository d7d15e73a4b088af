"""The pod's entry on a real run: progress while it works, eviction and resumption, the result at the end."""

import copy
import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Result


class Worker:
    """A running `strop worker`."""

    def __init__(self, process, port, log, wait_for):
        self.process, self.port, self.log, self.wait_for = process, port, log, wait_for

    def progress(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/progress")
            return json.loads(connection.getresponse().read())
        except OSError:
            return None
        finally:
            connection.close()

    def reaches(self, stage):
        return self.wait_for(lambda: (p := self.progress()) and p["progress"]["stage"] == stage and p, 60)

    def result(self):
        self.process.wait(90)
        return self.process.returncode, Result.model_validate_json(self.log.read_bytes())


@pytest.fixture
def pod(tmp_path, spine, tiny):
    document = tiny.lay_out(tmp_path / "store")

    @contextmanager
    def start(**benchmark):
        wanted = copy.deepcopy(document["spec"]) | ({"benchmark": benchmark} if benchmark else {})
        request = spine.make_request(ModelOptimizationSpec.model_validate(wanted))
        path, log, port = tmp_path / "request.json", tmp_path / "termination", spine.free_port()
        path.write_text(request.model_dump_json(by_alias=True))
        flags = {"request": path, "termination-log": log, "port": port, "scratch": tmp_path / "scratch"}
        flags |= {"local-store": tmp_path / "store", "credentials": tmp_path / "none"}
        command = [sys.executable, "-m", "strop_job.cli", "worker"]
        command += [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "2"})
        try:
            yield Worker(process, port, log, spine.wait_for)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(40)

    return start


def test_a_run_in_a_pod_leaves_its_result(pod):
    """The operator would have nothing to tell."""
    with pod() as worker:
        code, result = worker.result()
    assert (code, result.outcome) == (0, "Published")
    assert result.target.artifact.uri.startswith("s3://engines/tiny/")
    assert result.report.startswith("s3://strop-records/reports/")
    assert [stage.name for stage in result.stages][-1] == "benchmark"


def test_eviction_while_measuring_keeps_finished_stages_and_the_next_pod_resumes(pod):
    """A drained node would cost hours."""
    with pod(calls=1_000_000, maxSeconds=120) as worker:
        seen = worker.reaches("benchmark")
        assert seen["measuring"]
        assert seen["sequence"] > 3
        worker.process.send_signal(signal.SIGTERM)
        code, result = worker.result()
    assert (code, result.outcome) == (42, "Evicted")
    with pod(calls=50) as worker:
        code, result = worker.result()
    assert code == 0
    made = [stage.name for stage in result.stages if not stage.cached]
    assert made == ["audit-gates", "benchmark"]  # both by the number of calls, which changed


def test_a_published_run_answers_at_once_though_its_records_are_of_another_machine(pod, tmp_path):
    """A lost result asked again on another node would end in a conflict with the published bytes."""
    with pod() as worker:
        _, first = worker.result()
    for record in (tmp_path / "store/strop-records/records").iterdir():
        record.unlink()
    with pod() as worker:
        code, second = worker.result()
    assert code == 0
    assert second.target == first.target
    assert all(stage.cached for stage in second.stages)
    assert not list((tmp_path / "store/strop-records/records").iterdir())


def test_missing_credentials_are_named_without_a_trace(tmp_path, spine):
    """A forgotten Secret would be a mystery."""
    path, log = tmp_path / "request.json", tmp_path / "termination"
    path.write_text(spine.make_request().model_dump_json(by_alias=True))
    flags = ["--request", path, "--termination-log", log, "--port", spine.free_port(), "--scratch", tmp_path]
    command = [sys.executable, "-m", "strop_job.cli", "worker", *flags, "--credentials", tmp_path / "none"]
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert ended.returncode == 11
    assert "Traceback" not in ended.stderr
    assert "accessKey" in Result.model_validate_json(log.read_bytes()).message
