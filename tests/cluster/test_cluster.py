"""The whole cluster does what the end-to-end tests take for granted."""

import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from cluster import faults, lifecycle, node, registry
from cluster.api import Api, ApiError
from cluster.binaries import NODE_COMMANDS
from cluster.settings import API_VIP, BIN
from cluster.shell import wait_until

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """The running cluster, or one of our own, that goes when the tests are done."""
    missing = [name for name in NODE_COMMANDS if not (BIN / name).exists()]
    if os.geteuid() or missing:
        pytest.skip(f"needs root and `python3 tests/cluster install`; missing: {missing}")
    ours = not lifecycle.is_ours()
    try:
        if ours:
            lifecycle.up()
        if registry.digest("base:1") is None:
            pytest.skip("needs `python3 tests/cluster image-base`")
        yield lifecycle.api()
    finally:
        if ours:
            lifecycle.down()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    name = f"cluster-{uuid.uuid4().hex[:8]}"
    api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    wait_until("the default service account", lambda: api.exists(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
    yield name
    with api.open(f"/api/v1/namespaces/{name}", "DELETE"):
        pass


@pytest.fixture
def pods(api: Api, namespace: str) -> Callable[[str], list[Json]]:
    """The namespace's pods that carry a label."""
    return lambda label: list(api.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={label}")["items"])


def pod_spec(*command: str, security: Json | None = None) -> Json:
    container: Json = {"name": "c", "image": registry.digest_reference("base:1"), "command": command}
    if security:
        container["securityContext"] = security
    return {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}


def run_pod(api: Api, namespace: str, name: str, *command: str, until: str = "Running") -> Json:
    """Create a pod and wait for a phase; returns its status."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = {"metadata": {"name": name, "labels": {"app": name}}, "spec": pod_spec(*command)}
    api.post(path, body)
    return await_phase(api, namespace, name, until)


def await_phase(api: Api, namespace: str, name: str, phase: str) -> Json:
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    wait_until(f"pod {name} {phase}", lambda: api.get(path)["status"].get("phase") == phase)
    status: Json = api.get(path)["status"]
    return status


def can_connect(namespace: str, pod: str, host: str, port: int) -> bool:
    """Whether a pod reaches an address within a second."""
    code = f"import socket; s = socket.socket(); s.settimeout(1); print(s.connect_ex(({host!r}, {port})))"
    return lifecycle.kubectl("exec", "-n", namespace, pod, "--", "python3", "-c", code).strip() == "0"


def make_job(api: Api, namespace: str, name: str, template: Json, **spec: Any) -> str:
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    api.post(path, {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": template}, **spec}})
    return f"{path}/{name}"


def test_a_restricted_job_reports_by_its_termination_message(
    api: Api, namespace: str, pods: Callable[[str], list[Json]]
) -> None:
    """The worker's whole report travels this way, under the strictest pod security."""
    api.merge(
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    with pytest.raises(ApiError, match=r"violates PodSecurity"):
        run_pod(api, namespace, "lax", "true")
    job = make_job(
        api, namespace, "strict", pod_spec("sh", "-c", "echo ok > /dev/termination-log", security=RESTRICTED)
    )
    wait_until("the Job's end", lambda: api.get(job)["status"].get("succeeded") == 1)
    (pod,) = pods("job-name=strict")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "ok\n"


def test_a_service_is_reached_by_its_name(api: Api, namespace: str) -> None:
    """Workers know their store by a Service's DNS name."""
    run_pod(api, namespace, "server", "python3", "-m", "http.server", "9000")
    ports = [{"port": 80, "targetPort": 9000}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "server"}, "ports": ports}}
    api.post(f"/api/v1/namespaces/{namespace}/services", service)
    url = f"http://web.{namespace}.svc.cluster.local/"
    fetch = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=5).status)"
    retried = (
        f"for _ in $(seq 20); do python3 -c '{fetch.replace(chr(39), chr(34))}' && exit 0; sleep 0.2; done; exit 1"
    )
    run_pod(api, namespace, "client", "sh", "-c", retried, until="Succeeded")
    assert api.text(f"/api/v1/namespaces/{namespace}/pods/client/log").splitlines()[-1] == "200"


