"""`strop logs`: what the worker of the newest attempt says, or what those before it said."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from strop_cli.cluster import Cluster, Object
from strop_cli.errors import CliError, Missing
from strop_cli.kinds import JOBS, PODS, Ask
from strop_cli.optimizations import Optimization

CONTAINER = "worker"
UID_LABEL = "strop.dev/optimization-uid"
ERRAND_LABEL = "strop.dev/errand"
FOLLOW = (10.0, 24 * 3600.0)
READ = (10.0, 60.0)


@dataclass(frozen=True)
class Wish:
    """Which lines are wanted."""

    follow: bool = True
    tail: int | None = None
    since_seconds: int | None = None
    timestamps: bool = False

    @property
    def query(self) -> dict[str, str]:
        """As the API server takes it."""
        query = {"container": CONTAINER}
        if self.follow:
            query["follow"] = "true"
        if self.tail is not None:
            query["tailLines"] = str(self.tail)
        if self.since_seconds is not None:
            query["sinceSeconds"] = str(self.since_seconds)
        if self.timestamps:
            query["timestamps"] = "true"
        return query


def pods(cluster: Cluster, found: Optimization) -> list[Object]:
    """The pods of the newest Job, oldest first. Raises Missing where there is none."""
    selector = f"{UID_LABEL}={found.uid},!{ERRAND_LABEL}"
    jobs = sorted(cluster.list(JOBS, found.namespace, selector), key=_created)
    if not jobs:
        raise Missing(f"{found.name} has no Job, and so no log{_since_when(found)}", mend=_elsewhere(found))
    of_job = f"batch.kubernetes.io/controller-uid={jobs[-1]['metadata']['uid']}"
    mine = sorted(cluster.list(PODS, found.namespace, of_job), key=_created)
    if not mine:
        raise Missing(f"Job {jobs[-1]['metadata']['name']} has no pod yet", mend=f"see strop status {found.name}")
    return mine


def _created(document: Object) -> tuple[str, str]:
    return document["metadata"]["creationTimestamp"], document["metadata"]["name"]


def _since_when(found: Optimization) -> str:
    run = found.status.run
    return f": run {run.id} ended at {run.finished_at}" if run is not None and run.finished_at else ""


def _elsewhere(found: Optimization) -> str:
    if found.status.report:
        return f"strop report {found.name} has what it did; spec.ttlSecondsAfterFinished keeps a Job longer"
    return f"see strop status {found.name}"


def lines(cluster: Cluster, pod: Object, wish: Wish, deadline: float) -> Iterator[bytes]:
    """The worker's lines. A container that has not started yet is waited for, if they are to be followed."""
    name = pod["metadata"]["name"]
    ask = Ask("get", PODS, pod["metadata"]["namespace"], name, "log")
    version = pod["metadata"]["resourceVersion"]
    while wish.follow and (why := waiting(pod)) and time.monotonic() < deadline:
        for _, pod in cluster.watch(PODS, name, version, deadline):
            version = pod["metadata"]["resourceVersion"]
            if not waiting(pod):
                break
        else:
            pod = cluster.get(PODS, name)
            version = pod["metadata"]["resourceVersion"]
    if why := waiting(pod):
        raise CliError(f"the worker of pod {name} has not started: {why}", mend="see strop status")
    yield from cluster.lines(ask, wish.query, FOLLOW if wish.follow else READ)


def waiting(pod: Object) -> str:
    """Why the worker's container has not started yet; empty when it has."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        if container["name"] == CONTAINER:
            state = container.get("state") or {}
            held = state.get("waiting") or {}
            words = f"{held.get('reason', '')} {held.get('message', '')}".strip()
            return (words or "it waits") if "waiting" in state or not state else ""
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', '')} {condition.get('message', '')}".strip()
    return "no node runs it yet" if status.get("phase") not in ("Succeeded", "Failed") else ""
