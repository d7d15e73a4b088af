"""What happens to the operator itself: killed, restarted, slow to learn, second in line, refused, racing."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from cluster_parts import OURS, SYSTEM, Kubelet, Namespace, Operator, condition, conditions, eventually, result, run_of

from cluster import ControlPlane

pytestmark = pytest.mark.apiserver
BECOME_NOBODY = "import os; os.setgroups([]); os.setgid(54321); os.setuid(54321)"


def readable_by_all(kubeconfig: Path, folder: Path) -> Path:
    """A copy with its certificate, for a process of another user."""
    document = yaml.safe_load(kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    ca, copy = folder / "ca.crt", folder / "kubeconfig"
    ca.write_bytes(Path(cluster["certificate-authority"]).read_bytes())
    copy.write_text(yaml.safe_dump(document).replace(cluster["certificate-authority"], str(ca)))
    for path, mode in ((folder, 0o755), (ca, 0o644), (copy, 0o644)):
        path.chmod(mode)
    return copy


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
            assert line.startswith("strop_modeloptimization_")


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
        eventually("the second is ready", lambda: second.get("/readyz")[0] == 200)
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


def test_an_api_server_that_is_away_makes_no_operator_unhealthy(
    plane: ControlPlane, operator: Operator, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    """The kubelet would restart what waits rightly, and each restart would make the wait longer."""
    late = Operator(operator_kubeconfig, tmp_path / "log", "--namespaces", Namespace(plane.api).name)
    plane.processes.stop("apiserver", "KILL")
    try:
        late.start()
        eventually("the late one serves its health", lambda: late.get("/healthz")[0] == 200)
        assert late.get("/healthz")[0] == operator.get("/healthz")[0] == operator.get("/readyz")[0] == 200
        # It has not shown yet that it could stand in for another: a rollout must not go on because of it.
        assert late.get("/readyz")[0] == 503
        assert late.metric("strop_leader") == 0
    finally:
        plane.processes.start_again("apiserver")
        eventually("the API server is back", plane.api.ready, 60)
    try:
        eventually("the late one leads", lambda: late.metric("strop_leader") == 1)
        eventually("the late one is ready", lambda: late.get("/readyz")[0] == 200)
        assert late.stop(signal.SIGTERM) == 0
    finally:
        print(late.log)
        late.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_can_run_the_operator(
    namespace: Namespace, operator: Operator, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    """OpenShift gives each namespace uids that no passwd knows."""
    operator.stop()
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = readable_by_all(operator_kubeconfig, Path(folder))
        nameless = Operator(kubeconfig, tmp_path / "log", "--no-lease", "--namespaces", namespace.name)
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            nameless.environment.pop(name, None)
        # Imported before, for the checkout may be closed to others.
        nameless.program = ["-c", f"from strop_operator.__main__ import main; {BECOME_NOBODY}; main()"]
        try:
            nameless.start()
            namespace.create(suspend=True)
            namespace.reason("Suspended")
        finally:
            print(nameless.log)
            nameless.close()


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
