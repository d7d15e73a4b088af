"""What a worker tells of itself: few lines, whatever kernel it runs on, and nothing that disturbs a benchmark."""

import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

from monitoring.play import worker
from strop_api.result import PROGRESS_PORT, ProgressReport
from strop_api.status import Progress
from strop_job.exposition import CONTENT_TYPE, exposition

V2 = {
    "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
    "cpu.max": "200000 100000\n",
    "memory.current": "3000\n",
    "memory.stat": "anon 1\ninactive_file 1000\n",
    "memory.max": "4096\n",
}
V1 = {
    "cpuacct.usage": "2500000000\n",
    "cpu.cfs_quota_us": "200000\n",
    "cpu.cfs_period_us": "100000\n",
    "memory.usage_in_bytes": "3000\n",
    "memory.stat": "inactive_file 5\ntotal_inactive_file 1000\n",
    "memory.limit_in_bytes": "4096\n",
}
USAGE = {
    "strop_worker_cpu_seconds_total": 2.5,
    "strop_worker_cpu_limit_cores": 2,
    "strop_worker_memory_bytes": 2000,
    "strop_worker_memory_limit_bytes": 4096,
}


def report(stage: str = "int8", *, measuring: bool = False) -> ProgressReport:
    return ProgressReport(run_id="r", sequence=1, measuring=measuring, progress=Progress(stage=stage, percent=40))


def cgroup(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def samples(text: bytes) -> dict[str, float]:
    """Each series and its value."""
    lines = (line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


@pytest.mark.parametrize("files", [V2, V1], ids=["version 2", "version 1"])
def test_use_and_limits_are_the_containers(files: dict[str, str], tmp_path: Path) -> None:
    """A figure of the node instead would look the same."""
    own, above = cgroup(tmp_path / "own", files), cgroup(tmp_path / "above", {"memory.current": "9000\n"})
    found = samples(exposition(report(), (own, above)))
    assert {name: found[name] for name in USAGE} == USAGE
    assert found['strop_worker_stage_info{stage="int8"}'] == 1
    assert found["strop_worker_progress_ratio"] == 0.4


def test_what_the_kernel_does_not_tell_is_left_out(tmp_path: Path) -> None:
    """A zero would be a measurement."""
    files = {"cpu.max": "max 100000\n", "memory.max": "max\n"}
    assert not USAGE.keys() & samples(exposition(report(), (cgroup(tmp_path / "own", files),))).keys()


def test_while_latency_is_measured_the_kernel_is_not_asked(tmp_path: Path) -> None:
    """Its sums over all processors take a millisecond, beside calls of one."""
    found = samples(exposition(report(measuring=True), (cgroup(tmp_path / "own", V2),)))
    assert found["strop_worker_measuring"] == 1
    assert not USAGE.keys() & found.keys()


def test_any_stage_name_is_one_label(tmp_path: Path) -> None:
    """A quote in a name would end the scrape of everything; promtool is who reads it like Prometheus."""
    text = exposition(report('a"b\\c\nd'), (cgroup(tmp_path / "own", V2),))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(rb'stage="(.*)"}', text) == [rb"a\"b\\c\nd"]


def test_the_supervisors_server_serves_them() -> None:
    """At the port that the PodMonitor names, beside the progress."""
    with worker("r", "int8", 40) as server:
        with urllib.request.urlopen(f"http://{server.host}:{PROGRESS_PORT}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert samples(answer.read())["strop_worker_progress_ratio"] == 0.4
