"""A run from its creation to what becomes of it, against a real API server and Job controller."""

import pytest
from cluster_parts import SPEC, Kubelet, Namespace, Operator, condition, conditions, eventually, result, run_of

pytestmark = pytest.mark.apiserver


def test_a_run_is_launched_watched_and_published(namespace: Namespace, kubelet: Kubelet, operator: Operator) -> None:
    """The whole way of a good run: without it nothing else matters."""
    namespace.create()
    launched = namespace.reason("Launched")
    assert conditions(launched) == {"Ready": "False", "Reconciling": "True"}
    pod = namespace.pod()
    kubelet.runs(pod)
    assert namespace.reason("Running")["phase"] == "Running"
    kubelet.ends(pod, 0, result(run_of(pod)))
    status = namespace.reason("Published")
    assert conditions(status) == {"Ready": "True"}
    assert status["targets"][0]["artifact"]["uri"].startswith("s3://engines/digits/")
    assert status["summary"] == {"speedup": "2.31x", "drop": "0.50"}
    assert status["run"]["finishedAt"]
    assert status["observedGeneration"] == 1
    eventually("the Job is cleaned up", lambda: not namespace.job_list())
    reasons = eventually("two events", lambda: len(namespace.event_list()) >= 2 and namespace.event_list())
    assert sorted(e["reason"] for e in reasons) == ["Launched", "Published"]
    assert namespace.reason("Published")["run"] == status["run"]


def test_nothing_is_written_while_nothing_changes(namespace: Namespace, kubelet: Kubelet, operator: Operator) -> None:
    """A reconcile that writes each time would wake itself for ever."""
    namespace.create()
    pod = namespace.pod()
    kubelet.runs(pod)
    version = eventually(
        "Running", lambda: namespace.reason("Running") and namespace.get()["metadata"]["resourceVersion"]
    )
    done = operator.metric("strop_reconcile_duration_seconds_count")
    for number in range(3):
        path = f"{namespace.pods}/{pod['metadata']['name']}"
        namespace.api.merge(path, {"metadata": {"annotations": {"touched": str(number)}}})
    eventually("reconciled", lambda: operator.metric("strop_reconcile_duration_seconds_count") > done)
    assert namespace.get()["metadata"]["resourceVersion"] == version


def test_a_changed_spec_stops_the_former_run_before_the_next_starts(namespace: Namespace, kubelet: Kubelet) -> None:
    """Two runs at once would race for the published pointer and for the accelerator."""
    namespace.create()
    former = namespace.pod()
    kubelet.bind(former)
    kubelet.runs(former)
    namespace.reason("Running")
    namespace.change(seed=7)
    namespace.reason("Stopping")
    path = f"{namespace.pods}/{former['metadata']['name']}"
    eventually("the former pod is ending", lambda: "deletionTimestamp" in namespace.api.get(path)["metadata"])
    eventually("the former Job is gone", lambda: not namespace.job_list())
    assert [p["metadata"]["name"] for p in namespace.pod_list()] == [former["metadata"]["name"]]
    namespace.delete(path, {"gracePeriodSeconds": 0})
    successor = namespace.pod()
    assert run_of(successor) != run_of(former)
    kubelet.runs(successor)
    assert namespace.reason("Running")["run"]["id"] == run_of(successor)


def test_a_finished_run_stands_in_the_history_of_the_next(namespace: Namespace, kubelet: Kubelet) -> None:
    """Somebody who tries settings wants to see what the last ones gave; nothing of it may look like the new run's."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    first = namespace.reason("Published")
    namespace.change(seed=8)
    status = namespace.reason("Launched")
    assert "targets" not in status
    assert status["runs"] == [
        {
            "id": first["run"]["id"],
            "reason": "Published",
            "finishedAt": first["run"]["finishedAt"],
            "report": first["report"],
        }
    ]


def test_a_change_that_decides_nothing_starts_nothing(namespace: Namespace, kubelet: Kubelet) -> None:
    """Raising the retries of a published resource must not run it again."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    first = namespace.reason("Published")
    namespace.change(retries=7)
    status = eventually("seen", lambda: (s := namespace.get()["status"])["observedGeneration"] == 2 and s)
    assert status["run"] == first["run"] | {"observedGeneration": 2}
    assert conditions(status) == {"Ready": "True"}
    assert condition(status, "Ready")["observedGeneration"] == 2


