"""Real resources through all their outcomes, on a real API server under a real operator; only the kubelet is played."""

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_parts import SPEC, Kubelet, Namespace, Operator, eventually, result, run_of

from e2e.prometheus import Prometheus
from strop_api.result import PROGRESS_PORT, ProgressReport
from strop_api.status import Progress
from strop_job.progress_server import Board, ProgressServer

ALERTS = Path(__file__).resolve().parents[2] / "charts" / "strop" / "files" / "alerts" / "strop.yaml"
Node = dict[str, Any]
PATIENCE = 60.0
"""Seconds for whatever is waited for; a busy machine takes its time."""
GOING = {"uri": SPEC["output"]["uri"], "onDelete": "Delete"}
FINDING = {"check": "calibration-range", "severity": "High", "message": "channel 3 is twice as wide"}
STAGES = [
    {"name": "resolve-model", "seconds": "0.5", "cached": True},
    {"name": "export", "seconds": "1.5"},
    {"name": "int8", "seconds": "12"},
]
MISSED = {
    "name": "cpu",
    "verdict": "GateMissed",
    "metric": {"name": "accuracy", "original": "0.97", "optimized": "0.94", "dropPoints": "3.0", "samples": 360},
    "speedup": {"ratio": "2.1", "low": "2.0", "high": "2.2", "over": "BestUnquantized"},
    "gates": [{"gate": "metricDrop", "verdict": "Missed", "measured": "3.0", "bound": "1.0"}],
}


@dataclass(frozen=True)
class Watched:
    """What can be asked once everything has happened."""

    prometheus: Prometheus
    operator: Operator
    namespace: str


class Worker(ProgressServer):
    """The supervisor's own server, at an address of its own: pods are asked at one port, and here are many."""

    _numbers = itertools.count(1)

    def __init__(self, board: Board) -> None:
        self.host = f"127.84.{os.getpid() % 250}.{next(self._numbers)}"
        super().__init__(PROGRESS_PORT, board)

    def server_bind(self) -> None:
        mapped = f"::ffff:{self.host}" if ":" in str(self.server_address[0]) else self.host
        self.server_address = (mapped, PROGRESS_PORT)
        super().server_bind()


@contextmanager
def worker(run_id: str, stage: str, percent: int) -> Iterator[Worker]:
    """A worker that is in the midst of a stage."""
    report = ProgressReport(run_id=run_id, sequence=1, progress=Progress(stage=stage, percent=percent))
    with Worker(Board(report, 600.0)) as server:
        yield server


class Play:
    """Creates resources in one namespace and plays their pods' ends."""

    def __init__(self, namespace: Namespace, kubelet: Kubelet) -> None:
        self.namespace, self._kubelet = namespace, kubelet

    def create(self, name: str, **changes: Any) -> Node:
        """A resource and its first pod."""
        made = self.namespace.create(name, **changes)
        return self.pod(made["metadata"]["uid"])

    def pod(self, uid: str, **labels: str) -> Node:
        """Wait for a live pod of a resource, with these labels."""

        def ask() -> Node | None:
            wanted = {"strop.dev/optimization-uid": uid, **labels}
            live = (p for p in self.namespace.pod_list() if p["status"]["phase"] not in ("Succeeded", "Failed"))
            return next((p for p in live if wanted.items() <= p["metadata"]["labels"].items()), None)

        return eventually("a pod", ask, PATIENCE)

    def run(self, name: str, pod: Node, host: str = "") -> None:
        """Its worker is at work."""
        self._kubelet.runs(pod, host)
        self.namespace.reason("Running", name, PATIENCE)

    def publish(self, name: str, **changes: Any) -> None:
        """A whole run that ends well."""
        pod = self.create(name, **changes)
        self.run(name, pod)
        self._kubelet.ends(pod, 0, result(run_of(pod), stages=STAGES, findings=[FINDING]))
        self.namespace.reason("Published", name, PATIENCE)

    def fail(self, name: str, code: int, outcome: str, reason: str = "", **changes: Any) -> None:
        """A run that ends otherwise."""
        pod = self.create(name, **changes)
        self.run(name, pod)
        target = {"target": MISSED} if outcome == "GateMissed" else {}
        self._kubelet.ends(pod, code, result(run_of(pod), outcome, stages=STAGES, **target))
        self.namespace.reason(reason or outcome, name, PATIENCE)

    def look(self, name: str, **answer: Any) -> None:
        """A drift check becomes due, and says this."""
        path = f"{self.namespace.resources}/{name}"
        due = {"checkedAt": "2026-01-01T00:00:00Z", "checkFailures": 1}
        self.namespace.api.merge(f"{path}/status", {"status": due})
        uid = self.namespace.get(name)["metadata"]["uid"]
        pod = self.pod(uid, **{"strop.dev/errand": "Drift"})
        self._kubelet.ends(pod, 0, json.dumps({"errand": "Drift", "done": True, **answer}))
        eventually("looked at", lambda: self.namespace.get(name)["status"]["checkedAt"] > due["checkedAt"], PATIENCE)

    def clean_up(self, name: str, *, done: bool) -> None:
        """A published resource is deleted, and its artifacts with it, or not."""
        uid = self.namespace.get(name)["metadata"]["uid"]
        self.namespace.delete(f"{self.namespace.resources}/{name}")
        pod = self.pod(uid, **{"strop.dev/errand": "CleanUp"})
        self._kubelet.ends(pod, 0, json.dumps({"errand": "CleanUp", "done": done, "message": "no route"}))
        if done:
            eventually("gone", lambda: not self.namespace.api.exists(f"{self.namespace.resources}/{name}"), PATIENCE)
        else:
            self.namespace.reason("CleanUpFailed", name, PATIENCE)
