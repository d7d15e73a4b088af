"""Keeps the node's iptables in step with the cluster's NetworkPolicies.

Ingress is filtered on FORWARD, so what the node itself sends (the kubelet's probes) always passes; egress on
FORWARD and INPUT, so an isolated pod needs a rule to reach the API server, by its address after DNAT.
"""

import threading
import time
from pathlib import Path

from .api import Api, ApiError
from .netpol import TOP, Ruleset, parse, translate
from .settings import BRIDGE
from .shell import ClusterError, run, succeeds

_PATHS = ("/apis/networking.k8s.io/v1/networkpolicies", "/api/v1/pods", "/api/v1/namespaces")
_HOOKS = (("FORWARD",), ("INPUT", "-i", BRIDGE))


def enforce(kubeconfig: Path) -> None:
    """Forever: on every change list everything anew, and write the rules when they differ."""
    api, changed, current = Api(kubeconfig), threading.Event(), Ruleset()
    for path in _PATHS:
        threading.Thread(target=_watch, args=(api, path, changed), daemon=True).start()
    while True:
        changed.wait(30)
        changed.clear()
        try:
            wanted = translate(parse(*(api.get(path)["items"] for path in _PATHS)))
            if wanted != current:
                _apply(wanted, current)
                current = wanted
                print(f"{time.strftime('%T')} {len(wanted.chains)} chains", flush=True)
        except (OSError, ClusterError) as error:
            print(f"{time.strftime('%T')} {error}", flush=True)
            time.sleep(0.5)
            changed.set()


def _watch(api: Api, path: str, changed: threading.Event) -> None:
    while True:
        try:
            with api.open(f"{path}?watch=1&timeoutSeconds=300", timeout=320) as events:
                for _ in events:
                    changed.set()
        except (OSError, ApiError):
            time.sleep(0.5)


def _apply(wanted: Ruleset, current: Ruleset) -> None:
    """In one transaction; the old chains are emptied and removed in it."""
    chains = {*wanted.chains, *current.chains}
    lines = ["*filter", f":{TOP} - [0:0]", *(f":{chain} - [0:0]" for chain in chains), *wanted.top]
    lines += [rule for rules in wanted.chains.values() for rule in rules]
    lines += [f"-X {chain}" for chain in current.chains if chain not in wanted.chains]
    run("iptables-restore", "-w", "--noflush", stdin="\n".join([*lines, "COMMIT", ""]))
    for hook in _HOOKS:
        if not succeeds("iptables", "-w", "-C", *hook, "-j", TOP):
            run("iptables", "-w", "-I", *hook, "-j", TOP)
