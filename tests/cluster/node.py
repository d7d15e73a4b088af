"""The node: containerd, kubelet, kube-proxy, the scheduler that fills it, and what their pods leave behind."""

import os
import shutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from .api import Api
from .pki import Authority
from .processes import Processes
from .settings import BIN, CONF, DNS_VIP, HERE, NODE, NODE_IP, PKI, PODS, REGISTRY, RUNTIME, SERVICES, SOCKET, STATE
from .shell import render, run, write

_PROCESSES = Processes(STATE)
_VALUES = {
    "CONF": CONF,
    "DNS_VIP": DNS_VIP,
    "HOST": NODE_IP,
    "NODE": NODE,
    "PKI": PKI,
    "PODS": PODS,
    "REGISTRY": REGISTRY,
    "RUNTIME": RUNTIME,
    "SERVICES": SERVICES,
    "SOCKET": SOCKET,
    "STATE": STATE,
}


def credentials(authority: Authority, url: str) -> None:
    """Certificates and kubeconfigs of the node's components."""
    authority.issue("kubelet-server", NODE, addresses=[f"DNS:{NODE}", f"IP:{NODE_IP}"])
    authority.client_kubeconfig(CONF / "kubelet.kubeconfig", url, f"system:node:{NODE}", ["system:nodes"])
    for component in ("kube-scheduler", "kube-proxy"):
        authority.client_kubeconfig(CONF / f"{component}.kubeconfig", url, f"system:{component}")


def start_runtime() -> None:
    """Start containerd and wait until it answers."""
    RUNTIME.mkdir(parents=True, exist_ok=True)
    _configure("hosts.toml", CONF / "certs.d" / REGISTRY / "hosts.toml")
    _PROCESSES.start("containerd", ["containerd", "--config", _configure("containerd.toml")])
    _PROCESSES.await_ready("containerd", _runtime_answers)


def start(kubeconfig: Path) -> None:
    """Start what needs the API server; the node is Ready some seconds later."""
    _configure("kubelet.yaml")
    _configure("kube-proxy.yaml")
    for name, binary in {"scheduler": "kube-scheduler", "kubelet": "kubelet", "kube-proxy": "kube-proxy"}.items():
        flags = _configure(f"{name}.flags").read_text().splitlines()
        _PROCESSES.start(name, [BIN / binary, *flags])
    _PROCESSES.start("netpol", [sys.executable, HERE, "enforce-policies", kubeconfig])


def is_ready(api: Api) -> bool:
    """Whether the kubelet says that pods may run."""
    if not api.exists(f"/api/v1/nodes/{NODE}"):
        return False
    conditions = api.get(f"/api/v1/nodes/{NODE}")["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def offer_gpus(api: Api, count: int) -> None:
    """The kubelet keeps an extended resource that is patched into its status, and counts no devices for it."""
    amount = {"nvidia.com/gpu": str(count)}
    api.merge(f"/api/v1/nodes/{NODE}/status", {"status": {"capacity": amount, "allocatable": amount}})


def stop() -> None:
    """Stop the node's components, end every container, and remove its mounts and files."""
    for name in ("kubelet", "netpol", "kube-proxy", "scheduler"):
        _PROCESSES.stop(name)
    if _PROCESSES.alive("containerd"):
        _end_containers()
        _PROCESSES.stop("containerd")
    _end_shims()
    _unmount()
    for left in [*Path("/run/netns").glob("cni-*"), *Path("/var/log/containers").glob("*.log")]:
        left.unlink(missing_ok=True)
    for folder in (RUNTIME, Path("/var/lib/kubelet/device-plugins")):
        shutil.rmtree(folder, ignore_errors=True)


def _configure(name: str, path: Path | None = None) -> Path:
    return write(path or CONF / name, render(name, **_VALUES))


def _runtime_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:  # `ctr version` waits 10 s for a socket that is not there
        return probe.connect_ex(str(SOCKET)) == 0


def _end_containers() -> None:
    ctr = ("ctr", "-a", SOCKET, "-n", "k8s.io")
    for task in run(*ctr, "tasks", "ls", "-q", check=False).split():
        run(*ctr, "tasks", "kill", "-s", "SIGKILL", "-a", task, check=False)
        run(*ctr, "tasks", "rm", "-f", task, check=False)
    for container in run(*ctr, "containers", "ls", "-q", check=False).split():
        run(*ctr, "containers", "rm", container, check=False)


def _end_shims() -> None:
    """The supervisors of containers that outlived their containerd, known by its socket."""
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            argv = cmdline.read_text().split("\0")
            if "containerd-shim-runc-v2" in argv[0] and str(SOCKET) in argv:
                os.kill(int(cmdline.parent.name), signal.SIGKILL)


def _unmount() -> None:
    ours = (f"{STATE}/", f"{RUNTIME}/", "/run/netns/cni-", "/var/run/netns/cni-")
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for line in reversed(mounts):
        point = line.split()[1].replace("\\040", " ")
        if point.startswith(ours):
            run("umount", "-l", point)
