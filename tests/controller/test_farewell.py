"""A resource whose artifacts go with it, against a real API server: first what runs ends, then a Job cleans up."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_parts import (
    POLICY,
    SPEC,
    SYSTEM,
    Kubelet,
    Namespace,
    Operator,
    condition,
    eventually,
    result,
    run_of,
)  # fmt: skip

from cluster import ControlPlane
from strop_api.errands import ErrandRequest
from strop_api.result import REQUEST_ANNOTATION

pytestmark = pytest.mark.apiserver

GOING = {"uri": SPEC["output"]["uri"], "onDelete": "Delete"}
FINALIZER = "strop.dev/artifacts"
Node = dict[str, Any]


def finalizers(namespace: Namespace) -> list[str]:
    return list(namespace.get()["metadata"].get("finalizers", []))


def publish(namespace: Namespace, kubelet: Kubelet, **changes: Any) -> Node:
    """A resource whose artifacts go with it, published and its Job cleaned up."""
    made = namespace.create(output=GOING, **changes)
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Published")
    eventually("the run's Job is gone", lambda: not namespace.job_list())
    return made


def delete(namespace: Namespace) -> None:
    namespace.delete(f"{namespace.resources}/digits")


def clean_up(namespace: Namespace, but: tuple[str, ...] = ()) -> Node:
    """Wait for a clean-up's Job."""
    label = "strop.dev/errand"

    def ask() -> Node | None:
        found = [j for j in namespace.job_list() if j["metadata"]["labels"].get(label) == "CleanUp"]
        return next((j for j in found if j["metadata"]["name"] not in but), None)

    return eventually("a clean-up", ask)


def pod_of(namespace: Namespace, job: Node) -> Node:
    def ask() -> Node | None:
        owned = (
            p for p in namespace.pod_list() if p["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
        )
        return next(owned, None)

    return eventually("its pod", ask)


def answer(done: bool = True, message: str = "removed 3 objects") -> str:
    return json.dumps({"errand": "CleanUp", "done": done, "message": message})


def gone(namespace: Namespace) -> None:
    eventually("the resource is gone", lambda: not namespace.api.exists(f"{namespace.resources}/digits"))


def fail(namespace: Namespace, kubelet: Kubelet, job: Node, message: str) -> None:
    """The clean-up ends badly, and Kubernetes does not try it again."""
    namespace.api.merge(f"{namespace.jobs}/{job['metadata']['name']}", {"spec": {"backoffLimit": 0}})
    kubelet.ends(pod_of(namespace, job), 1, answer(False, message))


def test_by_default_artifacts_stay_and_nothing_holds_the_resource(namespace: Namespace, kubelet: Kubelet) -> None:
    """A finalizer that nobody asked for would make every deletion wait for the operator, and cost each run a write."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Published")
    assert finalizers(namespace) == []
    delete(namespace)
    gone(namespace)
    eventually("no Job of any kind", lambda: not namespace.job_list())


def test_artifacts_that_shall_go_are_removed_before_the_resource_is_gone(
    namespace: Namespace, kubelet: Kubelet
) -> None:
    """Otherwise whoever deletes a resource pays for its engines for ever."""
    made = publish(namespace, kubelet)
    assert finalizers(namespace) == [FINALIZER]
    delete(namespace)
    job = clean_up(namespace)
    assert "ownerReferences" not in job["metadata"]
    assert job["metadata"]["labels"]["strop.dev/optimization-uid"] == made["metadata"]["uid"]
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert job["spec"]["activeDeadlineSeconds"] > 0
    pod = job["spec"]["template"]
    request = ErrandRequest.model_validate_json(pod["metadata"]["annotations"][REQUEST_ANNOTATION])
    assert (request.uid, request.output_uri) == (made["metadata"]["uid"], SPEC["output"]["uri"])
    assert pod["spec"]["containers"][0]["command"] == ["strop", "errand"]
    status = namespace.reason("CleaningUp")
    assert condition(status, "Ready")["status"] == "False"
    assert finalizers(namespace) == [FINALIZER]
    kubelet.ends(pod_of(namespace, job), 0, answer())
    gone(namespace)
    assert [j["metadata"]["name"] for j in namespace.job_list()] == [job["metadata"]["name"]]


def test_nothing_is_cleaned_up_beside_a_pod_that_may_still_publish(namespace: Namespace, kubelet: Kubelet) -> None:
    """A run that ends after the clean-up would leave its artifacts to nobody."""
    namespace.create(output=GOING)
    pod = namespace.pod()
    kubelet.bind(pod)
    kubelet.runs(pod)
    namespace.reason("Running")
    delete(namespace)
    path = f"{namespace.pods}/{pod['metadata']['name']}"
    eventually("the pod is ending", lambda: "deletionTimestamp" in namespace.api.get(path)["metadata"])
    stopping = namespace.reason("Stopping")
    assert "clean-up" in condition(stopping, "Ready")["message"]
    assert not [j for j in namespace.job_list() if "strop.dev/errand" in j["metadata"]["labels"]]
    namespace.delete(path, {"gracePeriodSeconds": 0})
    kubelet.ends(pod_of(namespace, clean_up(namespace)), 0, answer())
    gone(namespace)


def test_what_was_published_before_somebody_asked_is_held_too(namespace: Namespace, kubelet: Kubelet) -> None:
    """`onDelete` starts no run, so that it would otherwise be heard only at the next."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Published")
    namespace.change(output=GOING)
    eventually("held", lambda: finalizers(namespace) == [FINALIZER])
    namespace.change(output=GOING | {"onDelete": "Retain"})
    delete(namespace)
    gone(namespace)
    assert not [j for j in namespace.job_list() if "strop.dev/errand" in j["metadata"]["labels"]]


