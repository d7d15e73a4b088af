"""A real API server, as this folder's tests talk to it."""

import json
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tests.cluster import ControlPlane, binaries
from tests.cluster.api import Api, ApiError
from tests.cluster.shell import wait_until

ROOT = Path(__file__).resolve().parents[2]
Document = dict[str, Any]
GROUP_PATH = "/apis/strop.dev/v1alpha1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True)
class Refusal:
    """What the API server said: the HTTP status, and message by field."""

    status: int
    fields: dict[str, str]
    message: str


class Server:
    """The API server, as this folder's tests talk to it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.api = plane, plane.api

    def create(self, document: Document, *, dry_run: bool = True) -> Document:
        """The object as the server would store it, under strict validation. Raises ApiError."""
        plural = "modeloptimizations" if document["kind"] == "ModelOptimization" else "optimizationpolicies"
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self.api.post(f"{GROUP_PATH}/namespaces/default/{plural}{query}", document)

    def judge(self, document: Document) -> Refusal | None:
        """None when the server would take it."""
        try:
            self.create(document)
        except ApiError as error:
            return _refusal(error)
        return None

    def kubectl(self, *arguments: str) -> str:
        """Standard output of a kubectl command."""
        command = [str(binaries.find("kubectl")), f"--kubeconfig={self.plane.kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _refusal(error: ApiError) -> Refusal:
    answer = json.loads(str(error).partition(": ")[2])
    causes = answer.get("details", {}).get("causes", [])
    return Refusal(error.status, {cause.get("field", ""): cause["message"] for cause in causes}, answer["message"])


def install(api: Api) -> None:
    """Create both definitions and wait until they are served."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        api.post(CRDS, yaml.safe_load(path.read_text()))
    for plural in ("modeloptimizations", "optimizationpolicies"):
        served = f"{GROUP_PATH}/{plural}"
        wait_until(plural, partial(api.exists, served), 30)
        wait_until(f"the documentation of {plural}", partial(_documented, api, served), 30)


def _documented(api: Api, path: str) -> bool:
    return api.exists("/openapi/v3" + GROUP_PATH) and path in str(api.get("/openapi/v3" + GROUP_PATH)["paths"].keys())
