"""A real operator that has run real resources, scraped by a real Prometheus: once for the folder."""

import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "controller"))

from cluster_parts import SYSTEM, Kubelet, Namespace, Operator, eventually, install, run_of

from cluster import ControlPlane
from e2e.prometheus import Prometheus, job, scraping
from monitoring.play import ALERTS, GOING, PATIENCE, Play, Watched, worker
from strop_api.result import PROGRESS_PORT


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Operator, ControlPlane]]:
    with ControlPlane() as plane:
        kubeconfig = install(plane)
        Namespace(plane.api, SYSTEM).set_policy()
        process = Operator(kubeconfig, tmp_path_factory.mktemp("operator") / "log", "--no-lease")
        process.start()
        try:
            eventually("the operator leads", lambda: process.metric("strop_leader") == 1, PATIENCE)
            yield process, plane
        finally:
            print(process.log[-6000:])
            process.close()


@pytest.fixture(scope="session")
def watched(operator: tuple[Operator, ControlPlane], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Every outcome twice with a scrape in between: a series that is born at 1 has not increased."""
    process, plane = operator
    namespace = Namespace(plane.api)
    namespace.account()
    namespace.set_policy(driftChecks={"everySeconds": 31_536_000})
    play = Play(namespace, Kubelet(plane.api))
    pod = play.create("running")
    with worker(run_of(pod), "int8", 40) as server:
        play.run("running", pod, server.host)
        labels = {"namespace": namespace.name, "pod": pod["metadata"]["name"]}
        labels |= {"strop_dev_optimization": "running", "strop_dev_target": "cpu"}
        address, folder = urlsplit(process.url).netloc, tmp_path_factory.mktemp("prometheus")
        of_worker = job("workers", f"{server.host}:{PROGRESS_PORT}", **labels)
        with scraping(address, folder, more=[of_worker], rules=[ALERTS]) as prometheus:
            happen(play, prometheus)
            yield Watched(prometheus, process, namespace.name)


def happen(play: Play, prometheus: Prometheus) -> None:
    """Each way in which a run or an errand can end."""
    for number in range(2):
        play.publish(f"published-{number}")
        play.fail(f"missed-{number}", 10, "GateMissed")
        play.fail(f"failed-{number}", 1, "Failed", "WorkerFailed", retries=0)
        runs = 3 * (number + 1)
        eventually("a scrape", lambda n=runs: prometheus.query(f"sum(strop_runs_total) == {n}"), PATIENCE)
    play.fail("retried", 12, "StoreFailed", "Retrying", retries=1)
    play.look("published-0", changes=[{"reason": "SourceChanged", "message": "sha256:1 is now sha256:2"}])
    play.look("published-1", done=False, message="no route")
    for name, done in (("cleaned", True), ("stays", False)):
        play.publish(name, output=GOING)
        play.clean_up(name, done=done)
    play.create("launched")
    told = 'sum(strop_errands_total{outcome!="Unchanged"}) == 4'
    asked = f'{told} and on () strop_modeloptimizations{{reason="Launched"}} >= 1'
    eventually("the last scrape", lambda: prometheus.query(asked), PATIENCE)