def test_a_failed_clean_up_is_told_and_can_be_abandoned(namespace: Namespace, kubelet: Kubelet) -> None:
    """A bucket that is gone for good must not keep a resource, or its namespace, for ever."""
    publish(namespace, kubelet)
    delete(namespace)
    job = clean_up(namespace)
    namespace.reason("CleaningUp")
    fail(namespace, kubelet, job, "spec.storeRef.name: access denied\x1b[31m")
    status = namespace.reason("CleanUpFailed")
    message = condition(status, "Ready")["message"]
    assert "access denied" in message
    assert "\x1b" not in message
    assert "strop.dev/abandon-artifacts" in message
    assert finalizers(namespace) == [FINALIZER]
    path = f"{namespace.resources}/digits"
    namespace.api.merge(path, {"metadata": {"annotations": {"strop.dev/abandon-artifacts": "true"}}})
    gone(namespace)
    told = eventually("told", lambda: [e for e in namespace.event_list() if e["reason"] == "ArtifactsLeft"])
    assert SPEC["output"]["uri"] in told[0]["message"]
    assert [e["type"] for e in namespace.event_list() if e["reason"] == "CleanUpFailed"] == ["Warning"]


def test_a_clean_up_without_a_policy_waits_and_goes_on(namespace: Namespace, kubelet: Kubelet) -> None:
    """The policy names the store: an admin who replaces it must not thereby leave artifacts behind."""
    publish(namespace, kubelet)
    elsewhere = [POLICY["stores"][0] | {"name": "other"}]
    namespace.set_policy(stores=elsewhere)
    delete(namespace)
    namespace.reason("CleanUpFailed")
    namespace.api.merge(f"{namespace.policies}/default", {"spec": {"stores": POLICY["stores"]}})
    kubelet.ends(pod_of(namespace, clean_up(namespace)), 0, answer())
    gone(namespace)


def test_a_namespace_that_ends_is_not_held_up(namespace: Namespace, kubelet: Kubelet, plane: ControlPlane) -> None:
    """In it no Job can be made: a resource that waits for one would keep the namespace from ending."""
    publish(namespace, kubelet)
    uid = namespace.get()["metadata"]["uid"]
    namespace.delete(f"/api/v1/namespaces/{namespace.name}")
    ended = plane.api.get(f"/api/v1/namespaces/{namespace.name}")
    assert ended["status"]["phase"] == "Terminating"
    gone(namespace)
    events = f"/api/v1/namespaces/{SYSTEM}/events"

    def told() -> list[Node]:
        return [e for e in plane.api.get(events)["items"] if e["reason"] == "ArtifactsLeft" and uid in e["message"]]

    assert SPEC["output"]["uri"] in eventually("told at home", told)[0]["message"]


def test_a_killed_operator_cleans_up_once(namespace: Namespace, kubelet: Kubelet, operator: Operator) -> None:
    """It may die between any two writes of a farewell."""
    publish(namespace, kubelet)
    operator.stop(signal.SIGKILL)
    delete(namespace)
    operator.start()
    job = clean_up(namespace)
    operator.stop(signal.SIGKILL)
    kubelet.ends(pod_of(namespace, job), 0, answer())
    operator.start()
    gone(namespace)
    assert len(namespace.job_list()) == 1


@pytest.fixture
def alone(operator: Operator, operator_kubeconfig: Path, tmp_path: Path) -> Iterator[Operator]:
    """An operator that holds the Lease; the shared one, which needs none, is away."""
    operator.stop()
    made = Operator(operator_kubeconfig, tmp_path / "log")
    made.start()
    eventually("it leads", lambda: made.metric("strop_leader") == 1)
    yield made
    made.close()
    operator.start()


def test_uninstalling_strands_nothing(
    namespace: Namespace, kubelet: Kubelet, alone: Operator, operator_kubeconfig: Path
) -> None:
    """Whoever deletes a resource after the operator is gone would wait for it for ever."""
    publish(namespace, kubelet)
    command = [sys.executable, "-W", "error", "-m", "strop_operator.uninstall"]
    words = ["--kubeconfig", str(operator_kubeconfig), "--operator-namespace", SYSTEM]
    hurried = os.environ | {"STROP_UNINSTALL_WAIT_SECONDS": "1"}
    done = subprocess.run([*command, *words], env=hurried, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert SPEC["output"]["uri"] in done.stderr
    assert finalizers(namespace) == []
    assert alone.process is not None
    assert alone.process.wait(10) == 1, "the operator acts no more: it could set the finalizer again"
    delete(namespace)
    gone(namespace)
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/strop-operator"
    namespace.delete(lease)


def test_uninstalling_waits_for_what_is_being_cleaned_up(
    namespace: Namespace, kubelet: Kubelet, operator: Operator, operator_kubeconfig: Path
) -> None:
    """Half a deletion would leave artifacts that the user has asked to be rid of."""
    publish(namespace, kubelet)
    delete(namespace)
    job = clean_up(namespace)
    words = ["--kubeconfig", str(operator_kubeconfig), "--operator-namespace", SYSTEM]
    leaving = subprocess.Popen(
        [sys.executable, "-m", "strop_operator.uninstall", *words], stderr=subprocess.PIPE, text=True
    )
    assert leaving.stderr is not None
    assert any("waiting for" in line for line in leaving.stderr)
    assert finalizers(namespace) == [FINALIZER]
    kubelet.ends(pod_of(namespace, job), 0, answer())
    assert leaving.wait(60) == 0
    leaving.stderr.close()
    gone(namespace)
    namespace.delete(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/strop-operator")
