"""Jobs that outlive their resource: Kubernetes' garbage collector has missed it, and a pod runs on for nobody."""

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_parts import Kubelet, Namespace, Operator, eventually
from facts_parts import job, resource

from cluster import ControlPlane
from strop_api.errands import ErrandKind
from strop_operator.cache import Cache
from strop_operator.client import Client, from_kubeconfig
from strop_operator.orphans import Orphans
from strop_operator.queue import DueQueue

Node = dict[str, Any]


def orphans(cache: Cache) -> Orphans:
    """With nothing to ask: what is due is known without."""
    return Orphans(None, cache, None, 30.0)  # type: ignore[arg-type]


def test_a_job_is_due_only_when_its_owner_has_been_missed_for_long() -> None:
    """The garbage collector is usually faster; and a watch may tell of a Job before its resource."""
    cache = Cache()
    cache.put_job(job())
    looked = orphans(cache)
    assert looked.due(100.0) == []
    assert looked.due(129.0) == []
    assert [j.uid for j in looked.due(130.0)] == ["job-uid"]
    cache.put_resource(resource())
    assert looked.due(131.0) == []
    cache.drop_resource(resource())
    assert looked.due(132.0) == [], "the time begins anew"


@pytest.mark.parametrize(
    "spared",
    [
        job(deleting=True),
        job(owner_uid=""),
        job(errand=str(ErrandKind.CLEAN_UP)),
    ],
    ids=["on its way", "nobody's", "a clean-up"],
)
def test_what_goes_by_itself_or_has_no_owner_is_spared(spared: Any) -> None:
    """A clean-up outlives its resource by design; what is being deleted is not deleted again."""
    cache = Cache()
    cache.put_job(spared)
    looked = orphans(cache)
    looked.due(0.0)
    assert looked.due(1000.0) == []


def test_a_drift_check_without_its_resource_is_an_orphan_too() -> None:
    """It has an owner like a run."""
    cache = Cache()
    cache.put_job(job(errand=str(ErrandKind.DRIFT)))
    looked = orphans(cache)
    looked.due(0.0)
    assert len(looked.due(30.0)) == 1


def test_what_is_gone_is_forgotten() -> None:
    """A memory that only grows is a leak."""
    cache = Cache()
    cache.put_job(job())
    looked = orphans(cache)
    looked.due(0.0)
    cache.drop_job("job-uid")
    assert looked.due(40.0) == []
    cache.put_job(replace(job(), version=99))
    assert looked.due(41.0) == []


@pytest.fixture
def uncollected(plane: ControlPlane) -> Iterator[None]:
    """Kubernetes' controllers are away: no garbage is collected, and no pod made."""
    plane.processes.stop("kcm", "KILL")
    yield
    plane.processes.start_again("kcm")


@pytest.fixture
def hasty(operator: Operator, operator_kubeconfig: Path, tmp_path: Path, namespace: Namespace) -> Iterator[Operator]:
    """An operator that gives the garbage collector one second."""
    operator.stop()
    flags = ("--no-lease", "--namespaces", namespace.name, "--orphan-seconds", "1")
    made = Operator(operator_kubeconfig, tmp_path / "log", *flags)
    made.start()
    eventually("it is ready", lambda: made.get("/readyz")[0] == 200)
    yield made
    print(made.log[-4000:])
    made.close()


def delete(namespace: Namespace) -> None:
    namespace.delete(f"{namespace.resources}/digits", {"propagationPolicy": "Background"})
    eventually("the resource is gone", lambda: not namespace.api.exists(f"{namespace.resources}/digits"))


@pytest.mark.apiserver
def test_a_job_whose_resource_is_gone_is_deleted_once_with_its_pod(
    namespace: Namespace, kubelet: Kubelet, hasty: Operator, plane: ControlPlane
) -> None:
    """A GPU would be paid for on behalf of nobody, for ever."""
    namespace.create()
    kubelet.runs(namespace.pod())
    namespace.reason("Running")
    plane.processes.stop("kcm", "KILL")
    try:
        delete(namespace)
        eventually("the Job is gone", lambda: not namespace.job_list())
    finally:
        plane.processes.start_again("kcm")
    eventually("its pod goes with it", lambda: not namespace.pod_list())
    assert hasty.log.count("its resource") == 1


@pytest.mark.apiserver
def test_an_operator_that_was_restarted_finds_it_too(
    namespace: Namespace, hasty: Operator, uncollected: None, plane: ControlPlane
) -> None:
    """It knows nothing of a resource that went while it was away: only its Job is left to tell."""
    namespace.create()
    namespace.job()
    hasty.stop(signal.SIGKILL)
    delete(namespace)
    hasty.start()
    eventually("the Job is gone", lambda: not namespace.job_list())


@pytest.mark.apiserver
def test_the_job_of_a_former_namesake_goes_and_the_present_one_stays(
    namespace: Namespace, hasty: Operator, uncollected: None
) -> None:
    """The same name, another resource: only the UID tells."""
    first = namespace.create()
    namespace.job()
    hasty.stop(signal.SIGKILL)
    delete(namespace)
    second = namespace.create()
    hasty.start()

    def owners() -> list[str]:
        return [o["uid"] for j in namespace.job_list() for o in j["metadata"]["ownerReferences"]]

    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    eventually("only the present one's Job", lambda: owners() == [second["metadata"]["uid"]])


@pytest.mark.apiserver
def test_a_resource_that_only_the_watch_has_not_told_of_keeps_its_job(
    namespace: Namespace, operator: Operator, operator_kubeconfig: Path
) -> None:
    """A cache that lags must not stop a run: the API server has the last word, and mends the cache."""
    made = namespace.create()
    body = namespace.job()

    async def scene() -> tuple[Cache, int]:
        cache, queue = Cache(), DueQueue()
        client = Client(from_kubeconfig(operator_kubeconfig), 2)
        try:
            known = job(namespace=namespace.name, name=body["metadata"]["name"], uid=body["metadata"]["uid"])
            cache.put_job(replace(known, version=1, owner_uid=made["metadata"]["uid"]))
            looked = Orphans(client, cache, queue, 0.0)
            await looked.sweep(0.0)
            return cache, len(queue)
        finally:
            await client.close()

    cache, due = asyncio.run(scene())
    assert cache.resources[namespace.name, "digits"].uid == made["metadata"]["uid"]
    assert due == 1
    assert [j["metadata"]["uid"] for j in namespace.job_list()] == [body["metadata"]["uid"]]
