"""The operator's rights, held against what the API server wrote down of its requests on a tour through all it does."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_parts import POLICY, ROOT, SPEC, SYSTEM, Kubelet, Namespace, Operator, eventually, result, run_of

from cluster import ControlPlane
from strop_api.identity import job_name, run_id, spec_hash
from strop_api.optimization import ModelOptimizationSpec

pytestmark = pytest.mark.apiserver
Node = dict[str, Any]
ACCOUNT = "strop-on-tour"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/strop-operator"
HOME_POLICY = f"/apis/strop.dev/v1alpha1/namespaces/{SYSTEM}/optimizationpolicies/default"
GOING = SPEC["output"] | {"onDelete": "Delete"}
UNUSED = {
    ("ClusterRole", "strop.dev", "modeloptimizations/finalizers", "update"): (
        "no request: an admission plugin asks for it where owner references block a deletion (on in OpenShift)"
    ),
    ("Role", "", "events", "create"): (
        "told at home of artifacts that stay in a namespace that ends; the roles of a namespace may go before that"
    ),
}
"""Rights that are granted and that no request of the tour uses, each with its reason."""


@dataclass(frozen=True)
class Tour:
    """An operator of one namespace under an account of its own, with just the rights in operator/rbac.yaml."""

    plane: ControlPlane
    operator: Operator
    team: Namespace


def roles() -> dict[str, Node]:
    documents = yaml.safe_load_all((ROOT / "operator" / "rbac.yaml").read_text())
    return {role["kind"]: role for role in documents}


def grant(plane: ControlPlane, kind: str, namespace: str) -> None:
    """One of the two roles, in one namespace: the audit log names it by its kind there."""
    name, rules = f"tour-{kind.lower()}", roles()[kind]["rules"]
    place = f"{RBAC}/namespaces/{namespace}"
    plane.api.post(f"{place}/roles", {"metadata": {"name": name}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SYSTEM}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
    plane.api.post(f"{place}/rolebindings", binding)


@pytest.fixture
def tour(plane: ControlPlane, shared_operator: Operator, tmp_path: Path) -> Iterator[Tour]:
    shared_operator.stop()
    team = Namespace(plane.api)
    team.account()
    plane.api.post(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    for kind, namespace in (("ClusterRole", team.name), ("Role", SYSTEM)):
        grant(plane, kind, namespace)
    if plane.api.exists(LEASE):
        team.delete(LEASE)
    kubeconfig = plane.kubeconfig_for_service_account(SYSTEM, ACCOUNT)
    team.delete(HOME_POLICY)
    operator = Operator(kubeconfig, tmp_path / "log", "--namespaces", team.name)
    operator.start()
    eventually("it is ready", lambda: operator.get("/readyz")[0] == 200)
    yield Tour(plane, operator, team)
    print(operator.log[-6000:])
    operator.close()
    if not plane.api.exists(HOME_POLICY):
        Namespace(plane.api, SYSTEM).set_policy()
    team.delete(LEASE)
    shared_operator.start()


def worker(space: Namespace, name: str) -> Node:
    """The pod of a resource, be it of a run or of an errand, that has not ended."""
    label = "strop.dev/optimization"

    def ask() -> Node | None:
        live = [p for p in space.pod_list() if p["status"]["phase"] not in ("Succeeded", "Failed")]
        return next((p for p in live if p["metadata"]["labels"][label] == name), None)

    return eventually(f"a pod of {name}", ask)


def publish(space: Namespace, kubelet: Kubelet, name: str) -> None:
    """A run to its end."""
    pod = worker(space, name)
    kubelet.runs(pod)
    space.reason("Running", name)
    kubelet.ends(pod, 0, result(run_of(pod)))
    space.reason("Published", name)


def without_a_policy(tour: Tour) -> None:
    """Nobody has one: it is looked for in both places."""
    tour.team.create("early")
    tour.team.reason("NoPolicy", "early")
    tour.team.set_policy(driftChecks={"everySeconds": 31_536_000})


def a_run_and_a_look(tour: Tour, kubelet: Kubelet) -> None:
    publish(tour.team, kubelet, "early")
    due = {"checkedAt": "2026-01-01T00:00:00Z", "checkFailures": 1}
    tour.team.api.merge(f"{tour.team.resources}/early/status", {"status": due})
    kubelet.ends(worker(tour.team, "early"), 0, json.dumps({"errand": "Drift", "done": True}))
    eventually("looked", lambda: "checkFailures" not in tour.team.get("early")["status"])


def a_pause(tour: Tour) -> None:
    tour.team.create("paused")
    worker(tour.team, "paused")
    tour.team.change("paused", suspend=True)
    tour.team.reason("Suspended", "paused")


def a_farewell(tour: Tour, kubelet: Kubelet) -> None:
    tour.team.create("going", output=GOING)
    publish(tour.team, kubelet, "going")
    path = f"{tour.team.resources}/going"
    tour.team.delete(path)
    kubelet.ends(worker(tour.team, "going"), 0, json.dumps({"errand": "CleanUp", "done": True}))
    eventually("gone", lambda: not tour.team.api.exists(path))


def a_stranger(tour: Tour) -> None:
    """Somebody else's Job has the name that the run's would have."""
    made = tour.team.create("taken", suspend=True)
    uid = made["metadata"]["uid"]
    name = job_name("taken", uid, run_id(uid, spec_hash(ModelOptimizationSpec.model_validate(SPEC))))
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    tour.team.api.post(tour.team.jobs, {"metadata": {"name": name}, "spec": {"template": template, "suspend": True}})
    tour.team.change("taken", suspend=False)
    tour.team.reason("NameConflict", "taken")


def a_refused_pod(tour: Tour) -> None:
    """Its Job's Events say why."""
    quotas = f"/api/v1/namespaces/{tour.team.name}/resourcequotas"
    tour.team.api.post(quotas, {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}})
    eventually("it counts", lambda: tour.team.api.get(f"{quotas}/full")["status"].get("hard"))
    tour.team.create("refused")
    tour.team.reason("PodRefused", "refused")


