"""What happens to the operator itself: killed, restarted, slow to learn, second in line, refused, racing."""

import signal
import subprocess
from pathlib import Path

import pytest
from cluster_parts import OURS, SYSTEM, Kubelet, Namespace, Operator, condition, conditions, eventually, result, run_of

from cluster import ControlPlane

pytestmark = pytest.mark.apiserver


def test_an_operator_that_was_killed_goes_on_and_starts_nothing_twice(
    namespace: Namespace, kubelet: Kubelet, operator: Operator
) -> None:
    """Any process may be killed at any moment: nothing is lost, nothing runs twice."""
    names = [f"m{number}" for number in range(8)]
    for number, name in enumerate(names):
        namespace.create(name, seed=number)
    eventually("eight pods", lambda: len(namespace.pod_list()) == 8)
    uids = {job["metadata"]["uid"] for job in namespace.job_list()}
    pods = namespace.pod_list()
    operator.stop(signal.SIGKILL)
    for pod in pods[:4]:
        kubelet.ends(pod, 0, result(run_of(pod)))
    for pod in pods[4:]:
        kubelet.runs(pod)
    operator.start()
    published = {pod["metadata"]["labels"]["strop.dev/optimization"] for pod in pods[:4]}
    for name in names:
        status = namespace.reason("Published" if name in published else "Running", name)
        assert status["run"]["attempt"] == 1
    assert {job["metadata"]["uid"] for job in namespace.job_list()} <= uids
    assert {pod["metadata"]["uid"] for pod in namespace.pod_list()} <= {pod["metadata"]["uid"] for pod in pods}


def test_a_job_that_no_status_tells_of_is_adopted_after_a_crash(
    namespace: Namespace, kubelet: Kubelet, operator: Operator
) -> None:
    """Between the Job's creation and the status patch the operator may die."""
    namespace.create()
    pod = namespace.pod()
    kubelet.runs(pod)
    before = namespace.reason("Running")["run"]
    operator.stop(signal.SIGKILL)
    empty = {"run": None, "conditions": None, "phase": None, "observedGeneration": -1}
    namespace.api.merge(f"{namespace.resources}/digits/status", {"status": empty})
    operator.start()
    assert namespace.reason("Running")["run"] == before
    assert len(namespace.job_list()) == 1


