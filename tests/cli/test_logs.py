"""`strop logs`: through the real API server to something that serves logs as a kubelet does."""

import pytest
from cluster_parts import eventually
from kubelet_parts import LogNode


@pytest.fixture
def node(plane):
    made = LogNode(plane)
    yield made
    made.close()


@pytest.fixture
def attempts(namespace, tell, plane):
    """Makes a resource's Job and pods, as the operator and the Job controller name them; the pods, oldest first."""

    def make(node, count=1, errand=False):
        uid = tell("Running")["metadata"]["uid"]
        namespace.account()
        labels = {"strop.dev/optimization-uid": uid} | ({"strop.dev/errand": "Drift"} if errand else {})
        container = {"name": "worker", "image": "registry.example.com/w:1"}
        template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
        metadata = {"generateName": "digits-", "labels": labels}
        job = namespace.api.post(
            namespace.jobs, {"metadata": metadata, "spec": {"suspend": True, "template": template}}
        )
        made = []
        for number in range(count):
            mine = labels | {"batch.kubernetes.io/controller-uid": job["metadata"]["uid"]}
            pod = {
                "metadata": {"name": f"{job['metadata']['name']}-{number}", "labels": mine},
                "spec": {"nodeName": node.name, "containers": [container]},
            }
            made.append(namespace.api.post(namespace.pods, pod))
        return made

    return make


def test_the_newest_attempt_is_followed_until_it_ends(strop, node, attempts, kubelet, capsys):
    """Broken, people would see nothing of a run of hours until it is over."""
    (pod,) = attempts(node)
    kubelet.runs(pod)
    name = pod["metadata"]["name"]
    node.say(name, "first", "second")
    node.hang_up(name)
    answer = strop("logs", "digits")
    assert (answer.code, answer.lines) == (0, ["first", "second"])
    assert name in answer.err
    assert node.asked[-1]["follow"] == ["true"]


def test_a_container_that_has_not_started_is_waited_for(strop, node, attempts, kubelet):
    """Broken, `kubectl apply && strop logs` would fail while the image is pulled."""
    (pod,) = attempts(node)
    kubelet.waits(pod, "ContainerCreating", "")
    going = strop.begin("logs", "digits")
    name = pod["metadata"]["name"]
    node.say(name, "at last")
    node.hang_up(name)
    assert not node.asked
    kubelet.runs(pod)
    assert going.end() == 0
    eventually("the log was asked for", lambda: node.asked)


def test_why_it_has_not_started_is_said(strop, node, attempts, kubelet):
    """Broken, the API server's own words would be all there is."""
    (pod,) = attempts(node)
    kubelet.waits(pod, "ErrImagePull", "no such image")
    answer = strop("logs", "digits", "--no-follow")
    assert answer.code == 3
    assert "has not started: ErrImagePull no such image" in answer.err


def test_earlier_attempts_are_read_on_demand(strop, node, attempts, kubelet):
    """Broken, why the first attempt failed would be hidden by the second."""
    first, second = attempts(node, 2)
    kubelet.ends(first, 12)
    kubelet.runs(second)
    node.say(first["metadata"]["name"], "it broke")
    answer = strop("logs", "digits", "--previous")
    assert answer.lines == ["it broke"]
    assert "follow" not in node.asked[-1]


def test_tail_since_and_timestamps_are_handed_on(strop, node, attempts, kubelet):
    """Broken, the options would be ignored."""
    (pod,) = attempts(node)
    kubelet.runs(pod)
    strop("logs", "digits", "--no-follow", "--tail", "5", "--since", "10m", "--timestamps")
    assert node.asked[-1]["tailLines"] == ["5"]
    assert node.asked[-1]["sinceSeconds"] == ["600"]
    assert node.asked[-1]["timestamps"] == ["true"]


def test_an_errands_job_is_no_attempt(strop, node, attempts):
    """Broken, the log of a look for drift would be taken for that of the run."""
    attempts(node, errand=True)
    assert "has no Job" in strop("logs", "digits").err


def test_a_job_that_is_gone_is_said_with_what_is_left(strop, tell):
    """Broken, people would look for a pod that went with its Job."""
    tell("Published")
    answer = strop("logs", "digits")
    assert answer.code == 3
    assert "strop report digits" in answer.err
