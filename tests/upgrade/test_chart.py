"""The chart of an earlier release is upgraded to today's on a real API server that holds its objects."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import ControlPlane, binaries
from cluster.api import Api
from cluster.shell import wait_until

from .conftest import Document, Release
from .test_readable import lost

CHART = Path(__file__).resolve().parents[2] / "charts" / "strop"
SYSTEM, NAME = "strop-system", "strop-operator"
GROUP = "/apis/strop.dev/v1alpha1"

pytestmark = pytest.mark.apiserver


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(controllers=("serviceaccount-controller",)) as plane:
        yield plane


def helm(plane: ControlPlane, chart: Path, values: Document) -> None:
    """Install, or upgrade what is installed; then the CRDs are served."""
    command = [str(binaries.find("helm")), "--kubeconfig", str(plane.kubeconfig), "-n", SYSTEM, "upgrade", "--install"]
    done = subprocess.run(
        [*command, NAME, str(chart), "--create-namespace", "-f", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wait_until("the CRDs", lambda: plane.api.exists(f"{GROUP}/optimizationpolicies"), 30)


def restore(api: Api, document: Document) -> str:
    """Create the object as it was stored, with its status; its path."""
    meta = document["metadata"]
    folder = f"{GROUP}/namespaces/{meta['namespace']}/modeloptimizations"
    kept = {key: meta[key] for key in ("name", "labels", "annotations") if key in meta}
    api.post(folder + "?fieldValidation=Strict", document | {"metadata": kept})
    path = f"{folder}/{meta['name']}"
    api.merge(f"{path}/status?fieldValidation=Strict", {"status": document["status"]})
    return path


def test_objects_outlive_an_upgrade_unchanged(plane: ControlPlane, release: Release) -> None:
    """The new CRDs would prune a field, refuse a value that is stored, or not be installed at all."""
    api = plane.api
    policy = {"policy": release.policy["spec"]}
    helm(plane, release.chart, {})
    helm(plane, release.chart, policy)
    for namespace in {d["metadata"]["namespace"] for d in release.resources.values()}:
        api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
    paths = {restore(api, document): document for document in release.resources.values()}
    helm(plane, CHART, policy)
    for path, before in paths.items():
        after = api.get(path)
        assert lost({key: before[key] for key in ("spec", "status")}, after) == []
        api.merge(f"{path}?fieldValidation=Strict", {"metadata": {"labels": {"touched": "yes"}}})
        api.merge(f"{path}/status?fieldValidation=Strict", {"status": {"observedGeneration": 2}})
        assert lost(before["spec"], api.get(path)["spec"]) == []
    kept = api.get(f"{GROUP}/namespaces/{SYSTEM}/optimizationpolicies/default")
    assert lost(release.policy["spec"], kept["spec"]) == []
