"""The node's address, the pods' bridge, and the rules that let pods out; what `up` adds, `down` removes."""

from pathlib import Path

from .settings import BRIDGE, GATEWAY, NODE_IP, NODE_PODS, PODS, STATE
from .shell import render, run, succeeds, write

_MASQUERADE = (
    *("POSTROUTING", "-s", NODE_PODS, "!", "-o", BRIDGE, "!", "-d", PODS),
    *("-m", "comment", "--comment", "KUBE-strop masquerade", "-j", "MASQUERADE"),
)


def up() -> None:
    """Idempotent. Needs root."""
    run("ip", "addr", "replace", f"{NODE_IP}/32", "dev", "lo")
    run("ip", "link", "add", BRIDGE, "type", "bridge", check=False)
    run("ip", "addr", "replace", f"{GATEWAY}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    for key in ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables"):
        Path(f"/proc/sys/net/{key}").write_text("1")
    if not succeeds("iptables", "-w", "-t", "nat", "-C", *_MASQUERADE):
        run("iptables", "-w", "-t", "nat", "-A", *_MASQUERADE)
    plugins = render("10-bridge.conflist", STATE=STATE, NODE_PODS=NODE_PODS, BRIDGE=BRIDGE)
    write(STATE / "cni" / "10-bridge.conflist", plugins)


def down() -> None:
    """Remove the bridge, the address and every rule of Kubernetes and CNI; ip_forward stays on."""
    run("ip", "link", "del", BRIDGE, check=False)
    run("ip", "addr", "del", f"{NODE_IP}/32", "dev", "lo", check=False)
    for tool in ("iptables", "ip6tables"):
        rules = run(f"{tool}-save", check=False)
        kept = [line for line in rules.splitlines() if "KUBE-" not in line and "CNI-" not in line and line[:1] != "#"]
        if "KUBE-" in rules or "CNI-" in rules:
            run(f"{tool}-restore", "-w", stdin="\n".join(kept) + "\n", check=False)
