"""What the controller's tests stand on: the operator as a process, a namespace, a hand that plays the kubelet."""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cluster import ControlPlane
from cluster.api import Api, ApiError
from cluster.ports import FreePort

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "strop-system"
OURS = "/apis/strop.dev/v1alpha1/namespaces"
Node = dict[str, Any]
T = TypeVar("T")

SPEC: Node = {
    "model": {
        "uri": "s3://models/digits.onnx",
        "format": "Onnx",
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
        "dimensions": [{"name": "batch", "min": 1, "opt": 8, "max": 32}],
    },
    "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
    "data": {
        "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
        "evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"},
    },
    "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}],
    "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"arch": "amd64"}}],
    "gates": {"metricDrop": {"maxPoints": "1.0"}},
    "output": {"uri": "s3://engines/digits"},
}

POLICY: Node = {
    "stores": [
        {
            "name": "default",
            "endpoint": "http://minio.storage.svc:9000",
            "credentialsSecretName": "strop-store",
            "outputPrefixes": ["s3://engines"],
        }
    ],
    "images": [
        {
            "name": "cpu",
            "ref": "registry.example.com/strop-worker@sha256:" + "1" * 64,
            "runtimes": ["ONNXRuntime"],
            "stepTypes": ["Quantize"],
        }
    ],
    "worker": {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "4Gi"}}},
}


def eventually(what: str, ask: Callable[[], T | bool | None], seconds: float = 20.0) -> T:
    """Ask until the answer is true; a refusal counts as no. Fails with what was last said."""
    deadline, last = time.monotonic() + seconds, "nothing"
    while time.monotonic() < deadline:
        try:
            if answer := ask():
                return answer  # type: ignore[return-value]
        except (ApiError, OSError, AssertionError, LookupError) as error:
            last = f"{type(error).__name__}: {error}"
        time.sleep(0.03)
    raise AssertionError(f"not within {seconds} s: {what} (last: {last})")


