"""Pods, nodes and the operator may die at any moment: nothing is lost and nothing is done twice."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.runs import Run, applied, sample
from e2e.shell import wait_until
from e2e.stack import SYSTEM, TEAM, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
LATE = ("int8", "compile", "compile-original", "verify", "benchmark")


def test_an_evicted_pod_is_followed_by_one_that_resumes_from_the_records(stack: Stack) -> None:
    """Broken, a drained node would cost the whole run again."""
    document = sample("minilm-int8", seed=1)
    with applied(stack.kubectl, document, "evicted") as run:
        run.wait_for_stage(*LATE)
        first = run.pods()[0]["metadata"]["name"]
        _evict(stack, first)
        wait_until("a second pod", lambda: [p for p in run.pods() if p["metadata"]["name"] != first], 120)
        run.wait("Ready")
        stages = {stage["name"]: stage for stage in run.status["stages"]}
        assert stages["resolve-model"].get("cached"), stages
        assert stages["export"].get("cached"), stages
        assert run.status["run"]["attempt"] == 1, "an eviction is not an attempt of the operator's"


def test_an_operator_killed_in_the_middle_starts_nothing_twice(stack: Stack) -> None:
    """Broken, a crash of the operator would run two pods on the same GPU budget."""
    with applied(stack.kubectl, sample("magika-static-int8", seed=2), "orphaned") as run:
        wait_until("the worker's pod", run.pods, 60)
        jobs = [job["metadata"]["uid"] for job in run.jobs()]
        _kill_operator(stack)
        run.wait("Ready")
        assert len(jobs) == 1
        assert all(job["metadata"]["uid"] in jobs for job in run.jobs())
        assert run.status["run"]["attempt"] == 1


def test_a_worker_out_of_memory_is_named_with_its_stage_and_limit(stack: Stack) -> None:
    """Broken, a user would see a bare exit code 137."""
    document = sample("minilm-int8", seed=3)
    # One layer alone is larger than the limit: the kernel has nothing to page out and kills at once.
    sizes = {"hidden_size": 3840, "intermediate_size": 15_360, "num_hidden_layers": 12}
    document["spec"]["model"]["architecture"]["arguments"] = sizes
    document["spec"]["worker"] = {
        "resources": {"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"memory": "640Mi"}}
    }
    with applied(stack.kubectl, document, "hungry") as run:
        run.wait("Stalled", 300)
        stalled = run.condition("Stalled")
        assert stalled["reason"] == "OutOfMemory"
        assert "spec.worker.resources.limits.memory" in stalled["message"]
        assert "export" in stalled["message"], "the stage is named"
        assert "640" in stalled["message"]


def test_a_suspended_run_leaves_no_pod_and_resumes(stack: Stack) -> None:
    """Broken, pausing would either keep the GPU or lose the work."""
    with applied(stack.kubectl, sample("minilm-int8", seed=4), "paused") as run:
        run.wait_for_stage("export", *LATE)
        _patch(stack, run, '{"spec":{"suspend":true}}')
        wait_until(
            "no pod is left", lambda: not run.pods() and run.condition("Ready").get("reason") == "Suspended", 120
        )
        _patch(stack, run, '{"spec":{"suspend":false}}')
        run.wait("Ready")
        assert {s["name"]: s for s in run.status["stages"]}["resolve-model"].get("cached")


def test_a_job_deleted_by_hand_comes_back(stack: Stack) -> None:
    """Broken, a run would hang for ever without its Job."""
    with applied(stack.kubectl, sample("magika-static-int8", seed=5), "deleted") as run:
        job = wait_until("the Job", run.jobs, 60)[0]["metadata"]
        stack.kubectl("-n", TEAM, "delete", "job", job["name"])
        wait_until("another Job", lambda: [j for j in run.jobs() if j["metadata"]["uid"] != job["uid"]], 120)
        run.wait("Ready")


def test_an_image_that_is_not_there_is_told(stack: Stack) -> None:
    """Broken, a typing error in the policy would look like a slow node."""
    missing = "127.0.0.1:5000/strop-worker@sha256:" + "0" * 64
    policy = stack.kubectl.get("-n", SYSTEM, "optimizationpolicy", "default")["spec"]
    policy["images"][0]["ref"] = missing
    document = {
        "apiVersion": "strop.dev/v1alpha1",
        "kind": "OptimizationPolicy",
        "metadata": {"name": "default", "namespace": TEAM},
        "spec": policy,
    }
    stack.kubectl.apply(document)
    try:
        with applied(stack.kubectl, sample("magika-static-int8", seed=6), "no-image") as run:
            wait_until("the reason", lambda: run.condition("Reconciling").get("reason") == "ImagePullFailed", 90)
    finally:
        stack.kubectl("-n", TEAM, "delete", "optimizationpolicy", "default")


def _kill_operator(stack: Stack) -> None:
    """SIGKILL from the node: within its own namespace PID 1 would not even notice."""
    assert stack.platform.owned, "killing a container's process needs a node of our own"
    before = _restarts(stack)
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            in_pod = "kubepods" in (cmdline.parent / "cgroup").read_text()
            if in_pod and b"strop_operator" in cmdline.read_bytes().split(b"\0"):
                os.kill(int(cmdline.parent.name), signal.SIGKILL)
    wait_until("the operator's container was started again", lambda: _restarts(stack) > before, 60)


def _restarts(stack: Stack) -> int:
    pods = stack.kubectl.get("-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=strop")["items"]
    return sum(status["restartCount"] for pod in pods for status in pod["status"].get("containerStatuses", []))


def _evict(stack: Stack, pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{TEAM}/pods/{pod}/eviction"
    stack.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def _patch(stack: Stack, run: Run, patch: str) -> None:
    stack.kubectl("-n", TEAM, "patch", "modeloptimization", run.name, "--type=merge", "-p", patch)
