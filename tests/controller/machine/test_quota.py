"""A namespace whose ResourceQuota is used up: what waits says why, asks seldom, and goes on when there is room."""

import json
import time
from typing import Any

import pytest
from cluster_parts import SPEC, Kubelet, Namespace, Operator, condition, eventually, result, run_of

from cluster import ControlPlane

from .proxy import Proxy

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
WATCHED_SECONDS = 20.0
GOING = SPEC["output"] | {"onDelete": "Delete"}
Node = dict[str, Any]


def space(plane: ControlPlane) -> Namespace:
    made = Namespace(plane.api)
    made.account()
    return made


def quota(space: Namespace, **hard: str) -> str:
    """Have a quota in force; its path."""
    path = f"/api/v1/namespaces/{space.name}/resourcequotas"
    bounds = {name.replace("_", "."): amount for name, amount in hard.items()}
    bounds = {name.replace("jobs.batch", "count/jobs.batch"): amount for name, amount in bounds.items()}
    space.api.post(path, {"metadata": {"name": "narrow"}, "spec": {"hard": bounds}})
    eventually("the quota counts", lambda: space.api.get(f"{path}/narrow")["status"].get("hard") == bounds)
    return f"{path}/narrow"


def told(space: Namespace) -> str:
    return str(condition(space.get()["status"], "Ready")["message"])


def test_what_a_quota_holds_back_waits_quietly_and_goes_on(
    plane: ControlPlane, served: Operator, proxy: Proxy, kubelet: Kubelet
) -> None:
    """A full quota lasts for days: hundreds of Jobs that ask in a loop would take the API server from everybody."""
    pods, jobs, going = space(plane), space(plane), space(plane)
    going.create(output=GOING)
    worker = going.pod()
    kubelet.ends(worker, 0, result(run_of(worker)))
    going.reason("Published")
    eventually("cleaned up", lambda: not going.job_list() and not going.pod_list())
    lifted = [quota(pods, pods="0"), quota(jobs, jobs_batch="0"), quota(going, pods="0")]
    pods.create()
    jobs.create()
    going.delete(f"{going.resources}/digits")
    pods.reason("PodRefused")
    jobs.reason("PodRefused")
    going.reason("CleaningUp")
    eventually("the clean-up says so", lambda: "exceeded quota: narrow" in told(going))
    for held in (pods, jobs):
        assert "exceeded quota: narrow" in told(held)
    assert len(pods.job_list()) == 1
    assert not jobs.job_list()
    proxy.asked.clear()
    proxy.writes.clear()
    time.sleep(WATCHED_SECONDS)  # nothing is waited for: it is what does not happen that counts
    for held in (pods, jobs, going):
        asked = {what: n for what, n in proxy.asked.items() if f"/namespaces/{held.name}/" in what}
        assert sum(asked.values()) <= 6, asked
        assert not [w for w in proxy.writes if w.method == "PATCH" and f"/namespaces/{held.name}/" in w.path]
    for path in lifted:
        plane.api.merge(path, {"spec": {"hard": None}})
    for held, why in ((pods, "a worker"), (jobs, "a worker"), (going, "a clean-up")):
        assert eventually(f"a pod of {why}", lambda held=held: held.pod_list(), 90)  # type: ignore[misc]
    for held in (pods, jobs):
        pod = held.pod()
        kubelet.ends(pod, 0, result(run_of(pod)))
        held.reason("Published")
    kubelet.ends(going.pod(), 0, json.dumps({"errand": "CleanUp", "done": True}))
    eventually("gone", lambda: not going.api.exists(f"{going.resources}/digits"))
