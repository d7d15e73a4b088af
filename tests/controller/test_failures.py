"""Everything that goes wrong with a run, as the API server and the Job controller really show it."""

import json

import pytest
from cluster_parts import Kubelet, Namespace, Operator, condition, conditions, eventually, result, run_of

pytestmark = pytest.mark.apiserver

ENDINGS = [
    (10, "GateMissed", "GateMissed"),
    (11, "InvalidInput", "InvalidInput"),
    (13, "Unsupported", "Unsupported"),
    (14, "DiskFull", "DiskFull"),
    (15, "NotMeasured", "NotMeasured"),
]


@pytest.mark.parametrize(("code", "outcome", "reason"), ENDINGS)
def test_a_final_cause_ends_the_run_at_once_with_the_workers_words(
    namespace: Namespace, kubelet: Kubelet, code: int, outcome: str, reason: str
) -> None:
    """Three retries of a missed gate would cost three runs and tell nothing new."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, code, result(run_of(pod), outcome, message="what was wrong", field="spec.data"))
    status = namespace.reason(reason)
    assert conditions(status) == {"Ready": "False", "Stalled": "True"}
    assert condition(status, "Stalled")["message"] == "spec.data: what was wrong"
    assert "artifact" not in status["targets"][0]
    assert len(namespace.pod_list()) == 1
    events = eventually("a warning", lambda: [e for e in namespace.event_list() if e["type"] == "Warning"])
    assert [e["reason"] for e in events] == [reason]


def test_a_store_that_failed_is_tried_again_until_the_retries_are_used_up(
    namespace: Namespace, kubelet: Kubelet
) -> None:
    """A network that was away for a minute must not end a run; one that is gone must."""
    namespace.create(retries=1)
    pod = namespace.pod()
    kubelet.ends(pod, 12, result(run_of(pod), "StoreFailed", message="no route"))
    status = namespace.reason("Retrying")
    assert conditions(status) == {"Ready": "False", "Reconciling": "True"}
    second = namespace.pod(but=pod["metadata"]["name"], seconds=40)
    kubelet.ends(second, 12, result(run_of(second), "StoreFailed", message="still no route"))
    assert condition(namespace.reason("StoreFailed"), "Ready")["message"] == "still no route"


def test_a_worker_killed_for_memory_is_told_by_its_stage_and_limit(namespace: Namespace, kubelet: Kubelet) -> None:
    """Whoever reads it must know what to raise, and during what it died."""
    namespace.create()
    pod = namespace.pod()
    mark = json.dumps({"runId": run_of(pod), "stage": "int8", "at": "2026-01-01T00:00:00Z"})
    kubelet.ends(pod, 137, mark, "OOMKilled")
    message = condition(namespace.reason("OutOfMemory"), "Ready")["message"]
    assert "int8" in message
    assert "4Gi" in message
    assert "spec.worker.resources.limits.memory" in message


def test_a_disrupted_pod_is_replaced_and_costs_no_retry(namespace: Namespace, kubelet: Kubelet) -> None:
    """Spot nodes vanish; a run on them must still end."""
    namespace.create(retries=0)
    pod = namespace.pod()
    kubelet.disrupts(pod, "the node is drained")
    second = namespace.pod(but=pod["metadata"]["name"], seconds=40)
    kubelet.ends(second, 0, result(run_of(second)))
    namespace.reason("Published")


def test_a_worker_that_left_after_sigterm_is_replaced_and_costs_no_retry(
    namespace: Namespace, kubelet: Kubelet
) -> None:
    """The supervisor leaves with code 42 when its node is drained without a condition."""
    namespace.create(retries=0)
    pod = namespace.pod()
    kubelet.ends(pod, 42, result(run_of(pod), "Evicted"))
    namespace.reason("Retrying")
    namespace.pod(but=pod["metadata"]["name"], seconds=40)


def test_a_pod_evicted_for_storage_counts_as_a_retry(namespace: Namespace, kubelet: Kubelet) -> None:
    """It carries no DisruptionTarget; without its row it would read as an unforeseen failure."""
    namespace.create(retries=0)
    pod = namespace.pod()
    kubelet.ends(pod, 1, reason="Error")
    namespace.reason("WorkerFailed")
    namespace.create("other", retries=0, seed=1)
    pod = namespace.pod()
    kubelet._status(
        pod, {"phase": "Failed", "reason": "Evicted", "message": 'Usage of EmptyDir volume "scratch" exceeds'}
    )
    message = condition(namespace.reason("DiskFull", "other"), "Ready")["message"]
    assert "exceeds" in message


def test_the_deadline_ends_the_run(namespace: Namespace, kubelet: Kubelet) -> None:
    """A hung run must end by itself."""
    namespace.create(activeDeadlineSeconds=2)
    kubelet.runs(namespace.pod())
    status = namespace.reason("DeadlineExceeded")
    assert conditions(status) == {"Ready": "False", "Stalled": "True"}


def test_an_image_that_cannot_be_pulled_is_said_while_the_kubelet_keeps_trying(
    namespace: Namespace, kubelet: Kubelet
) -> None:
    """It would otherwise look like a slow start until the deadline."""
    namespace.create()
    kubelet.waits(namespace.pod(), "ImagePullBackOff", "not found")
    status = namespace.reason("ImagePullFailed")
    assert conditions(status) == {"Ready": "False", "Reconciling": "True"}
    assert "not found" in condition(status, "Ready")["message"]


def test_an_unschedulable_pod_is_told_in_the_schedulers_words(namespace: Namespace, kubelet: Kubelet) -> None:
    """Only the scheduler knows which resource or label no node has."""
    namespace.create()
    kubelet.unschedulable(namespace.pod(), "0/3 nodes: insufficient nvidia.com/gpu")
    message = condition(namespace.reason("Unschedulable"), "Ready")["message"]
    assert message == "0/3 nodes: insufficient nvidia.com/gpu"


def test_a_pod_refused_by_quota_is_told_in_the_api_servers_words(namespace: Namespace) -> None:
    """The Job exists and has no pod: only its Events say why."""
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    quotas = f"/api/v1/namespaces/{namespace.name}/resourcequotas"
    namespace.api.post(quotas, quota)
    # The quota controller does not run here; what it would have counted is written by hand.
    namespace.api.merge(f"{quotas}/none/status", {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}})
    namespace.create()
    assert "quota" in condition(namespace.reason("PodRefused", seconds=30), "Ready")["message"]


def test_a_worker_pod_passes_the_restricted_pod_security_standard(namespace: Namespace) -> None:
    """Namespaces that enforce it are the rule in the clusters we are for."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace.api.merge(f"/api/v1/namespaces/{namespace.name}", {"metadata": {"labels": label}})
    namespace.create()
    namespace.pod()


