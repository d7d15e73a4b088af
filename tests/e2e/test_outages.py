"""What a run stands on goes away for a while: it ends as it should, and nothing is done twice."""

import os
import signal
import time

import pytest

from cluster import faults, lifecycle
from e2e.actions import WORK, no_store, processes, running_pod, signal_all
from e2e.runs import QUICK, Run, applied, sample
from e2e.shell import Json, wait_until
from e2e.stack import UNREACHABLE, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
LATE = ("int8", "compile", "compile-original", "verify", "benchmark")
AWAY_SECONDS = 60
long = pytest.mark.skipif(not os.environ.get("STROP_NIGHTLY"), reason="takes minutes each: set STROP_NIGHTLY=1")


def test_a_store_that_is_away_for_a_minute_costs_no_finished_stage(stack: Stack) -> None:
    """Broken, a restart of the object store would end every run of the cluster."""
    with applied(stack.kubectl, sample("minilm-int8", seed=45), "storeless") as run:
        run.wait_for_stage(*LATE)
        with no_store(stack):
            back = time.monotonic() + AWAY_SECONDS
            wait_until("a pod that failed for it", lambda: _failed(run), 120)
            wait_until("the reason", lambda: _blames_the_store(run), 60)
            wait_until("the minute is over", lambda: time.monotonic() > back, AWAY_SECONDS + 1)
        run.wait("Ready")
        stages = {stage["name"]: stage for stage in run.status["stages"]}
        assert stages["resolve-model"].get("cached"), stages
        assert stages["export"].get("cached"), stages
        assert run.status["run"]["attempt"] == 1, "one Job did it all"
        assert run.status["run"]["failures"] >= 1


@long
@pytest.mark.nightly
@pytest.mark.parametrize("component", ["apiserver", "etcd"])
def test_a_run_outlives_the_control_plane(stack: Stack, component: str) -> None:
    """Broken, an upgrade of the cluster would lose results, or do runs twice."""
    _on_a_bare_node(stack)
    document = sample("magika-static-int8", benchmark=QUICK, seed=42 if component == "etcd" else 43)
    with applied(stack.kubectl, document, f"without-{component}") as run:
        pod = running_pod(run)
        (job,) = (job["metadata"]["uid"] for job in run.jobs())
        wait_until("the worker is at work", lambda: processes(pod, WORK), 60)
        faults.kill(component)
        wait_until("the worker has ended", lambda: not processes(pod, WORK), 300)
        faults.start(component)
        wait_until("the API server", lambda: lifecycle.api().ready(), 60)
        run.wait("Ready")
        assert run.status["run"]["attempt"] == 1
        assert all(left["metadata"]["uid"] == job for left in run.jobs())
        assert run.events().count("Launched") == 1


@long
@pytest.mark.nightly
def test_a_node_that_cannot_be_reached_is_told_and_the_run_goes_on_when_it_is_back(stack: Stack) -> None:
    """Broken, a second pod would run beside one that may still be at work, or the status would say all is well."""
    _on_a_bare_node(stack)
    document = sample("minilm-int8", seed=44)
    soon = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    document["spec"]["worker"] = document["spec"].get("worker", {}) | {"tolerations": [soon]}
    with applied(stack.kubectl, document, "unreachable") as run:
        run.wait_for_stage(*LATE)
        pod = running_pod(run)
        signal_all(stack, pod, WORK, signal.SIGSTOP)  # else it might end before anybody misses the node
        faults.kill("kubelet")
        try:
            wait_until("the pod is to go", lambda: _of(run, pod)["metadata"].get("deletionTimestamp"), 120)
            wait_until("the reason", lambda: "taint" in run.condition("Ready").get("message", "").lower(), 30)
            assert run.condition("Ready")["reason"] == "Retrying"
            assert len(run.pods()) == 1, "its process may still be at work"
        finally:
            faults.start("kubelet")
        run.wait("Ready")
        assert run.status["run"]["attempt"] == 1, "a lost node is not an attempt of the operator's"
        assert {s["name"]: s for s in run.status["stages"]}["export"].get("cached")


def _on_a_bare_node(stack: Stack) -> None:
    if not stack.platform.bare:
        pytest.skip("ends components of a node: only on one that tests/cluster has made")


def _blames_the_store(run: Run) -> bool:
    ready = run.condition("Ready")
    return ready["reason"] == "Retrying" and any(word in ready["message"] for word in ("store", "minio"))


def _failed(run: Run) -> bool:
    return any(pod["status"].get("phase") == "Failed" for pod in run.pods())


def _of(run: Run, pod: Json) -> Json:
    return next(p for p in run.pods() if p["metadata"]["uid"] == pod["metadata"]["uid"])