def test_a_spec_changed_while_nobody_looked_still_runs_one_at_a_time(
    namespace: Namespace, kubelet: Kubelet, operator: Operator
) -> None:
    """After a restart resources may be listed before Jobs: a Job that is not known yet is not gone."""
    namespace.create()
    pod = namespace.pod()
    kubelet.bind(pod)
    kubelet.runs(pod)
    namespace.reason("Running")
    operator.stop(signal.SIGKILL)
    namespace.change(seed=3)
    operator.start()
    namespace.reason("Stopping")
    assert len(namespace.pod_list()) == 1
    namespace.delete(f"{namespace.pods}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
    assert run_of(namespace.pod()) != run_of(pod)


def test_a_storm_of_edits_ends_in_the_right_status(namespace: Namespace, kubelet: Kubelet) -> None:
    """Every 409 must lead to a fresh look, never to a lost or a stale status."""
    namespace.create()
    pod = namespace.pod()
    path = f"{namespace.resources}/digits"
    for number in range(60):
        namespace.api.merge(path, {"metadata": {"annotations": {"edit": str(number)}}})
        if number == 20:
            kubelet.runs(pod)
        if number == 40:
            kubelet.ends(pod, 0, result(run_of(pod)))
    status = namespace.reason("Published")
    assert conditions(status) == {"Ready": "True"}
    assert status["run"]["attempt"] == 1


def test_the_operator_tells_its_health_and_leaves_at_sigterm(operator: Operator, namespace: Namespace) -> None:
    """The kubelet restarts what is stuck; a rollout waits for what does not leave."""
    assert operator.get("/healthz") == (200, "ok")
    for resource in ("modeloptimizations", "optimizationpolicies", "jobs", "pods"):
        assert operator.metric("strop_watch_age_seconds", resource=resource) < 420
    assert operator.metric("strop_reconcile_errors_total", kind="bug") == 0
    assert operator.stop(signal.SIGTERM) == 0


def test_no_object_is_named_by_a_counter(namespace: Namespace, kubelet: Kubelet, operator: Operator) -> None:
    """Labels that grow with the number of runs end in a Prometheus that does not."""
    namespace.create("uniquely-named")
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Published", "uniquely-named")
    runs = {"runtime": "ONNXRuntime", "outcome": "Published"}
    eventually("counted", lambda: operator.metric("strop_runs_total", **runs) >= 1)
    for line in operator.get("/metrics")[1].splitlines():
        if "uniquely-named" in line:
            assert line.startswith(("strop_modeloptimization_info{", "strop_modeloptimization_ready{"))


def test_without_a_policy_nothing_is_launched_until_there_is_one(
    plane: ControlPlane, namespace: Namespace, operator: Operator
) -> None:
    """What admins did not allow must not run; what they allow later must run by itself."""
    namespace.delete(f"{OURS}/{SYSTEM}/optimizationpolicies/default")
    try:
        namespace.create()
        assert conditions(namespace.reason("NoPolicy")) == {"Ready": "False", "Stalled": "True"}
    finally:
        Namespace(plane.api, SYSTEM).set_policy()
    namespace.reason("Launched")


def test_a_changed_policy_lets_a_refused_resource_go_on(namespace: Namespace) -> None:
    """Nobody should have to touch the resource when the admin mends the policy."""
    namespace.set_policy(limits={"activeDeadlineSeconds": 60})
    namespace.create()
    message = condition(namespace.reason("NotAllowed"), "Ready")["message"]
    assert message == "spec.activeDeadlineSeconds: 21600; the policy allows 60"
    namespace.api.merge(f"{namespace.policies}/default", {"spec": {"limits": {"activeDeadlineSeconds": 90000}}})
    namespace.reason("Launched")


def test_a_policy_that_tightens_does_not_touch_what_runs_or_was_published(
    namespace: Namespace, kubelet: Kubelet
) -> None:
    """A grant is given at launch."""
    namespace.set_policy()
    namespace.create("runs")
    pod = namespace.pod()
    kubelet.runs(pod)
    namespace.reason("Running", "runs")
    namespace.api.merge(f"{namespace.policies}/default", {"spec": {"limits": {"activeDeadlineSeconds": 60}}})
    namespace.create("refused", seed=1)
    namespace.reason("NotAllowed", "refused")
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Published", "runs")


def test_a_second_operator_waits_and_takes_over_when_the_first_leaves(
    plane: ControlPlane, operator: Operator, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    """Two replicas must not both act, and the second must not wait for an expiry when the first says goodbye."""
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/strop-operator"
    quiet = Namespace(plane.api).name
    first, second = (Operator(operator_kubeconfig, tmp_path / name, "--namespaces", quiet) for name in "ab")
    try:
        first.start()
        eventually("the first leads", lambda: first.metric("strop_leader") == 1)
        second.start()
        eventually("the second serves its health", lambda: second.get("/healthz")[0] == 200)
        assert second.metric("strop_leader") == 0
        assert first.stop(signal.SIGTERM) == 0
        eventually("the second leads", lambda: second.metric("strop_leader") == 1)
        thief = {"holderIdentity": "thief", "renewTime": "2099-01-01T00:00:00.000000Z"}
        plane.api.merge(lease, {"spec": thief})
        process = second.process
        assert isinstance(process, subprocess.Popen)
        assert process.wait(25) == 1
    finally:
        print(first.log, second.log)
        first.close()
        second.close()
        plane.api.merge(lease, {"spec": {"holderIdentity": ""}})


def test_an_api_server_that_was_killed_is_found_again(
    plane: ControlPlane, namespace: Namespace, kubelet: Kubelet, operator: Operator
) -> None:
    """Watches break, and a deletion in between is told by nobody: both must heal by themselves."""
    namespace.create()
    namespace.create("deleted", seed=1)
    pods = eventually("two pods", lambda: len(p := namespace.pod_list()) == 2 and p)
    mine = next(p for p in pods if p["metadata"]["labels"]["strop.dev/optimization"] == "digits")
    plane.processes.restart("apiserver", "KILL")
    eventually("the API server is back", plane.api.ready, 60)
    namespace.delete(f"{namespace.resources}/deleted", {"propagationPolicy": "Background"})
    eventually("ended", lambda: kubelet.ends(mine, 0, result(run_of(mine))) or True)
    assert namespace.reason("Published", seconds=60)["run"]["attempt"] == 1
    labels = {"namespace": namespace.name, "name": "deleted"}
    eventually("forgotten", lambda: operator.metric("strop_modeloptimization_info", **labels) == 0, 60)
    assert operator.metric("strop_reconcile_errors_total", kind="bug") == 0


def test_an_operator_of_some_namespaces_serves_only_those_and_knows_the_fallback_policy(
    plane: ControlPlane, namespace: Namespace, operator: Operator, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    """In a shared cluster it has rights nowhere else."""
    operator.stop()
    other = Namespace(plane.api)
    narrow = Operator(operator_kubeconfig, tmp_path / "log", "--no-lease", "--namespaces", namespace.name)
    try:
        narrow.start()
        other.create()
        namespace.create()
        namespace.reason("Launched")
        assert not other.job_list()
    finally:
        print(narrow.log)
        narrow.close()
