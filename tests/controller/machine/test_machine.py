"""Random interleavings of what users, nodes and networks do, against the real API server; the operator's promises hold.

`STROP_MACHINE_SEED` repeats a run; `STROP_MACHINE_EXAMPLES` and `STROP_MACHINE_STEPS` make it longer.
"""

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cluster_parts import SPEC, Kubelet, Namespace, Operator, condition, eventually, result, run_of
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cluster import ControlPlane
from cluster.api import ApiError

from .proxy import Fault, Proxy

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.timeout(3000),
    # The proxy breaks connections off in the middle: their sockets are found by the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
SEED = int(os.environ.get("STROP_MACHINE_SEED", random.SystemRandom().randrange(2**32)))
NIGHTLY = bool(os.environ.get("STROP_NIGHTLY"))
EXAMPLES = int(os.environ.get("STROP_MACHINE_EXAMPLES", 200 if NIGHTLY else 20))
STEPS = int(os.environ.get("STROP_MACHINE_STEPS", 26))
LOST_PODS = 4 if NIGHTLY else 2
"""How many pods of one Job are lost at most: Kubernetes waits 10, 20, 40, 80 … s before each next one."""
CONVERGES_SECONDS = 240.0
NAMES = ("a", "b")
SKEWED = (
    "import runpy, time; now = time.time; time.time = lambda: now() + {}; "
    "runpy.run_module('strop_operator', run_name='__main__')"
)
GOING = SPEC["output"] | {"onDelete": "Delete"}
ERRAND = "strop.dev/errand"
CLEANED = '{"errand": "CleanUp", "done": true}'
names, seeds, picks = st.sampled_from(NAMES), st.integers(0, 2), st.integers(0, 5)
"""What is drawn never depends on what the cluster has at the moment: hypothesis takes that for a flaw of the test."""
Node = dict[str, Any]


class World:
    """One control plane, one proxy, the operators behind it."""

    def __init__(self, plane: ControlPlane, proxy: Proxy, folder: Path) -> None:
        self.plane, self.proxy, self.folder = plane, proxy, folder
        self.kubeconfig = proxy.kubeconfig_through(folder / "through-the-proxy.kubeconfig")
        self.first = self.operator("first")
        self.second = self.operator("second")
        proxy.kill = self.kill

    def operator(self, name: str) -> Operator:
        return Operator(self.kubeconfig, self.folder / f"{name}.log", "--no-lease", "--progress-poll-seconds", "60")

    def kill(self) -> None:
        """Both, for whoever writes next: the proxy cannot tell them apart."""
        for operator in (self.first, self.second):
            if operator.process is not None:
                operator.process.send_signal(signal.SIGKILL)

    def revive(self, skew: int = 0) -> None:
        """Whoever died is started again."""
        for operator in (self.first, self.second):
            if operator.process is not None and operator.process.poll() is not None:
                operator.process = None
        if self.first.process is None:
            self.first.program = ["-c", SKEWED.format(skew)] if skew else ["-m", "strop_operator"]
            self.first.start()

    def close(self) -> None:
        self.first.close()
        self.second.close()


