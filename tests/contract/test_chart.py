"""The chart: what it renders is taken by a real API server, installs, upgrades and goes; its values are checked.

What it makes for a Prometheus operator and for Grafana is tested in tests/monitoring.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster import ControlPlane, binaries
from tests.cluster.api import ApiError
from tests.cluster.shell import wait_until
from tests.contract.documents import POLICY, Document
from tests.contract.server import ROOT, Server

CHART = ROOT / "charts" / "strop"
HOME = "strop-home"
TEAMS = ("team-a", "team-b")
DIGEST = "sha256:" + "1" * 64
FALLBACK = {"policy": {part: POLICY["spec"][part] for part in ("stores", "images")}}
EVERYTHING = {
    "nameOverride": "renamed",
    "image": {"repository": "registry.example.com/strop", "digest": DIGEST, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "watchNamespaces": list(TEAMS),
    "replicas": 2,
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
    "extraLabels": {"example.org/team": "platform"},
    "networkPolicy": {"enabled": True},
    "metrics": {"annotations": False},
}
VARIANTS: dict[str, Document] = {
    "as it comes": {},
    "some namespaces": {"watchNamespaces": list(TEAMS)},
    "with a policy": FALLBACK,
    "without the CRDs": {"crds": {"install": False}},
    "everything": {**EVERYTHING, **FALLBACK},
}


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """A helm command, done; its exit code is the caller's to judge."""
    command = [str(binaries.find("helm")), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def values_file(folder: Path, values: Document) -> str:
    """`--values=` with these values."""
    path = folder / "values.json"
    path.write_text(json.dumps(values))
    return f"--values={path}"


def rendered(folder: Path, values: Document) -> list[Document]:
    """What the chart makes of these values."""
    done = helm("template", "strop", CHART, f"--namespace={HOME}", values_file(folder, values))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    """Those of one kind."""
    return [document for document in documents if document["kind"] == kind]


@pytest.fixture(scope="module")
def homes(server: Server) -> Server:
    """The server with the namespaces that the variants speak of; the chart's own admits only what is restricted."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (HOME, *TEAMS):
        labels = restricted if name == HOME else {}
        server.api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    return server


def test_helm_finds_nothing_to_complain_of() -> None:
    """Strictly: warnings too."""
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout


@pytest.mark.apiserver
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_rendered_is_taken_by_a_real_api_server(variant: str, homes: Server, tmp_path: Path) -> None:
    """A template that renders is not yet a manifest that applies."""
    path = tmp_path / "rendered.yaml"
    documents = rendered(tmp_path, VARIANTS[variant])
    path.write_text(yaml.safe_dump_all(documents))
    said = homes.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert len(said.splitlines()) == len(documents)
    assert bool(of_kind(documents, "OptimizationPolicy")) == ("policy" in VARIANTS[variant])
    assert bool(of_kind(documents, "CustomResourceDefinition")) == (variant != "without the CRDs")


@pytest.mark.apiserver
@pytest.mark.parametrize("variant", ["as it comes", "everything"])
def test_the_operators_pod_passes_the_restricted_standard(variant: str, homes: Server, tmp_path: Path) -> None:
    """A Deployment is admitted whatever its pods are: that none ever starts would show much later."""
    deployment = of_kind(rendered(tmp_path, VARIANTS[variant]), "Deployment")[0]
    template = deployment["spec"]["template"]
    account = template["spec"]["serviceAccountName"]
    homes.api.post(f"/api/v1/namespaces/{HOME}/serviceaccounts", {"metadata": {"name": account}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", **template["metadata"]}}
    pods = f"/api/v1/namespaces/{HOME}/pods?dryRun=All&fieldValidation=Strict"
    made = homes.api.post(pods, {**pod, "spec": template["spec"]})
    assert made["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    loose = {**template["spec"], "securityContext": {}}
    with pytest.raises(ApiError, match="restricted"):
        homes.api.post(pods, {**pod, "spec": loose})


@pytest.mark.parametrize(("namespaces", "kind"), [([], "ClusterRole"), (list(TEAMS), "Role")])
def test_the_operators_rights_are_those_it_is_tested_with(namespaces: list[str], kind: str, tmp_path: Path) -> None:
    """Rights that are written down twice drift apart: one is too narrow to work, or too wide to be safe."""
    source = {r["kind"]: r["rules"] for r in yaml.safe_load_all((ROOT / "operator" / "rbac.yaml").read_text())}
    documents = rendered(tmp_path, {"watchNamespaces": namespaces})
    roles = {(r["metadata"].get("namespace"), r["metadata"]["name"]): r["rules"] for r in of_kind(documents, kind)}
    home = {(r["metadata"]["namespace"], r["metadata"]["name"]): r["rules"] for r in of_kind(documents, "Role")}
    assert home[HOME, "strop-leader"] == source["Role"]
    watched = [rules for (_, name), rules in roles.items() if name == "strop"]
    assert watched == [source["ClusterRole"]] * max(len(namespaces), 1)
    bound = of_kind(documents, "ClusterRoleBinding") + of_kind(documents, "RoleBinding")
    assert len(bound) == len(watched) + 1
    assert all(binding["subjects"][0]["namespace"] == HOME for binding in bound)


@pytest.mark.parametrize(
    "values",
    [
        {"imagee": {}},
        {"image": {"repository": "x", "sha": DIGEST}},
        {"image": {"repository": "x", "digest": "sha256:12"}},
        {"watchNamespaces": "team-a"},
        {"watchNamespaces": ["Team_A"]},
        {"replicas": 0},
        {"policy": {"store": []}},
        {"policy": {"driftCheck": {}}},
        {"metrics": {"podmonitor": True}},
    ],
    ids=json.dumps,
)
def test_a_misspelt_value_is_refused(values: Document, tmp_path: Path) -> None:
    """Helm ignores what it does not know: an operator of all namespaces instead of one."""
    done = helm("template", "strop", CHART, values_file(tmp_path, values))
    assert done.returncode != 0
    assert "schema" in done.stderr


def _unknown(values: Any, schema: Document, path: str = "values") -> Iterator[str]:
    """Values below which the schema has no word, and words of the schema that no value shows."""
    if schema.get("additionalProperties") is not False:
        return
    known = schema["properties"]
    yield from (f"{path}.{name}" for name in values.keys() ^ known.keys())
    for name in values.keys() & known.keys():
        yield from _unknown(values[name], known[name], f"{path}.{name}")


def test_the_schema_knows_every_value_and_every_value_is_shown() -> None:
    """values.yaml is the chart's reference."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    # `global` is Helm's own; an empty proxy would be none, and so the others.
    assert sorted(_unknown(values, schema)) == [
        "values.global",
        "values.policy.driftChecks",
        "values.policy.proxy",
        "values.policy.signing",
    ]


def test_the_charts_copies_are_current() -> None:
    """A chart with yesterday's CRDs or rights installs yesterday's release."""
    done = subprocess.run([sys.executable, ROOT / "charts" / "sync.py", "--check"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("variant", ["as it comes", "everything"])
def test_before_the_operator_goes_nothing_is_left_waiting_for_it(variant: str, tmp_path: Path) -> None:
    """The hook must run the operator's own image, under its account, where it serves, before Helm takes those away."""
    documents = rendered(tmp_path, VARIANTS[variant])
    (job,), (deployment,) = of_kind(documents, "Job"), of_kind(documents, "Deployment")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    assert job["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    hook, served = job["spec"]["template"]["spec"], deployment["spec"]["template"]["spec"]
    assert hook["serviceAccountName"] == served["serviceAccountName"]
    for part in ("nodeSelector", "tolerations", "securityContext"):
        assert hook.get(part) == served.get(part)
    (leaving,), (operator,) = hook["containers"], served["containers"]
    for part in ("image", "imagePullPolicy", "env", "securityContext"):
        assert leaving[part] == operator[part]
    assert leaving["command"] == ["python", "-m", "strop_operator.uninstall"]
    assert job["spec"]["activeDeadlineSeconds"] < 300, "Helm waits five minutes for a hook"


def uninstall(plane: ControlPlane, *cluster: str) -> None:
    """Uninstall; no node runs the hook's pod here, so that its Job is said to have ended well."""
    path = f"/apis/batch/v1/namespaces/{HOME}/jobs/strop-uninstall"
    command = [str(binaries.find("helm")), "uninstall", "strop", *cluster]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as leaving:
        wait_until("the hook", lambda: plane.api.exists(path), 60)
        now = "2026-01-01T00:00:00Z"
        ended = [
            {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")
        ]
        status = {"startTime": now, "completionTime": now, "succeeded": 1, "uncountedTerminatedPods": {}}
        plane.api.merge(f"{path}/status", {"status": status | {"conditions": ended}})
        said = leaving.communicate(timeout=60)[0]
    assert leaving.returncode == 0, said


@pytest.mark.apiserver
@pytest.mark.parametrize("apply", [(), ("--server-side=false",)], ids=["server-side", "as Helm 3 does"])
def test_the_chart_installs_upgrades_and_goes_and_leaves_what_users_own(apply: tuple[str, ...], tmp_path: Path) -> None:
    """Uninstalling the operator must not delete every ModelOptimization with its kind."""
    path = f"/apis/strop.dev/v1alpha1/namespaces/{HOME}/optimizationpolicies/default"
    with ControlPlane(controllers=("serviceaccount-controller",)) as plane:
        cluster = (f"--kubeconfig={plane.kubeconfig}", f"--namespace={HOME}")
        values = values_file(tmp_path, FALLBACK)
        done = helm("install", "strop", CHART, "--create-namespace", values, *cluster, *apply)
        assert done.returncode == 0, done.stderr
        assert plane.api.get(path)["spec"]["stores"][0]["name"] == "default"
        for allowed in ("true", "false"):
            done = helm("upgrade", "strop", CHART, f"--set=policy.allowCode={allowed}", values, *cluster, *apply)
            assert done.returncode == 0, done.stderr
            # Made anew: changed in place, Helm 3 would take over what it did not make without changing it.
            assert plane.api.get(path)["spec"]["allowCode"] is (allowed == "true")
        uninstall(plane, *cluster)
        done = helm("install", "strop", CHART, values, *cluster, *apply)
        assert done.returncode == 0, done.stderr
        assert plane.api.get(path)["spec"]["allowCode"] is False
        uninstall(plane, *cluster)
        assert plane.api.exists(path)
        assert not plane.api.exists(f"/apis/apps/v1/namespaces/{HOME}/deployments/strop")
        assert not plane.api.exists("/apis/rbac.authorization.k8s.io/v1/clusterroles/strop")