def test_suspending_stops_the_pod_and_resuming_runs_the_same_run(namespace: Namespace, kubelet: Kubelet) -> None:
    """A paused resource must hold no accelerator, and its records must serve when it goes on."""
    namespace.create()
    pod = namespace.pod()
    kubelet.runs(pod)
    namespace.reason("Running")
    namespace.change(suspend=True)
    suspended = namespace.reason("Suspended")
    assert conditions(suspended) == {"Ready": "False"}
    assert not namespace.job_list()
    assert not namespace.pod_list()
    namespace.change(suspend=False)
    again = namespace.pod()
    assert run_of(again) == run_of(pod)
    kubelet.ends(again, 0, result(run_of(again)))
    assert namespace.reason("Published")["run"]["attempt"] == 2


def test_a_resource_created_suspended_starts_nothing(namespace: Namespace) -> None:
    """Queues of prepared work are laid out suspended."""
    namespace.create(suspend=True)
    namespace.reason("Suspended")
    assert not namespace.job_list()


def test_a_job_deleted_by_hand_is_launched_again(namespace: Namespace, kubelet: Kubelet) -> None:
    """A run would otherwise wait for ever for a Job that is no more."""
    namespace.create()
    job = namespace.job()
    namespace.reason("Launched")
    options = {"propagationPolicy": "Background"}
    namespace.delete(f"{namespace.jobs}/{job['metadata']['name']}", options)

    def next_job() -> bool:
        return [j["metadata"]["uid"] for j in namespace.job_list()] not in ([], [job["metadata"]["uid"]])

    eventually("another Job", next_job)
    assert namespace.job()["metadata"]["name"] == job["metadata"]["name"]
    eventually("the second attempt", lambda: namespace.get()["status"]["run"]["attempt"] == 2)