def test_a_lost_result_is_asked_for_again_under_the_same_run(namespace: Namespace, kubelet: Kubelet) -> None:
    """The operator was away and the pod is gone: the records answer in seconds, so asking again is cheap."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, "")
    again = namespace.pod(but=pod["metadata"]["name"])
    assert run_of(again) == run_of(pod)
    kubelet.ends(again, 0, result(run_of(again)))
    assert namespace.reason("Published")["run"]["attempt"] == 2


def test_the_lost_result_of_a_failed_job_is_asked_for_again_too(
    namespace: Namespace, kubelet: Kubelet, operator: Operator
) -> None:
    """A missed gate that nobody saw must not read as a worker that failed for no reason."""
    namespace.create()
    pod = namespace.pod()
    kubelet.runs(pod)
    namespace.reason("Running")
    operator.stop()
    kubelet.ends(pod, 10, result(run_of(pod), "GateMissed"))
    path = f"{namespace.pods}/{pod['metadata']['name']}"

    def ended() -> bool:
        return any(c["type"] == "Failed" for c in namespace.job()["status"].get("conditions", []))

    eventually("the Job has failed", ended)
    namespace.delete(path, {"gracePeriodSeconds": 0})
    eventually("the pod is gone", lambda: not namespace.api.exists(path))
    operator.start()
    again = namespace.pod()
    assert run_of(again) == run_of(pod)
    kubelet.ends(again, 10, result(run_of(again), "GateMissed"))
    assert namespace.reason("GateMissed")["run"]["lost"] == 1


@pytest.mark.parametrize(
    "said",
    [
        "<html><script>alert(1)</script>",
        '{"runId": 7}',
        "x" * 100_000,
        json.dumps({"runId": "0123456789", "outcome": "Published", "finishedAt": "2026-01-01T00:00:00Z"}),
        "\x00\x1b[31m",
    ],
    ids=["html", "wrong type", "huge", "other run", "control characters"],
)
def test_a_hostile_termination_message_is_not_a_result(namespace: Namespace, kubelet: Kubelet, said: str) -> None:
    """Nothing that a container writes may make a resource Ready, or break its status."""
    namespace.create(retries=0)
    pod = namespace.pod()
    kubelet.ends(pod, 1, said)
    status = namespace.reason("WorkerFailed")
    assert "html" not in json.dumps(status)
    assert "targets" not in status


@pytest.mark.parametrize(
    "changes",
    [{"outcome": "GateMissed"}, {"target": None}, {"target": {"name": "other", "verdict": "Published"}}],
    ids=["outcome", "no target", "another target"],
)
def test_a_result_that_contradicts_the_exit_code_never_makes_ready(
    namespace: Namespace, kubelet: Kubelet, changes: dict[str, object]
) -> None:
    """A status never says more than was measured."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod), **changes))
    status = namespace.reason("WorkerFailed")
    assert conditions(status) == {"Ready": "False", "Stalled": "True"}
    assert "targets" not in status


def test_a_job_of_our_name_that_is_anothers_is_left_alone(namespace: Namespace) -> None:
    """Deleting or adopting it would harm somebody else's work."""
    namespace.create(suspend=True)
    namespace.reason("Suspended")
    namespace.change(suspend=False)
    job = namespace.job()
    name = job["metadata"]["name"]
    namespace.reason("Launched")
    namespace.change(suspend=True)
    namespace.reason("Suspended")
    container = {"name": "c", "image": "i"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    namespace.api.post(namespace.jobs, {"metadata": {"name": name}, "spec": {"template": template, "suspend": True}})
    namespace.change(suspend=False)
    status = namespace.reason("NameConflict")
    assert conditions(status) == {"Ready": "False", "Stalled": "True"}
    assert "ownerReferences" not in namespace.job()["metadata"]
