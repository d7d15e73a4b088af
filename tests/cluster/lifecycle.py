"""The whole cluster: up, down, and what it is doing."""

import shlex
import shutil

from . import binaries, cgroups, images, network, node, registry
from .api import Api
from .control_plane import Addresses, ControlPlane
from .ports import is_free
from .processes import Processes
from .settings import BIN, HERE, MARKER, NODE_IP, PORTS, STATE
from .shell import ClusterError, run, say, wait_until

_PROCESSES = Processes(STATE)
_CONTENT = ("etcd", "pki", "conf", "cni", "ipam", "run", "kubelet", "pod-logs", "logs", "build", "base")
_IMAGES = ("containerd", "registry")


def control_plane() -> ControlPlane:
    """The cluster's control plane, running or not."""
    etcd, peer = PORTS["etcd"]
    addresses = Addresses(NODE_IP, PORTS["apiserver"][0], etcd, peer, PORTS["kcm"][0])
    return ControlPlane(STATE, addresses, controllers=["*"])


ADMIN = control_plane().kubeconfig


def api() -> Api:
    """A client as admin. Raises ClusterError when there is no cluster."""
    if not ADMIN.exists():
        raise ClusterError("the cluster is down; run `python3 tests/cluster up`")
    return Api(ADMIN)


def kubectl(*words: str, stdin: str | None = None) -> str:
    """What kubectl prints, as admin. Raises ClusterError."""
    return run(BIN / "kubectl", "--kubeconfig", str(ADMIN), *words, stdin=stdin)


def is_ours() -> bool:
    """Whether a cluster runs here that carries the marker of a test cluster."""
    return ADMIN.exists() and api().exists(f"/api/v1/namespaces/kube-system/configmaps/{MARKER}")


def up() -> None:
    """Start everything, and wait until a pod could run and resolve names. Raises ClusterError."""
    binaries.require(binaries.NODE_COMMANDS)
    cgroups.check()
    _check_ports()
    network.up()
    plane = control_plane()
    plane.launch()
    node.credentials(plane.authority, plane.url)
    registry.start()
    node.start_runtime()
    images.build_static("pause:1", "pause", "USER 65535\n")
    images.build_static("coredns:1", "coredns")
    plane.await_ready()
    say("control plane ready")
    node.start(ADMIN)
    for manifest in ("coredns.yaml", "marker.yaml"):
        kubectl("apply", "-f", str(HERE / "conf" / manifest))
    client = api()
    wait_until(f"node Ready (logs: {STATE / 'logs'})", lambda: node.is_ready(client))
    wait_until(f"cluster DNS ready (logs: {STATE / 'logs'})", lambda: _dns_ready(client))
    say("up")


def down(wipe: bool = False) -> None:
    """Stop everything and forget the cluster's content; `wipe` also drops the images."""
    node.stop()
    for name in ("kcm", "apiserver", "etcd", "registry"):
        _PROCESSES.stop(name)
    network.down()
    cgroups.remove_pods()
    for folder in (*_CONTENT, *(_IMAGES if wipe else ())):
        shutil.rmtree(STATE / folder, ignore_errors=True)
    say("down, wiped" if wipe else f"down; images stay in {STATE}")


def status() -> str:
    """Each process and whether it runs; the node and all pods."""
    lines = []
    for name in _PROCESSES.names():
        record = _PROCESSES.record(name)
        lines.append(f"{name:12} pid {record.pid}" if record and record.alive else f"{name:12} not running")
    if _PROCESSES.alive("apiserver"):
        lines.append(kubectl("get", "node,pods", "-A", "-o", "wide"))
    return "\n".join(lines) or "down"


def _check_ports() -> None:
    taken = {
        port: name
        for name, ports in PORTS.items()
        for port in ports
        if not _PROCESSES.alive(name) and not is_free(port)
    }
    if taken:
        which = ", ".join(f"{port} ({name})" for port, name in taken.items())
        holders = run("ss", "-Hltnp", " or ".join(f"sport = :{port}" for port in taken), check=False)
        raise ClusterError(f"ports that the cluster needs are taken: {which}\n{holders}".strip())


def _dns_ready(client: Api) -> bool:
    deployment = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
    return bool(client.get(deployment)["status"].get("readyReplicas") == 1)


def describe() -> str:
    """What a shell needs to use the cluster."""
    return f"export KUBECONFIG={shlex.quote(str(ADMIN))} PATH={shlex.quote(str(BIN))}:$PATH"
