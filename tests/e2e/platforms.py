"""Where the stack runs: a given cluster, kind where Docker is, else a real node made by tests/cluster.

Never the current KUBECONFIG: only STROP_E2E_KUBECONFIG is taken, and only a cluster that carries the tests' marker.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster import binaries, lifecycle, packages, registry
from cluster import images as buildah
from cluster.settings import BIN, MARKER
from e2e.images import Image, minio
from e2e.shell import ROOT, Kubectl, StackError, run, say, succeeds

HERE = Path(__file__).resolve().parent


class Platform(Protocol):
    """A cluster that belongs to the tests."""

    kubectl: Kubectl
    helm: Path
    owned: bool
    """Whether the tests made it and may break its node."""
    bare: bool
    """Whether its components are processes of this machine, which `cluster.faults` ends and starts."""

    def image(self, image: Image) -> str:
        """Build and push; the reference by digest that pods use."""

    def minio(self) -> str:
        """The reference of the MinIO image."""

    def down(self) -> None:
        """End what was started here."""


class OwnNode:
    """One real node: etcd, API server, kubelet and the rest, as root on this machine."""

    owned = bare = True

    def __init__(self) -> None:
        if os.geteuid():
            raise StackError("a node of its own needs root; or install Docker and kind")
        packages.install(["prometheus"])
        binaries.build([*binaries.NODE_COMMANDS, "helm", "minio"])
        self._started = not lifecycle.is_ours()
        if self._started:
            lifecycle.up()
        self.kubectl, self.helm = Kubectl(BIN / "kubectl", lifecycle.ADMIN), BIN / "helm"

    def image(self, image: Image) -> str:
        """Build with buildah unless the registry has this very content."""
        if registry.digest("base:1") is None:
            buildah.build_base()
        tag = image.tag
        if registry.digest(tag) is None:
            arguments = [word for a in ("BASE_IMAGE=localhost/base:1", *image.arguments) for word in ("--build-arg", a)]
            buildah.build(tag, image.context, ["-f", str(image.dockerfile), *arguments])
        return registry.digest_reference(tag)

    def minio(self) -> str:
        """MinIO from its Go module."""
        return self.image(minio(BIN / "minio"))

    def down(self) -> None:
        """Stop the node if it was started here; its images stay."""
        if self._started:
            lifecycle.down()


class Kind:
    """A kind cluster with a registry beside it, as kind's documentation describes."""

    owned, bare = True, False
    _REGISTRY, _NAME = "127.0.0.1:5001", "strop-e2e"

    def __init__(self) -> None:
        binaries.build(["kubectl", "helm", "minio"])
        kubeconfig = ROOT / "build" / "kind.kubeconfig"
        kubeconfig.parent.mkdir(exist_ok=True)
        self._started = self._NAME not in run("kind", "get", "clusters", check=False).split()
        if self._started:
            run("kind", "create", "cluster", "--name", self._NAME, "--config", HERE / "kind.yaml")
        kubeconfig.write_text(run("kind", "get", "kubeconfig", "--name", self._NAME))
        self.kubectl, self.helm = Kubectl(BIN / "kubectl", kubeconfig), BIN / "helm"
        self._registry()
        self.kubectl("-n", "kube-system", "create", "configmap", MARKER, check=False)

    def _registry(self) -> None:
        host, port = self._REGISTRY.split(":")
        if "strop-registry" not in run("docker", "ps", "--format", "{{.Names}}").split():
            words = ("docker", "run", "-d", "--name", "strop-registry", "-p", f"{host}:{port}:5000")
            run(*words, "--network", "bridge", "docker.io/library/registry:2")
        run("docker", "network", "connect", "kind", "strop-registry", check=False)
        folder = f"/etc/containerd/certs.d/{self._REGISTRY}"
        hosts = '[host."http://strop-registry:5000"]\n'
        for node in run("kind", "get", "nodes", "--name", self._NAME).split():
            run("docker", "exec", node, "mkdir", "-p", folder)
            run("docker", "exec", "-i", node, "cp", "/dev/stdin", f"{folder}/hosts.toml", stdin=hosts)

    def image(self, image: Image) -> str:
        """Build with docker and push to the registry beside the cluster."""
        reference = f"{self._REGISTRY}/{image.tag}"
        arguments = [word for argument in image.arguments for word in ("--build-arg", argument)]
        run("docker", "build", "-q", "-t", reference, "-f", image.dockerfile, *arguments, image.context)
        run("docker", "push", "-q", reference)
        return run("docker", "inspect", "--format", "{{index .RepoDigests 0}}", reference).strip()

    def minio(self) -> str:
        """MinIO from its Go module."""
        return self.image(minio(BIN / "minio"))

    def down(self) -> None:
        """Delete the cluster and its registry if they were made here."""
        if self._started:
            run("kind", "delete", "cluster", "--name", self._NAME)
            run("docker", "rm", "-f", "strop-registry", check=False)


class Given:
    """A cluster somebody names by STROP_E2E_KUBECONFIG; its images are named too."""

    owned = bare = False

    def __init__(self, kubeconfig: Path) -> None:
        self.kubectl = Kubectl(shutil.which("kubectl") or BIN / "kubectl", kubeconfig)
        self.helm = Path(shutil.which("helm") or BIN / "helm")
        if not self.kubectl.get("-n", "kube-system", "configmap", MARKER):
            raise StackError(f"this cluster does not carry the tests' marker: ConfigMap kube-system/{MARKER}")

    def image(self, image: Image) -> str:
        """From STROP_E2E_STROP_OPERATOR, STROP_E2E_STROP_WORKER and STROP_E2E_MINIO, by digest."""
        variable = f"STROP_E2E_{image.name.upper().replace('-', '_')}"
        try:
            return os.environ[variable]
        except KeyError:
            raise StackError(f"a given cluster needs {variable}: the image by digest") from None

    def minio(self) -> str:
        """The image that STROP_E2E_MINIO names."""
        return self.image(Image("minio", HERE, HERE, ()))

    def down(self) -> None:
        """Nothing was started."""


def choose() -> Platform:
    """The first platform that is possible here. Raises StackError."""
    if given := os.environ.get("STROP_E2E_KUBECONFIG"):
        return Given(Path(given))
    if shutil.which("kind") and succeeds("docker", "info"):
        say("Docker and kind are here: a kind cluster")
        return Kind()
    return OwnNode()
