"""The image registry on the loopback, that the node pulls from."""

import urllib.error
import urllib.request

from .processes import Processes
from .settings import CONF, REGISTRY, STATE
from .shell import ClusterError, render, write

_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def start() -> None:
    """Start it unless it runs; its images lie in the state folder."""
    processes = Processes(STATE)
    config = write(CONF / "registry.yaml", render("registry.yaml", STATE=STATE, REGISTRY=REGISTRY))
    processes.start("registry", ["docker-registry", "serve", config])
    processes.await_ready("registry", _answers)


def reference(tag: str) -> str:
    """What a pod spec names an image by."""
    return f"{REGISTRY}/{tag}"


def digest(tag: str) -> str | None:
    """The manifest digest of REPOSITORY:VERSION; None when it was never pushed."""
    repository, _, version = tag.rpartition(":")
    if not repository:
        raise ClusterError(f"{tag}: an image here is named NAME:VERSION")
    url = f"http://{REGISTRY}/v2/{repository}/manifests/{version}"
    request = urllib.request.Request(url, headers={"Accept": _MANIFESTS}, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.headers["Docker-Content-Digest"])
    except urllib.error.HTTPError as refused:
        refused.close()
        if refused.code == 404:
            return None
        raise ClusterError(f"the registry answers {refused.code} for {tag}") from None


def digest_reference(tag: str) -> str:
    """The reference that always means the bytes that the tag has now. Raises ClusterError."""
    found = digest(tag)
    if found is None:
        raise ClusterError(f"{tag} is not in the registry")
    return f"{reference(tag)}@{found}"


def _answers() -> bool:
    try:
        with urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=2):
            return True
    except urllib.error.HTTPError as refused:
        refused.close()
    except OSError:
        pass
    return False