class Operator:
    """The operator as a process of its own, under its service account."""

    def __init__(self, kubeconfig: Path, log: Path, *flags: str) -> None:
        self._port = FreePort()
        self.url = f"http://127.0.0.1:{self._port.number}"
        self._kubeconfig, self._log, self._flags = kubeconfig, log, flags
        self.process: subprocess.Popen[bytes] | None = None
        self.program = ["-m", "strop_operator"]
        self.environment = dict(os.environ)

    def start(self) -> None:
        quick = ["--progress-poll-seconds", "0.2", "--progress-patch-seconds", "0"]
        words = ["--kubeconfig", str(self._kubeconfig), "--metrics-port", str(self._port.number)]
        command = [sys.executable, "-W", "error", *self.program, "--operator-namespace", SYSTEM]
        with self._log.open("ab") as log:
            words = [*command, *words, *quick, *self._flags]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=self.environment)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, how)
        code = self.process.wait(20)
        self.process = None
        return code

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        self._port.release()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def metric(self, sample: str, /, **labels: str) -> float:
        """A sample's value; 0 when there is none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        for line in self.get("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if re.split(r"[{ ]", head)[0] == sample and all(label in head for label in wanted):
                return float(value)
        return 0.0

    @property
    def log(self) -> str:
        return self._log.read_text()


class Namespace:
    """A namespace of its own for one test, with the calls that tests make in it."""

    _numbers = itertools.count()

    def __init__(self, api: Api, name: str = "", labels: Node | None = None) -> None:
        self.api = api
        self.name = name or f"t{next(self._numbers)}-{os.getpid()}"
        if not api.exists(f"/api/v1/namespaces/{self.name}"):
            api.post("/api/v1/namespaces", {"metadata": {"name": self.name, "labels": labels or {}}})
        self.resources = f"{OURS}/{self.name}/modeloptimizations"
        self.policies = f"{OURS}/{self.name}/optimizationpolicies"
        self.jobs = f"/apis/batch/v1/namespaces/{self.name}/jobs"
        self.pods = f"/api/v1/namespaces/{self.name}/pods"
        self.events = f"/api/v1/namespaces/{self.name}/events"

    def account(self) -> None:
        """Wait for the service account that pods need."""
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts/default"
        eventually("service account", lambda: self.api.exists(path))

    def create(self, name: str = "digits", annotations: Node | None = None, **changes: Any) -> Node:
        body = {
            "apiVersion": "strop.dev/v1alpha1",
            "kind": "ModelOptimization",
            "metadata": {"name": name, "annotations": annotations or {}},
            "spec": SPEC | changes,
        }
        return self.api.post(self.resources, body)

    def set_policy(self, **changes: Any) -> None:
        body = {
            "apiVersion": "strop.dev/v1alpha1",
            "kind": "OptimizationPolicy",
            "metadata": {"name": "default"},
            "spec": POLICY | changes,
        }
        self.api.post(self.policies, body)

    def get(self, name: str = "digits") -> Node:
        return self.api.get(f"{self.resources}/{name}")

    def change(self, name: str = "digits", **changes: Any) -> Node:
        return self.api.merge(f"{self.resources}/{name}", {"spec": changes})

    def delete(self, path: str, options: Node | None = None) -> None:
        with self.api.open(path, "DELETE", options):
            pass

    def reason(self, wanted: str, name: str = "digits", seconds: float = 20.0) -> Node:
        """Wait until Ready has this reason; the whole status."""

        def ask() -> Node | None:
            status = self.get(name)["status"]
            ready = condition(status, "Ready")
            if ready["reason"] != wanted:
                raise AssertionError(f"{ready['reason']}: {ready['message']}")
            return status

        return eventually(f"{name} {wanted}", ask, seconds)

    def job_list(self) -> list[Node]:
        return self.api.get(self.jobs)["items"]

    def pod_list(self) -> list[Node]:
        return self.api.get(self.pods)["items"]

    def job(self, seconds: float = 20.0) -> Node:
        """Wait for the only Job."""
        return eventually("a Job", lambda: next(iter(self.job_list()), None), seconds)

    def pod(self, *, but: str = "", seconds: float = 20.0) -> Node:
        """Wait for a pod whose end nobody has seen yet."""

        def ask() -> Node | None:
            live = [p for p in self.pod_list() if p["status"]["phase"] not in ("Succeeded", "Failed")]
            return next((p for p in live if p["metadata"]["name"] != but), None)

        return eventually("a pod", ask, seconds)

    def event_list(self) -> list[Node]:
        found = self.api.get(self.events)["items"]
        return [e for e in found if e["involvedObject"]["kind"] == "ModelOptimization"]


def condition(status: Node, kind: str) -> Node:
    """The condition of that type; raises LookupError when there is none."""
    return next((c for c in status["conditions"] if c["type"] == kind), None) or _missing(kind)


def _missing(kind: str) -> Node:
    raise LookupError(f"no condition {kind}")


def conditions(status: Node) -> dict[str, str]:
    """Type to status."""
    return {c["type"]: c["status"] for c in status["conditions"]}


class Kubelet:
    """Plays the kubelet: writes the status that a node would write. The real one is met in the end-to-end tests."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def _status(self, pod: Node, status: Node) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        self._api.merge(path, {"status": status})

    def bind(self, pod: Node, node: str = "nowhere") -> None:
        """Schedule: from now on only the kubelet's word ends the pod."""
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        self._api.post(path, {"metadata": {"name": meta["name"]}, "target": target})

    def runs(self, pod: Node, ip: str = "") -> None:
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        status: Node = {"phase": "Running", "containerStatuses": [_container(state)]}
        self._status(pod, status | ({"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {}))

    def waits(self, pod: Node, reason: str, message: str) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        self._status(pod, {"phase": "Pending", "containerStatuses": [_container(state)]})

    def unschedulable(self, pod: Node, message: str) -> None:
        self._status(pod, {"conditions": [_condition("PodScheduled", "False", "Unschedulable", message)]})

    def ends(self, pod: Node, code: int, said: str = "", reason: str = "", **extra: Any) -> None:
        """The worker's container exits."""
        ended = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "message": said,
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:01:00Z",
        }
        phase = "Succeeded" if code == 0 else "Failed"
        self._status(pod, {"phase": phase, "containerStatuses": [_container({"terminated": ended})], **extra})

    def collects(self, pod: Node) -> None:
        """A pod that was deleted before it had a node has failed: podgc says so, there being no kubelet to."""
        self._status(pod, {"phase": "Failed"})

    def disrupts(self, pod: Node, message: str, code: int = 143) -> None:
        """An eviction: the condition first, then the container's end."""
        self.ends(pod, code, conditions=[_condition("DisruptionTarget", "True", "EvictionByEvictionAPI", message)])


def _container(state: Node) -> Node:
    image = {"image": "i", "imageID": "", "ready": "running" in state, "restartCount": 0}
    return {"name": "worker", "state": state, **image}


def _condition(kind: str, value: str, reason: str, message: str) -> Node:
    return {"type": kind, "status": value, "reason": reason, "message": message}


def run_of(pod: Node) -> str:
    """The run that a pod serves."""
    return str(pod["metadata"]["labels"]["strop.dev/run"])


def result(run_id: str, outcome: str = "Published", **changes: Any) -> str:
    """A termination message as the worker writes it."""
    target: Node = {"name": "cpu", "verdict": "Published" if outcome == "Published" else "Failed"}
    if outcome == "Published":
        target |= {
            "artifact": {"uri": f"s3://engines/digits/{run_id}", "digest": "sha256:" + "a" * 64, "sizeBytes": 1000},
            "metric": {
                "name": "accuracy", "original": "0.97", "optimized": "0.965", "dropPoints": "0.5", "samples": 360,
            },
            "speedup": {"ratio": "2.31", "low": "2.2", "high": "2.4", "over": "BestUnquantized"},
            "gates": [{"gate": "metricDrop", "verdict": "Passed", "measured": "0.5", "bound": "1.0"}],
        }  # fmt: skip
    document = {
        "runId": run_id,
        "outcome": outcome,
        "target": target,
        "stages": [{"name": "export", "seconds": "1.5"}],
        "report": "s3://strop-records/r/report.html",
        "finishedAt": "2026-01-01T00:01:00Z",
    }
    return json.dumps(document | changes)


def install(plane: ControlPlane) -> Path:
    """CRDs, the operator's namespace, account and rights; the operator's kubeconfig."""
    api = plane.api
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        api.post(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            yaml.safe_load(path.read_text()),
        )
    Namespace(api, SYSTEM)
    account = {"metadata": {"name": "strop-operator"}}
    api.post(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", account)
    subject = {"kind": "ServiceAccount", "name": "strop-operator", "namespace": SYSTEM}
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    for role in yaml.safe_load_all((ROOT / "operator" / "rbac.yaml").read_text()):
        kind, where = role["kind"], f"/namespaces/{SYSTEM}" if role["kind"] == "Role" else ""
        api.post(f"{rbac}{where}/{kind.lower()}s", role)
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role["metadata"]["name"]}
        binding = {"metadata": {"name": "strop-operator"}, "subjects": [subject], "roleRef": reference}
        api.post(f"{rbac}{where}/{kind.lower()}bindings", binding)
    for plural in ("modeloptimizations", "optimizationpolicies"):
        eventually(plural, lambda p=plural: api.get(f"/apis/strop.dev/v1alpha1/{p}")["items"] == [])  # type: ignore[misc]
    return plane.kubeconfig_for_service_account(SYSTEM, "strop-operator")
