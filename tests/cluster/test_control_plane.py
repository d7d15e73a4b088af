"""The control plane that other tests stand on."""

from collections.abc import Iterator

import pytest

from cluster import ControlPlane
from cluster.api import Api, ApiError
from cluster.shell import wait_until

pytestmark = pytest.mark.apiserver

JOBS, PODS = "/apis/batch/v1/namespaces/default/jobs", "/api/v1/namespaces/default/pods"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


def config_map(name: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "data": {"key": "value"}}


def test_a_job_gets_its_pod(plane: ControlPlane) -> None:
    """Without the job controller the operator's Jobs would never have pods to observe."""
    container = {"name": "c", "image": "none"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    plane.api.post(JOBS, {"metadata": {"name": "made"}, "spec": {"template": template}})
    selected = f"{PODS}?labelSelector=job-name%3Dmade"
    wait_until("the Job's pod", lambda: plane.api.get(selected)["items"], 20)


def test_what_is_owned_goes_with_its_owner(plane: ControlPlane) -> None:
    """Without garbage collection a deleted resource's Jobs would live on."""
    owner = plane.api.post(CONFIG_MAPS, config_map("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    owned = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    plane.api.post(CONFIG_MAPS, owned)
    with plane.api.open(f"{CONFIG_MAPS}/owner", "DELETE"):
        wait_until("the owned object's end", lambda: not plane.api.exists(f"{CONFIG_MAPS}/owned"), 30)


def test_a_user_has_no_rights_that_are_not_bound(plane: ControlPlane) -> None:
    """A kubeconfig that were admin's in disguise would prove nothing about RBAC."""
    with pytest.raises(ApiError, match="403"):
        Api(plane.kubeconfig_for_user("jane", ["team/blue"])).get(PODS)


def test_a_service_account_acts_as_itself(plane: ControlPlane) -> None:
    """Tests of the chart's ClusterRole depend on the identity being the real one."""
    api = Api(plane.kubeconfig_for_service_account("default", "default"))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    who = api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"


def test_nothing_is_lost_when_etcd_and_the_api_server_are_killed(plane: ControlPlane) -> None:
    """Tests that kill the API server under the operator expect their objects to be there again."""
    plane.api.post(CONFIG_MAPS, config_map("kept"))
    for name in ("etcd", "apiserver"):
        plane.processes.restart(name, "KILL")
    plane.processes.await_ready("apiserver", plane.api.ready, 60)
    assert plane.api.get(f"{CONFIG_MAPS}/kept")["data"] == {"key": "value"}


def test_a_second_one_runs_beside_the_first_and_leaves_nothing(plane: ControlPlane) -> None:
    """Parallel test workers each have their own, and must not see each other's objects."""
    with ControlPlane() as second:
        second.api.post(CONFIG_MAPS, config_map("of-the-second"))
        assert not plane.api.exists(f"{CONFIG_MAPS}/of-the-second")
        records = [second.processes.record(name) for name in second.processes.names()]
    assert [record.alive for record in records if record] == [False, False, False]
    assert not second.directory.exists()
    assert plane.api.ready()