def test_an_evicted_pod_is_a_disruption_and_not_a_failure(
    api: Api, namespace: str, pods: Callable[[str], list[Json]]
) -> None:
    """The operator tells a drained node from a broken run by this condition alone."""
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    job = make_job(api, namespace, "long", pod_spec("sleep", "600"), podFailurePolicy={"rules": [ignore]})

    def running() -> list[str]:
        found = pods("job-name=long")
        return [pod["metadata"]["name"] for pod in found if pod["status"].get("phase") == "Running"]

    wait_until("the Job's pod", running)
    (first,) = running()
    faults.evict(api, namespace, first)
    conditions = api.get(f"/api/v1/namespaces/{namespace}/pods/{first}")["status"]["conditions"]
    reasons = [condition.get("reason") for condition in conditions if condition["type"] == "DisruptionTarget"]
    assert reasons == ["EvictionByEvictionAPI"]
    wait_until("a pod in its place", lambda: running() and running() != [first])
    assert "failed" not in api.get(job)["status"]


def test_a_drain_moves_only_the_pods_it_names(api: Api, namespace: str) -> None:
    """Tests that drain the one node must leave the operator and the store where they are."""
    run_pod(api, namespace, "stays", "sleep", "600")
    run_pod(api, namespace, "goes", "sleep", "600")
    faults.drain("app=goes")
    pods = f"/api/v1/namespaces/{namespace}/pods"
    assert [pod["metadata"]["name"] for pod in api.get(pods)["items"]] == ["stays"]


def test_a_network_policy_admits_whom_it_names_and_nobody_else(api: Api, namespace: str) -> None:
    """The chart's policies would look right and guard nothing if none were enforced."""
    address = run_pod(api, namespace, "server", "python3", "-m", "http.server", "9000")["podIP"]
    for name in ("friend", "stranger"):
        run_pod(api, namespace, name, "sleep", "600")
        wait_until(f"{name} reaches the server", partial(can_connect, namespace, name, address, 9000))
    server, friend = ({"matchLabels": {"app": name}} for name in ("server", "friend"))
    ingress = [{"from": [{"podSelector": friend}], "ports": [{"port": 9000}]}]
    policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    api.post(policies, {"metadata": {"name": "in"}, "spec": {"podSelector": server, "ingress": ingress}})
    egress = {"podSelector": friend, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": server}]}]}
    api.post(policies, {"metadata": {"name": "out"}, "spec": egress})
    wait_until("the stranger is kept out", lambda: not can_connect(namespace, "stranger", address, 9000))
    wait_until("the friend is kept in", lambda: not can_connect(namespace, "friend", API_VIP, 443))
    assert can_connect(namespace, "friend", address, 9000)
    assert can_connect(namespace, "stranger", API_VIP, 443)


def test_a_pod_outlives_the_api_server(api: Api, namespace: str) -> None:
    """A killed API server costs a run nothing: the kubelet reports what happened meanwhile."""
    run_pod(api, namespace, "survivor", "sh", "-c", "sleep 3; echo done > /dev/termination-log")
    faults.kill("apiserver")
    faults.start("apiserver")
    wait_until("the API server", api.ready)
    status = await_phase(api, namespace, "survivor", "Succeeded")
    container = status["containerStatuses"][0]
    assert container["restartCount"] == 0
    assert container["state"]["terminated"]["message"] == "done\n"


def test_gpus_are_counted_by_the_scheduler(api: Api, namespace: str) -> None:
    """A pod that asks for more than the node offers must wait, as on a real GPU node."""
    spec = pod_spec("true")
    spec["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    node.offer_gpus(api, 0)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    api.post(pods, {"metadata": {"name": "gpu"}, "spec": spec})

    def waits() -> bool:
        conditions = api.get(f"{pods}/gpu")["status"].get("conditions", [])
        return any(condition.get("reason") == "Unschedulable" for condition in conditions)

    wait_until("the pod is unschedulable", waits)
    node.offer_gpus(api, 1)
    await_phase(api, namespace, "gpu", "Succeeded")
    node.offer_gpus(api, 0)
