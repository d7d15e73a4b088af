"""What goes wrong on a cluster, on request: processes that are killed or stand still, a store that is not there."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.runs import Run
from e2e.shell import Json, wait_until
from e2e.stack import STORAGE, SYSTEM, Stack

OPERATOR, WORK, MINIO = b"strop_operator", b"strop_job.worker", b"/minio"
"""Words on the command lines of processes in pods: the operator, the worker's working process, the store."""


def processes(pod: Json, word: bytes) -> list[int]:
    """PIDs on this node of a pod's processes with a word on their command line."""
    uid = pod["metadata"]["uid"]
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            inside = uid in (cmdline.parent / "cgroup").read_text().replace("_", "-")
            if inside and word in cmdline.read_bytes().split(b"\0"):
                found.append(int(cmdline.parent.name))
    return found


def signal_all(stack: Stack, pod: Json, word: bytes, number: signal.Signals) -> None:
    """Signal such processes from the node: within its own namespace PID 1 would not even notice."""
    assert stack.platform.owned, "signals to a container's process need a node of our own"
    found = wait_until(f"a process {word!r} of {pod['metadata']['name']}", lambda: processes(pod, word), 60, every=0.05)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_operator(stack: Stack) -> None:
    """SIGKILL, and wait until the kubelet has started it again."""
    before = operator_restarts(stack)
    for pod in _operator(stack):
        signal_all(stack, pod, OPERATOR, signal.SIGKILL)
    wait_until("the operator's container was started again", lambda: operator_restarts(stack) > before, 60)


def operator_restarts(stack: Stack) -> int:
    """How often the operator's container was started again."""
    found = [status for pod in _operator(stack) for status in pod["status"].get("containerStatuses", [])]
    return sum(status["restartCount"] for status in found)


def _operator(stack: Stack) -> list[Json]:
    return list(stack.kubectl.get("-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=strop")["items"])


@contextmanager
def no_store(stack: Stack) -> Iterator[None]:
    """The store is away: its connections break, and new ones are refused. Its data stays."""
    _select(stack, "nobody")
    for pod in stack.kubectl.get("-n", STORAGE, "pods", "-l", "app=minio")["items"]:
        signal_all(stack, pod, MINIO, signal.SIGKILL)
    try:
        yield
    finally:
        _select(stack, "minio")
        stack.kubectl("-n", STORAGE, "wait", "--for=condition=Ready", "pod", "-l", "app=minio", "--timeout=120s")


def _select(stack: Stack, app: str) -> None:
    patch = json.dumps({"spec": {"selector": {"app": app}}})
    stack.kubectl("-n", STORAGE, "patch", "service", "minio", "-p", patch)


def running_pod(run: Run) -> Json:
    """The run's newest pod, as soon as it runs."""

    def look() -> Json | None:
        found = run.pods()
        return found[-1] if found and found[-1]["status"].get("phase") == "Running" else None

    found = wait_until(f"a running pod of {run.name}", look, 120)
    assert found is not None
    return found


def evict(stack: Stack, run: Run, pod: str) -> None:
    """Through the eviction API, as a drain does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{run.namespace}/pods/{pod}/eviction"
    stack.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