def a_conflict(tour: Tour, log: Path) -> None:
    """Somebody edits a resource while its status is written: it is read again."""
    seeds = iter(range(10_000))

    def read_again() -> bool:
        tour.team.change("paused", suspend=False, seed=next(seeds))
        for number in range(20):
            path = f"{tour.team.resources}/paused"
            tour.team.api.merge(path, {"metadata": {"annotations": {"edit": str(number)}}})
        return ("ClusterRole", "strop.dev", "modeloptimizations", "get") in used(log)

    eventually("a conflict", read_again, 60)


def requests(log: Path, account: str) -> list[Node]:
    """What the API server wrote down of an account."""
    user = f"system:serviceaccount:{SYSTEM}:{account}"
    return [entry for line in log.read_text().splitlines() if (entry := json.loads(line))["user"]["username"] == user]


def used(log: Path) -> set[tuple[str, ...]]:
    """Role, group, resource and verb of each request of the tour that a role allowed."""
    found = set()
    for entry in requests(log, ACCOUNT):
        said = entry["annotations"].get("authorization.k8s.io/reason", "")
        if (role := re.search(r'of Role "tour-(\w+)"', said)) is not None:
            about = entry["objectRef"]
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            kind = {"role": "Role", "clusterrole": "ClusterRole"}[role[1]]
            found.add((kind, about.get("apiGroup", ""), resource, entry["verb"]))
    return found


def granted() -> set[tuple[str, ...]]:
    return {
        (kind, group, resource, verb)
        for kind, role in roles().items()
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def denied(log: Path, account: str, since: int = 0) -> list[str]:
    return [
        f"{entry['verb']} {entry['requestURI']}"
        for entry in requests(log, account)[since:]
        if entry["annotations"].get("authorization.k8s.io/decision") == "forbid"
    ]


@pytest.mark.timeout(180)
def test_every_right_is_used_and_no_request_is_denied(tour: Tour, kubelet: Kubelet, audit_log: Path) -> None:
    """A right too many is an attacker's, a right too few is a run that hangs in somebody's cluster and not in ours."""
    without_a_policy(tour)
    a_run_and_a_look(tour, kubelet)
    a_pause(tour)
    a_farewell(tour, kubelet)
    a_stranger(tour)
    a_refused_pod(tour)
    a_conflict(tour, audit_log)
    assert denied(audit_log, ACCOUNT) == []
    assert used(audit_log) <= granted()
    assert granted() - used(audit_log) == set(UNUSED)


def test_what_is_cluster_wide_is_never_denied_either(
    namespace: Namespace, kubelet: Kubelet, operator: Operator, audit_log: Path
) -> None:
    """The operator that acts for all namespaces has rights of its own kind."""
    before = len(requests(audit_log, "strop-operator"))
    namespace.create()
    pod = namespace.pod()
    kubelet.ends(pod, 0, result(run_of(pod)))
    namespace.reason("Published")
    assert len(requests(audit_log, "strop-operator")) > before
    assert denied(audit_log, "strop-operator", before) == []


def test_no_right_reaches_secrets_or_what_runs() -> None:
    """It creates Jobs, and so decides what runs; it needs no more than that."""
    resources = {(group, resource, verb) for _, group, resource, verb in granted()}
    assert {group for group, _, _ in resources} == {"", "batch", "strop.dev", "coordination.k8s.io"}
    assert {(resource, verb) for group, resource, verb in resources if group == ""} == {
        ("pods", "list"), ("pods", "watch"), ("events", "list"), ("events", "create"),
    }  # fmt: skip
    assert not {verb for _, _, verb in resources} & {"*", "bind", "escalate", "impersonate", "deletecollection"}
    assert POLICY["stores"][0]["credentialsSecretName"], "Secrets are named, and read by the kubelet alone"
