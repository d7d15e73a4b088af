"""Real servers for strop's tests. `python3 tests/cluster VERB`, as root for all that changes the machine.

  install [helm|kwok|minio|prometheus|chromium ...]
                               packages and binaries of the cluster, and extras; skips what is there
  provide PROGRAM...           only these programs, from the first source that has them; needs no root
  up                           start the cluster, wait until it works
  down [--wipe]                stop it and forget its content; --wipe also drops the images
  status                       what runs; the node and the pods
  kubeconfig                   path of the admin kubeconfig
  kubectl ARGS...              the cluster's own kubectl, as admin
  gpu N                        the node offers N nvidia.com/gpu
  stop|start|restart NAME [SIG]
                               one component: etcd apiserver kcm scheduler kubelet kube-proxy
                               containerd registry netpol; `stop NAME STOP` freezes, `stop NAME CONT` thaws
  evict NAMESPACE POD          through the eviction API
  drain SELECTOR               evict the pods with these labels from a cordoned node, then uncordon it
  image-base                   build base:1 (Python and pip) and push it
  image TAG CONTEXT [-f FILE] [--build-arg K=V]...
                               build and push; prints the reference for a pod spec
  digest TAG                   the reference by digest of an image that was pushed

STROP_CLUSTER_CACHE (~/.cache/strop/cluster): binaries. STROP_CLUSTER_DIR (/tmp/strop-cluster): state and logs.
"""

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

# Run as a folder this file has no package; under its name the same modules serve commands and tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster import binaries, enforcer, faults, images, lifecycle, node, packages, registry
from cluster.processes import Processes
from cluster.settings import BIN, STATE, TOOLS
from cluster.shell import ClusterError, say

_PROCESSES = Processes(STATE)
_FREE_FOR_ALL = ("install", "provide", "kubeconfig", "kubectl", "status", "digest")


def _install(*extras: str) -> None:
    known = [*TOOLS, *packages.OPTIONAL]
    if unknown := [name for name in extras if name not in known]:
        raise ClusterError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    packages.install([name for name in extras if name in packages.OPTIONAL])
    binaries.build([*binaries.NODE_COMMANDS, *(name for name in extras if name in TOOLS)])
    say(f"installed in {BIN}")


def _provide(*names: str) -> None:
    for name in names:
        print(binaries.find(name))


def _up() -> None:
    lifecycle.up()
    print(lifecycle.describe())


def _down(*flags: str) -> None:
    if unknown := set(flags) - {"--wipe"}:
        raise ClusterError(f"unknown: {', '.join(unknown)}")
    lifecycle.down(wipe="--wipe" in flags)


def _kubectl(*words: str) -> None:
    binaries.require(("kubectl",))
    os.execv(BIN / "kubectl", ["kubectl", "--kubeconfig", str(lifecycle.ADMIN), *words])


VERBS: dict[str, Callable[..., None]] = {
    "install": _install,
    "provide": _provide,
    "up": _up,
    "down": _down,
    "status": lambda: print(lifecycle.status()),
    "kubeconfig": lambda: print(lifecycle.ADMIN),
    "kubectl": _kubectl,
    "gpu": lambda count: node.offer_gpus(lifecycle.api(), int(count)),
    "stop": _PROCESSES.stop,
    "start": _PROCESSES.start_again,
    "restart": _PROCESSES.restart,
    "evict": lambda namespace, pod: faults.evict(lifecycle.api(), namespace, pod),
    "drain": faults.drain,
    "image-base": lambda: print(images.build_base()),
    "image": lambda tag, context, *options: print(images.build(tag, Path(context), options)),
    "digest": lambda tag: print(registry.digest_reference(tag)),
    "enforce-policies": lambda kubeconfig: enforcer.enforce(Path(kubeconfig)),
}


def main(verb: str = "", *words: str) -> None:
    """Run one verb; exits with its reason when it cannot."""
    try:
        inspect.signature(VERBS[verb]).bind(*words)
    except (KeyError, TypeError):  # no such verb, or not its words
        sys.exit(__doc__)
    if verb not in _FREE_FOR_ALL and os.geteuid():
        sys.exit(f"`{verb}` changes the machine: run it as root")
    try:
        VERBS[verb](*words)
    except (ClusterError, OSError) as error:
        sys.exit(f"strop's test cluster: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
