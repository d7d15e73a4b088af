"""The worker's own figures as Prometheus reads them: progress, and what the container uses of what it may.

A dozen lines of text need no library: the supervisor stays small. The format:
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from strop_api.result import ProgressReport
from strop_job.hardware import cgroup_folders, memory_limit, quota_cores

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[str, str, str, float, dict[str, str]]
"""Name, kind, help, value, labels."""
Reading = Callable[[Path], float | None]
"""A figure of one cgroup folder; None where it has none."""


def exposition(report: ProgressReport, folders: Iterable[Path] | None = None) -> bytes:
    """All figures of the moment. `folders` are the container's cgroup and its ancestors, innermost first.

    While latency is measured the kernel is not asked: its sums over all processors would cost a millisecond beside it.
    """
    found = tuple(cgroup_folders() if folders is None else folders) if not report.measuring else ()
    return "".join(_lines(*sample) for sample in (*_progress(report), *_usage(found))).encode()


def _progress(report: ProgressReport) -> Iterator[Sample]:
    told = report.progress
    yield "strop_worker_stage_info", "gauge", "The stage that runs.", 1, {"stage": told.stage}
    yield "strop_worker_progress_ratio", "gauge", "How far the run is.", told.percent / 100, {}
    yield "strop_worker_measuring", "gauge", "1 while latency is measured.", float(report.measuring), {}


def _usage(folders: tuple[Path, ...]) -> Iterator[Sample]:
    """What the kernel counts; what it does not tell is left out."""
    if (spent := _first(_cpu_seconds, folders)) is not None:
        yield "strop_worker_cpu_seconds_total", "counter", "Processor time of the container.", spent, {}
    if (cores := _tightest(quota_cores, folders)) is not None:
        yield "strop_worker_cpu_limit_cores", "gauge", "Cores that the container may use.", cores, {}
    if (used := _first(_memory, folders)) is not None:
        yield "strop_worker_memory_bytes", "gauge", "Memory that cannot be taken back (working set).", used, {}
    if (limit := _tightest(memory_limit, folders)) is not None:
        yield "strop_worker_memory_limit_bytes", "gauge", "Memory that the container may use.", limit, {}


def _lines(name: str, kind: str, about: str, value: float, labels: dict[str, str]) -> str:
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n{name}{f'{{{inner}}}' if inner else ''} {value!r}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _first(read: Reading, folders: tuple[Path, ...]) -> float | None:
    """Of the container's own cgroup, where that is told."""
    return next((value for folder in folders if (value := read(folder)) is not None), None)


def _tightest(read: Reading, folders: tuple[Path, ...]) -> float | None:
    return min((value for folder in folders if (value := read(folder)) is not None), default=None)


def _cpu_seconds(folder: Path) -> float | None:
    if (micros := _fields(folder / "cpu.stat").get("usage_usec")) is not None:
        return micros / 1e6
    nanos = _number(folder / "cpuacct.usage")
    return None if nanos is None else nanos / 1e9


def _memory(folder: Path) -> float | None:
    """As the kubelet computes the working set: without file pages that nobody has used lately."""
    used, stat = _number(folder / "memory.current"), _fields(folder / "memory.stat")
    if used is None:
        used = _number(folder / "memory.usage_in_bytes")
    idle = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return None if used is None else float(max(used - idle, 0))


def _fields(path: Path) -> dict[str, int]:
    """`name value` on each line."""
    words = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