def test_a_rerun_annotation_runs_a_settled_resource_again_once(namespace: Namespace, kubelet: Kubelet) -> None:
    """It is the only way to ask again for what was done."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    first = namespace.reason("Published")["run"]["id"]
    eventually("cleaned up", lambda: not namespace.job_list())
    path = f"{namespace.resources}/digits"
    namespace.api.merge(path, {"metadata": {"annotations": {"strop.dev/rerun": "today"}}})
    pod = eventually("a pod of another run", lambda: (p := namespace.pod()) and run_of(p) != first and p)
    kubelet.ends(pod, 0, result(run_of(pod)))

    def settled() -> bool:
        run = namespace.reason("Published")["run"]
        return run["rerun"] == "today" and "finishedAt" in run

    eventually("settled", settled)
    eventually("cleaned up again", lambda: not namespace.job_list())
    again = namespace.get()["status"]["run"]
    for token in (None, "today"):
        namespace.api.merge(path, {"metadata": {"annotations": {"strop.dev/rerun": token}}})
        namespace.api.merge(path, {"spec": {"retries": 5 if token else 6}})
        generation = namespace.get()["metadata"]["generation"]

        def noticed(generation: int = generation) -> bool:
            return bool(namespace.get()["status"]["observedGeneration"] == generation)

        eventually("noticed", noticed)
        assert namespace.get()["status"]["run"] == again | {"observedGeneration": generation}
        assert not namespace.job_list()


def test_only_so_many_former_runs_are_remembered_newest_first(namespace: Namespace, kubelet: Kubelet) -> None:
    """Somebody who tries a hundred settings would otherwise fill etcd."""
    namespace.create(runsHistoryLimit=2)
    ended: list[str] = []
    for seed in range(1, 5):
        pod = eventually("a pod of another run", lambda: (p := namespace.pod()) and run_of(p) not in ended and p)
        kubelet.ends(pod, 0, result(run_of(pod)))
        namespace.reason("Published")
        assert [past["id"] for past in namespace.get()["status"].get("runs", [])] == ended[-1:-3:-1]
        ended.append(run_of(pod))
        eventually("cleaned up", lambda: not namespace.job_list())
        namespace.change(seed=seed, **({"runsHistoryLimit": 0} if seed == 4 else {}))
    pod = eventually("the last pod", lambda: (p := namespace.pod()) and run_of(p) not in ended and p)
    kubelet.runs(pod)
    assert "runs" not in namespace.reason("Running")


@pytest.mark.parametrize("phase", ["launched", "running", "published"])
@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_deleting_a_resource_takes_its_job_and_pod_along(
    namespace: Namespace, kubelet: Kubelet, operator: Operator, phase: str, policy: str
) -> None:
    """An accelerator would be paid for on behalf of nobody."""
    namespace.create(ttlSecondsAfterFinished=1000)
    pod = namespace.pod()
    if phase == "running":
        kubelet.runs(pod)
        namespace.reason("Running")
    if phase == "published":
        kubelet.ends(pod, 0, result(run_of(pod)))
        namespace.reason("Published")
    namespace.delete(f"{namespace.resources}/digits", {"propagationPolicy": policy})
    eventually("nothing is left", lambda: not namespace.job_list() and not namespace.pod_list())
    eventually("the resource is gone", lambda: not namespace.api.exists(f"{namespace.resources}/digits"))
    labels = {"namespace": namespace.name, "name": "digits"}
    eventually("its gauge is gone", lambda: operator.metric("strop_modeloptimization_info", **labels) == 0)


def test_the_finished_job_stays_as_long_as_its_ttl_says(namespace: Namespace, kubelet: Kubelet) -> None:
    """Its log is read before it goes."""
    namespace.create(ttlSecondsAfterFinished=3)
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Published")
    assert namespace.job_list()
    eventually("the Job goes", lambda: not namespace.job_list())


def test_another_place_is_waited_for_when_the_policy_allows_one_run(namespace: Namespace, kubelet: Kubelet) -> None:
    """A namespace must not take more of the cluster than it was given."""
    namespace.set_policy(limits={"concurrentRuns": 1})
    namespace.create("one")
    pod = namespace.pod()
    namespace.create("two")
    namespace.reason("Queued", "two")
    assert len(namespace.job_list()) == 1
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Launched", "two")


def test_places_are_given_in_the_order_of_the_waiting(namespace: Namespace, kubelet: Kubelet) -> None:
    """Whoever asks more often must not overtake whoever asked first."""
    namespace.set_policy(limits={"concurrentRuns": 1})
    namespace.create("one")
    pod = namespace.pod()
    for name in ("two", "three"):
        namespace.create(name)
        namespace.reason("Queued", name)
    namespace.change("three", retries=1)
    for name in ("two", "three"):
        kubelet.ends(pod, 0, result(run_of(pod)))
        namespace.reason("Launched", name)
        pod = namespace.pod(but=pod["metadata"]["name"])
        assert pod["metadata"]["labels"]["strop.dev/optimization"] == name


def test_a_refused_change_that_is_taken_back_leaves_the_published_result(
    namespace: Namespace, kubelet: Kubelet
) -> None:
    """Otherwise a typo in a GitOps repository would need a new run to mend."""
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    first = namespace.reason("Published")
    eventually("cleaned up", lambda: not namespace.job_list())
    namespace.change(output={"uri": "s3://elsewhere/digits"})
    assert conditions(namespace.reason("NotAllowed")) == {"Ready": "False", "Stalled": "True"}
    namespace.change(output=SPEC["output"])
    again = namespace.reason("Published")
    assert conditions(again) == {"Ready": "True"}
    assert again["targets"] == first["targets"]
    assert not namespace.job_list()


def test_a_queue_name_makes_a_suspended_job_with_its_label(namespace: Namespace) -> None:
    """Kueue alone may start such a Job."""
    namespace.set_policy(allow={"queues": ["research"]})
    namespace.create(worker={"queueName": "research"})
    job = namespace.job()
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    namespace.reason("Queued")
    namespace.api.merge(f"{namespace.jobs}/{job['metadata']['name']}", {"spec": {"suspend": False}})
    namespace.pod()
    namespace.reason("Launched")
    assert namespace.job()["spec"]["suspend"] is False