@pytest.fixture(scope="module")
def world(plane: ControlPlane, operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Proxy(operator_kubeconfig) as proxy:
        made = World(plane, proxy, tmp_path_factory.mktemp("machine"))
        yield made
        made.close()


class Machine(RuleBasedStateMachine):
    """What may happen, in any order."""

    world: ClassVar[World]
    numbers: ClassVar[Iterator[int]] = itertools.count()
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.world.proxy.heal()
        self.world.revive()
        self.space = Namespace(self.world.plane.api, f"machine-{os.getpid()}-{next(self.numbers)}")
        self.space.account()
        self.kubelet = Kubelet(self.world.plane.api)
        self.ended: dict[tuple[str, str], set[str]] = {}
        """Jobs known when a run was found finished, by resource UID and run."""
        self.lost: Counter[str] = Counter()
        """Pods that were deleted or evicted, by their Job's UID."""

    # --- users ---

    @rule(name=names, number=seeds, going=st.booleans())
    def create(self, name: str, number: int, going: bool) -> None:
        self._try(lambda: self.space.create(name, seed=number, output=GOING if going else SPEC["output"]))

    @rule(name=names, number=seeds)
    def edit(self, name: str, number: int) -> None:
        self._try(lambda: self.space.change(name, seed=number))

    @rule(name=names, suspend=st.booleans())
    def suspend(self, name: str, suspend: bool) -> None:
        self._try(lambda: self.space.change(name, suspend=suspend))

    @rule(name=names)
    def delete(self, name: str) -> None:
        self._try(lambda: self.space.delete(f"{self.space.resources}/{name}"))

    @rule(name=names, number=seeds)
    def replace(self, name: str, number: int) -> None:
        """Deleted and created again at once: the same name, another resource."""
        self.delete(name)
        self.create(name, number, False)

    @rule(which=picks)
    def delete_a_job(self, which: int) -> None:
        if names := sorted(job["metadata"]["name"] for job in self.space.job_list()):
            name = names[which % len(names)]
            self._try(lambda: self.space.delete(f"{self.space.jobs}/{name}", {"propagationPolicy": "Background"}))

    @rule(which=picks)
    def delete_a_pod(self, which: int) -> None:
        if pods := {p["metadata"]["name"]: p for p in self.space.pod_list() if self._may_be_lost(p)}:
            name = sorted(pods)[which % len(pods)]
            self.lost[_owner(pods[name])["uid"]] += 1
            self._try(lambda: self.space.delete(f"{self.space.pods}/{name}"))

    # --- nodes ---

    @rule(how=st.sampled_from(["runs", "succeeds", "fails", "is evicted"]))
    def a_pod(self, how: str) -> None:
        for pod in self._live_pods():
            self._try(lambda pod=pod: self._play(pod, how))  # type: ignore[misc]

    @rule()
    def nodes_finish_deletions(self) -> None:
        self._bury()

    @rule()
    def nothing_for_a_while(self) -> None:
        self._settle(2.0)

    # --- faults ---

    @rule(fault=st.sampled_from(Fault))
    def fault(self, fault: Fault) -> None:
        self.world.proxy.plan(fault)

    @rule(skew=st.sampled_from([0, 0, 90, -90]))
    def restart(self, skew: int) -> None:
        self.world.kill()
        self.world.first.stop(signal.SIGKILL)
        self.world.revive(skew)

    @rule()
    def a_second_operator(self) -> None:
        if self.world.second.process is None:
            self.world.second.start()

    @rule(chance=st.integers(0, 9))
    def the_api_server_dies(self, chance: int) -> None:
        """It takes seconds to come back: seldom."""
        if chance == 0:
            processes = self.world.plane.processes
            processes.restart("apiserver", "KILL")
            processes.await_ready("apiserver", self.space.api.ready, 60)
            # Ready, it still refuses our kinds for a moment: their storage comes last.
            eventually("our kinds are served", lambda: self.space.api.exists(self.space.resources))

    @rule()
    def revive(self) -> None:
        self.world.revive()

    # --- promises ---

    @invariant()
    def one_job_at_a_time(self) -> None:
        """At most one Job that may run a pod, and none beside a live pod of another."""
        type(self).steps += 1
        jobs, pods = _of_runs(self.space.job_list()), _of_runs(self.space.pod_list())
        by_owner: dict[str, list[Node]] = {}
        for job in jobs:
            if not _over(job) and "deletionTimestamp" not in job["metadata"]:
                by_owner.setdefault(_owner(job)["uid"], []).append(job)
        known = {job["metadata"]["uid"] for job in jobs}
        for uid, live in by_owner.items():
            assert len(live) == 1, f"two Jobs at once: {[j['metadata']['name'] for j in live]}"
            orphans = [p for p in pods if _serves(p) == uid and _alive(p) and _owner(p)["uid"] not in known]
            assert not orphans, f"{live[0]['metadata']['name']} was launched beside a pod of an earlier Job: {orphans}"

    @invariant()
    def what_is_finished_stays_finished(self) -> None:
        """No new Job for a run whose end is recorded."""
        for item in self.space.api.get(self.space.resources)["items"]:
            run = item.get("status", {}).get("run") or {}
            key = (item["metadata"]["uid"], run.get("id", ""))
            if not run.get("finishedAt"):
                self.ended.pop(key, None)
                continue
            of_run = {j["metadata"]["uid"] for j in _of_runs(self.space.job_list()) if run_of(j) == key[1]}
            assert of_run <= self.ended.setdefault(key, of_run), f"{item['metadata']['name']}: run {key[1]} again"

    @invariant()
    def clean_ups_are_alone(self) -> None:
        """One at a time, and only when nothing of the resource may still publish.

        Kubernetes may make one more pod of a Job that is gone already, and collects it: nobody could have seen it.
        """
        pods, jobs = self.space.pod_list(), self.space.job_list()
        live = [job for job in jobs if ERRAND in job["metadata"]["labels"] and not _over(job)]
        begun = {_serves(job): str(job["metadata"]["creationTimestamp"]) for job in live}
        assert len(live) == len(begun), f"two clean-ups at once: {[job['metadata']['name'] for job in live]}"
        known = {job["metadata"]["uid"] for job in jobs}
        beside = [
            p["metadata"]["name"]
            for p in _of_runs(pods)
            if _serves(p) in begun and _alive(p)
            if _owner(p)["uid"] in known or str(p["metadata"]["creationTimestamp"]) < begun[_serves(p)]
        ]
        assert not beside, f"cleaned up beside {beside}"

    @invariant()
    def nothing_is_written_blindly(self) -> None:
        """Every patch, of a status or of the finalizers, carries the version it was made from."""
        for write in self.world.proxy.writes:
            if write.method == "PATCH" and "/modeloptimizations/" in write.path:
                assert write.body["metadata"]["resourceVersion"], write
        self.world.proxy.writes.clear()

    def teardown(self) -> None:
        """All faults healed, every pod played to its end: the status must come to tell the truth, and nothing leaks."""
        world = self.world
        world.proxy.heal()
        world.second.stop(signal.SIGKILL)
        world.revive()
        try:
            eventually("the status tells the truth", self._converged, CONVERGES_SECONDS)
        except AssertionError:
            print(world.first.log[-8000:])
            raise
        for item in self.space.api.get(self.space.resources)["items"]:
            self.space.delete(f"{self.space.resources}/{item['metadata']['name']}")
        try:
            eventually("no Job, no pod and no resource is left", self._empty, CONVERGES_SECONDS)
        except AssertionError:
            print(world.plane.processes.log("kcm").read_text()[-8000:])
            raise

    # --- how ---

    def _converged(self) -> bool:
        self.world.revive()
        self._bury()
        for pod in self._live_pods():
            self._try(lambda pod=pod: self._play(pod, "succeeds"))  # type: ignore[misc]
        for item in self.space.api.get(self.space.resources)["items"]:
            status, spec = item["status"], item["spec"]
            assert status["observedGeneration"] == item["metadata"]["generation"], item["metadata"]
            reason = condition(status, "Ready")["reason"]
            if spec.get("suspend") and reason == "Suspended":
                continue
            assert reason in ("Published", "WorkerFailed"), f"{item['metadata']['name']}: {reason}"
        return self.world.proxy.quiet(0.5)

    def _empty(self) -> bool:
        """Clean-ups that have ended are Kubernetes' to remove, after a while."""
        self._bury()
        for pod in self._live_pods():
            self._try(lambda pod=pod: self._play(pod, "succeeds"))  # type: ignore[misc]
        jobs = [job for job in self.space.job_list() if ERRAND not in job["metadata"]["labels"] or not _over(job)]
        pods = _of_runs(self.space.pod_list())
        left = [_in_words(item) for item in (*jobs, *pods)]
        left += [item["metadata"]["name"] for item in self.space.api.get(self.space.resources)["items"]]
        assert not left, left
        return True

    def _settle(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.world.proxy.quiet(0.2):
            time.sleep(0.02)

    def _live_pods(self) -> list[Node]:
        return [p for p in self.space.pod_list() if _alive(p) and "deletionTimestamp" not in p["metadata"]]

    def _play(self, pod: Node, how: str) -> None:
        if not pod["spec"].get("nodeName"):
            self.kubelet.bind(pod)
        if how == "runs":
            self.kubelet.runs(pod)
        elif how == "succeeds":
            self.kubelet.ends(pod, 0, CLEANED if ERRAND in pod["metadata"]["labels"] else result(run_of(pod)))
        elif how == "fails":
            self.kubelet.ends(pod, 1)
        elif self._may_be_lost(pod):
            self.lost[_owner(pod)["uid"]] += 1
            self.kubelet.disrupts(pod, "the node is drained")

    def _may_be_lost(self, pod: Node) -> bool:
        return self.lost[_owner(pod)["uid"]] < LOST_PODS

    def _bury(self) -> None:
        """What the kubelet does with a bound pod that was deleted, and Kubernetes' collector of pods with another: its
        Job waits until it has failed."""
        for pod in self.space.pod_list():
            if "deletionTimestamp" in pod["metadata"]:
                if _alive(pod) and not pod["spec"].get("nodeName"):
                    self._try(lambda pod=pod: self.kubelet.collects(pod))  # type: ignore[misc]
                path = f"{self.space.pods}/{pod['metadata']['name']}"
                self._try(lambda path=path: self.space.delete(path, {"gracePeriodSeconds": 0}))  # type: ignore[misc]

    @staticmethod
    def _try(call: Any) -> None:
        """Users and kubelets are refused now and then: gone, there already, changed meanwhile."""
        try:
            call()
        except ApiError as error:
            if error.status not in (404, 409, 422):
                raise


def _in_words(item: Node) -> str:
    """What keeps a thing that should be gone."""
    about = item["metadata"]
    owners = [f"{o['kind']} {o['name']} {o['uid']}" for o in about.get("ownerReferences", [])]
    deleted, finalizers = about.get("deletionTimestamp"), about.get("finalizers")
    return f"{about['name']}: of {owners}, deleted at {deleted}, finalizers {finalizers}, status {item['status']}"


def _of_runs(items: list[Node]) -> list[Node]:
    return [item for item in items if ERRAND not in item["metadata"]["labels"]]


def _owner(item: Node) -> Node:
    return next(iter(item["metadata"].get("ownerReferences", [])), {"uid": ""})


def _over(job: Node) -> bool:
    return any(
        c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in job["status"].get("conditions", [])
    )


def _serves(pod: Node) -> str:
    return str(pod["metadata"]["labels"].get("strop.dev/optimization-uid", ""))


def _alive(pod: Node) -> bool:
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def test_the_promises_hold_whatever_happens(world: World) -> None:
    """Broken, two pods run for one target, a finished run burns a GPU again, or a status lies."""
    print(f"STROP_MACHINE_SEED={SEED}")
    Machine.world = world
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        print_blob=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(seed(SEED)(Machine), settings=chosen)
    print(f"{Machine.steps} steps")
    assert Machine.steps >= EXAMPLES * STEPS * 0.75  # some examples are cut short
