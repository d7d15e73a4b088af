"""How much a resource costs the API server: every write of the operator's is counted on its way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_parts import SPEC, Kubelet, Namespace, Operator, eventually, result, run_of

from cluster import ControlPlane

from .proxy import Proxy

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
LAUNCH, FINISH, REMOVE = ["POST jobs", "PATCH status"], ["PATCH status"], ["DELETE jobs"]


class Counted:
    """An operator behind a proxy, and a namespace of its own."""

    def __init__(self, proxy: Proxy, space: Namespace, kubelet: Kubelet) -> None:
        self.proxy, self.space, self.kubelet = proxy, space, kubelet

    def writes(self) -> list[str]:
        """What was written in the namespace since the last time, Events apart."""
        eventually("the operator rests", lambda: self.proxy.quiet(0.5))
        ours = [w for w in self.proxy.writes if f"/namespaces/{self.space.name}/" in w.path and "/events" not in w.path]
        self.proxy.writes.clear()
        return [f"{w.method} {_part(w.path)}" for w in ours]

    def launch(self, **changes: Any) -> Any:
        self.space.create(**changes)
        return self.space.pod()

    def publish(self, pod: Any) -> None:
        self.kubelet.ends(pod, 0, result(run_of(pod)))
        self.space.reason("Published")
        eventually("the Job is gone", lambda: not self.space.job_list())


def _part(path: str) -> str:
    """What kind of thing a path is about."""
    parts = path.split("/")
    return next((part for part in ("status", "jobs") if part in parts), "finalizers")


@pytest.fixture
def counted(plane: ControlPlane, operator_kubeconfig: Path, kubelet: Kubelet, tmp_path: Path) -> Iterator[Counted]:
    with Proxy(operator_kubeconfig) as proxy:
        space = Namespace(plane.api)
        space.account()
        space.set_policy(driftChecks={"everySeconds": 31_536_000})
        kubeconfig = proxy.kubeconfig_through(tmp_path / "kubeconfig")
        operator = Operator(kubeconfig, tmp_path / "log", "--no-lease", "--namespaces", space.name)
        operator.start()
        eventually("it is ready", lambda: operator.get("/readyz")[0] == 200)
        yield Counted(proxy, space, kubelet)
        operator.close()
        space.delete(f"/api/v1/namespaces/{space.name}")


@pytest.fixture(autouse=True)
def nobody_else(shared_operator: Operator) -> Iterator[None]:
    """The shared operator is away: it would do half of the work."""
    shared_operator.stop()
    yield
    shared_operator.start()


def test_a_plain_run_costs_two_writes_to_start_and_one_to_finish(counted: Counted) -> None:
    """At 5,000 resources each further write is minutes of the API server's time."""
    pod = counted.launch()
    counted.space.reason("Launched")
    assert counted.writes() == LAUNCH
    counted.publish(pod)
    written = counted.writes()
    # That the pod has ended before its Job has is told where the Job is slow to follow.
    assert written[-2:] == [*FINISH, *REMOVE]
    assert len(written) <= 3


def test_artifacts_that_go_with_the_resource_cost_one_write_more_to_start(counted: Counted) -> None:
    """And the farewell costs what it must: the words, the clean-up's Job, the finalizer."""
    pod = counted.launch(output={"uri": SPEC["output"]["uri"], "onDelete": "Delete"})
    counted.space.reason("Launched")
    assert counted.writes() == ["PATCH finalizers", *LAUNCH]
    counted.publish(pod)
    counted.writes()
    path = f"{counted.space.resources}/digits"
    counted.space.delete(path)
    cleaning = eventually("a clean-up", lambda: next(iter(counted.space.pod_list()), None))
    assert counted.writes() == LAUNCH
    said = json.dumps({"errand": "CleanUp", "done": True})
    counted.kubelet.ends(cleaning, 0, said)
    eventually("gone", lambda: not counted.space.api.exists(path))
    assert counted.writes() == ["PATCH finalizers"]


@pytest.mark.parametrize("changes", [[], [{"reason": "SourceChanged", "message": "other"}]], ids=["same", "changed"])
def test_a_look_costs_three_writes(counted: Counted, changes: list[Any]) -> None:
    """Its Job, its end in the status, its Job's deletion; whether or not something has changed."""
    counted.publish(counted.launch())
    due = {"checkedAt": "2026-01-01T00:00:00Z", "checkFailures": 1}
    counted.writes()
    counted.space.api.merge(f"{counted.space.resources}/digits/status", {"status": due})
    looking = eventually("a look", lambda: next(iter(counted.space.pod_list()), None))
    said = json.dumps({"errand": "Drift", "done": True, "changes": changes})
    counted.kubelet.ends(looking, 0, said)
    eventually("removed", lambda: not counted.space.job_list())
    assert counted.writes() == ["POST jobs", "PATCH status", "DELETE jobs"]
