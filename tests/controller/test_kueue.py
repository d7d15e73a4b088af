"""A replay of what Kueue v1beta2 does to a Job, on a real API server and Job controller; Kueue itself is not here.

Replayed as it was seen: the Job is made suspended with the queue's label; admission sets nodeSelector and labels in its
template and lets it run; preemption suspends it again, resets its start and its template, and its pod ends Failed
without the condition DisruptionTarget; Kueue speaks by Events of the Job and of the Workload that it makes of it.
"""

import itertools
from typing import Any

import pytest
from cluster_parts import Kubelet, Namespace, Operator, condition, eventually, result, run_of
from facts_parts import job, pod, seen

from cluster.api import ApiError
from strop_api.reasons import Reason
from strop_operator.decide import decide
from strop_operator.events import by_kueue, workload

Node = dict[str, Any]
WORKLOAD = "job-digits-d2369"
FULL = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor a100, 1 more"
PREEMPTED = "Preempted to accommodate a workload (UID: 5c, JobUID: 7e) due to prioritization in the ClusterQueue"


class Kueue:
    """Plays Kueue's controller for one namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._space = namespace
        self._seconds = itertools.count()

    def says(self, about: Node, reason: str, message: str) -> None:
        """An Event, later than those before it."""
        at = f"2026-01-01T00:00:{next(self._seconds):02}Z"
        event = {
            "metadata": {"generateName": "kueue-"},
            "involvedObject": about | {"namespace": self._space.name},
            "type": "Normal",
            "reason": reason,
            "message": message,
            "source": {"component": "batch/job-kueue-controller"},
            "firstTimestamp": at,
            "lastTimestamp": at,
        }
        self._space.api.post(self._space.events, event)

    def takes(self, made: Node) -> None:
        """Makes a Workload of the Job, for which there is no room."""
        self.says(_about(made), "CreatedWorkload", f"Created Workload: {self._space.name}/{WORKLOAD}")
        kind = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload", "name": WORKLOAD}
        self.says(kind, "Pending", FULL)

    def admits(self, made: Node, flavor: str) -> None:
        """In one request, as Kueue does."""
        labels = {"kueue.x-k8s.io/podset": "main"}
        template = {"metadata": {"labels": labels}, "spec": {"nodeSelector": {"cloud/accelerator": flavor}}}
        self._patch(made, {"suspend": False, "template": template})
        self.says(_about(made), "Started", "Admitted by clusterQueue gpus")

    def preempts(self, made: Node) -> None:
        """Suspends; once its pods are gone the start is reset, and the template becomes what it was."""
        self._patch(made, {"suspend": True})
        self.says(_about(made), "Stopped", PREEMPTED)

    def restores(self, made: Node) -> None:
        path = f"{self._space.jobs}/{made['metadata']['name']}"
        self._space.api.merge(f"{path}/status", {"status": {"startTime": None}})
        template = {"metadata": {"labels": {"kueue.x-k8s.io/podset": None}}}
        self._patch(made, {"template": template | {"spec": {"nodeSelector": {"cloud/accelerator": None}}}})

    def _patch(self, made: Node, spec: Node) -> None:
        self._space.api.merge(f"{self._space.jobs}/{made['metadata']['name']}", {"spec": spec})


def _about(made: Node) -> Node:
    meta = made["metadata"]
    return {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}


def queued(namespace: Namespace, words: str) -> Node:
    """Wait until the status says Queued with these words."""

    def ask() -> Node | None:
        status: Node = namespace.get()["status"]
        ready = condition(status, "Ready")
        assert ready["reason"] == "Queued", ready
        assert words in ready["message"], ready
        return status

    return eventually(f"Queued: {words}", ask, 40)


@pytest.fixture
def kueue(namespace: Namespace) -> Kueue:
    namespace.set_policy(allow={"queues": ["research"], "priorityClasses": ["high"]})
    return Kueue(namespace)


@pytest.mark.apiserver
def test_a_run_waits_is_admitted_preempted_and_resumed(
    namespace: Namespace, kubelet: Kubelet, operator: Operator, kueue: Kueue
) -> None:
    """A queue that takes a GPU back must neither cost a retry nor start the run anew."""
    namespace.create(worker={"queueName": "research"}, retries=0)
    made = namespace.job()
    assert made["spec"]["suspend"] is True
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    queued(namespace, "suspended")
    assert not namespace.pod_list()
    kueue.takes(made)
    queued(namespace, FULL)

    kueue.admits(made, "a100")
    first = namespace.pod()
    assert first["spec"]["nodeSelector"]["cloud/accelerator"] == "a100"
    kubelet.bind(first)
    kubelet.runs(first)
    namespace.reason("Running")

    kueue.preempts(made)
    path = f"{namespace.pods}/{first['metadata']['name']}"
    eventually("its pod is ending", lambda: "deletionTimestamp" in namespace.api.get(path)["metadata"])
    queued(namespace, "its pod is ending")
    kubelet.ends(first, 143)
    namespace.delete(path, {"gracePeriodSeconds": 0})
    status = queued(namespace, PREEMPTED)
    assert "failures" not in status["run"] or status["run"]["failures"] == 0
    assert not namespace.job_list()[0]["status"].get("failed")
    kueue.restores(made)

    kueue.admits(made, "h100")
    second = namespace.pod(but=first["metadata"]["name"])
    assert second["spec"]["nodeSelector"]["cloud/accelerator"] == "h100"
    assert run_of(second) == run_of(first)
    kubelet.ends(second, 0, result(run_of(second)))
    run = namespace.reason("Published")["run"]
    assert (run["id"], run["attempt"]) == (run_of(first), 1)


@pytest.mark.apiserver
def test_a_job_that_kueue_holds_is_never_written_to(namespace: Namespace, operator: Operator, kueue: Kueue) -> None:
    """Kueue owns `suspend` and the template: whoever applies the Job again would undo an admission."""
    namespace.create(worker={"queueName": "research"})
    made = namespace.job()
    kueue.admits(made, "a100")
    namespace.pod()
    namespace.reason("Launched")
    (there,) = namespace.job_list()
    assert there["spec"]["suspend"] is False
    assert there["spec"]["template"]["spec"]["nodeSelector"]["cloud/accelerator"] == "a100"
    managers = {entry["manager"] for entry in there["metadata"]["managedFields"] if not entry.get("subresource")}
    assert "strop-operator" in managers
    ours = [e for e in there["metadata"]["managedFields"] if e["manager"] == "strop-operator"]
    assert [e["operation"] for e in ours] == ["Update"], "made once, and left alone"
    elsewhere = {"spec": {"template": {"spec": {"nodeSelector": {"cloud/accelerator": "none"}}}}}
    with pytest.raises(ApiError, match="immutable"):
        namespace.api.merge(f"{namespace.jobs}/{made['metadata']['name']}", elsewhere)


@pytest.mark.apiserver
def test_pausing_and_deleting_reach_a_job_that_waits_in_a_queue(
    namespace: Namespace, operator: Operator, kueue: Kueue
) -> None:
    """It would else be admitted one day, for nobody."""
    namespace.create(worker={"queueName": "research"})
    namespace.reason("Queued")
    namespace.change(suspend=True)
    namespace.reason("Suspended")
    assert not namespace.job_list()
    namespace.change(suspend=False)
    namespace.reason("Queued")
    namespace.delete(f"{namespace.resources}/digits")
    eventually("its Job is gone", lambda: not namespace.job_list())


def test_a_pod_that_ends_because_of_the_queue_uses_up_no_retry() -> None:
    """Kubernetes does not count it; to count it here would end a run that was taken back often enough."""
    ended = pod(phase="Failed", exit_code=143, exit_reason="Error", deleting=True)
    held = seen(jobs=(job(suspended=True),), pods=(ended,))
    assert held.spent.failures == 0
    assert decide(held).reason is Reason.QUEUED


def test_only_kueues_own_words_are_told() -> None:
    """Kubernetes says of the same Job that it is suspended, which is no reason."""
    plain = {"involvedObject": {"kind": "Job"}, "source": {"component": "job-controller"}, "reason": "Suspended"}
    assert not by_kueue(plain)
    assert by_kueue({"involvedObject": {"kind": "Workload"}, "reportingComponent": "kueue-scheduler"})
    assert workload([plain]) == ""
    assert workload([{"reason": "CreatedWorkload", "message": f"Created Workload: team/{WORKLOAD}"}]) == WORKLOAD
    assert workload([{"reason": "CreatedWorkload", "message": "Created Workload: ../../x"}]) == ""
