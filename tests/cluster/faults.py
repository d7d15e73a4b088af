"""What goes wrong in clusters, on request: components that die or hang, pods that are evicted, a drained node."""

from .api import Api
from .lifecycle import kubectl
from .processes import Processes
from .settings import NODE, STATE

_PROCESSES = Processes(STATE)


def kill(component: str) -> None:
    """SIGKILL; it stays down until start()."""
    _PROCESSES.stop(component, "KILL")


def start(component: str) -> None:
    """Bring a component back with the command line it had."""
    _PROCESSES.start_again(component)


def freeze(component: str) -> None:
    """SIGSTOP: connections stay open, nothing is answered."""
    _PROCESSES.stop(component, "STOP")


def thaw(component: str) -> None:
    """Go on after freeze()."""
    _PROCESSES.stop(component, "CONT")


def evict(api: Api, namespace: str, pod: str) -> None:
    """Through the eviction API: the pod gets DisruptionTarget and its grace period."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    api.post(f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", body)


def drain(selector: str, seconds: int = 40) -> None:
    """Cordon the node, evict the pods that the label selector names, and let it take pods again."""
    force = ("--force", "--ignore-daemonsets", "--delete-emptydir-data")
    try:
        kubectl("drain", NODE, *force, f"--pod-selector={selector}", f"--timeout={seconds}s")
    finally:
        kubectl("uncordon", NODE)
