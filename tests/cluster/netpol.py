"""NetworkPolicy as iptables rules: a pure translation of what the API server holds.

One chain per isolated pod and direction. IPv4; TCP, UDP and SCTP; pod and namespace selectors, ipBlock with
except, named ports, endPort. A named port for an egress peer that is no pod matches nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOP = "KUBE-NETPOL"
_MARK = "0x100000/0x100000"  # set on packets that are inside an ipBlock and outside its exceptions

Labels = Mapping[str, str]
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod with an address of its own."""

    namespace: str
    uid: str
    ip: str
    labels: Labels
    ports: Mapping[tuple[str, str], int]  # by name and protocol


@dataclass(frozen=True)
class World:
    """All that policies speak of."""

    policies: Sequence[Json]
    pods: Sequence[Pod]
    namespaces: Mapping[str, Labels]


@dataclass
class Ruleset:
    """Rules for `iptables-restore`: those of the top chain, and those of each chain it jumps to."""

    top: list[str] = field(default_factory=lambda: [f"-A {TOP} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"])
    chains: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Direction:
    policy_type: str
    rules: str
    peers: str
    own_address: str
    peer_address: str


_DIRECTIONS = (
    _Direction("Ingress", "ingress", "from", "-d", "-s"),
    _Direction("Egress", "egress", "to", "-s", "-d"),
)


def parse(policies: Sequence[Json], pods: Sequence[Json], namespaces: Sequence[Json]) -> World:
    """The items of three API lists; pods that ended, have no address or use the node's are left out."""
    parsed = (
        Pod(
            namespace=pod["metadata"]["namespace"],
            uid=pod["metadata"]["uid"],
            ip=pod["status"]["podIP"],
            labels=pod["metadata"].get("labels", {}),
            ports={
                (port["name"], port.get("protocol", "TCP")): port["containerPort"]
                for container in pod["spec"]["containers"]
                for port in container.get("ports", [])
                if "name" in port
            },
        )
        for pod in pods
        if pod["status"].get("podIP")
        and not pod["spec"].get("hostNetwork")
        and pod["status"].get("phase") in ("Pending", "Running")
    )
    labels = {namespace["metadata"]["name"]: namespace["metadata"].get("labels", {}) for namespace in namespaces}
    return World(policies, sorted(parsed, key=lambda pod: pod.uid), labels)


def translate(world: World) -> Ruleset:
    """The rules that enforce all policies of a world."""
    rules = Ruleset()
    for pod in world.pods:
        for direction in _DIRECTIONS:
            if policies := list(_isolating(world, pod, direction)):
                chain = chain_name(direction.policy_type[0], pod.uid)
                rules.top.append(f"-A {TOP} {direction.own_address} {pod.ip}/32 -j {chain}")
                rules.chains[chain] = []
                for policy in policies:
                    _allow(rules, chain, world, pod, policy, direction)
                rules.chains[chain].append(f"-A {chain} -j DROP")
    return rules


def matches(selector: Json, labels: Labels) -> bool:
    """Whether a label selector selects; an empty one selects everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or [])


def _holds(expression: Json, labels: Labels) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case unknown:
            raise ValueError(f"label selector operator {unknown}")


def chain_name(kind: str, what: str) -> str:
    """The name of a pod's chain (kind I or E, and its UID) or of a network's exceptions; iptables allows 28 letters."""
    return f"KUBE-NP-{kind}-{hashlib.sha1(what.encode(), usedforsecurity=False).hexdigest()[:12]}"


def _isolating(world: World, pod: Pod, direction: _Direction) -> Iterator[Json]:
    for policy in world.policies:
        spec = policy["spec"]
        if (
            policy["metadata"]["namespace"] == pod.namespace
            and direction.policy_type in spec.get("policyTypes", ["Ingress"])
            and matches(spec.get("podSelector") or {}, pod.labels)
        ):
            yield spec


def _allow(rules: Ruleset, chain: str, world: World, pod: Pod, policy: Json, direction: _Direction) -> None:
    for rule in policy.get(direction.rules) or []:
        for networks, peer in _peers(rule.get(direction.peers), pod.namespace, world):
            for port in _ports(rule.get("ports"), pod if direction.policy_type == "Ingress" else peer):
                match = _address_match(rules, chain, networks, direction.peer_address)
                rules.chains[chain].append(f"-A {chain}{match}{port} -j RETURN")


def _peers(peers: Sequence[Json] | None, namespace: str, world: World) -> Iterator[tuple[list[str], Pod | None]]:
    """Networks (the first, without the others), and the pod if it is one; no networks mean everyone."""
    if not peers:
        yield [], None
    for peer in peers or []:
        if block := peer.get("ipBlock"):
            yield [block["cidr"], *block.get("except", [])], None
            continue
        for pod in world.pods:
            if "namespaceSelector" in peer:
                here = matches(peer["namespaceSelector"], world.namespaces.get(pod.namespace, {}))
            else:
                here = pod.namespace == namespace
            if here and matches(peer.get("podSelector") or {}, pod.labels):
                yield [f"{pod.ip}/32"], pod


def _ports(ports: Sequence[Json] | None, target: Pod | None) -> Iterator[str]:
    """Matches on protocol and port; `target` is the pod whose names count."""
    if not ports:
        yield ""
    for port in ports or []:
        protocol, number = port.get("protocol", "TCP"), port.get("port")
        if isinstance(number, str):
            number = target and target.ports.get((number, protocol))
            if number is None:
                continue
        last = f":{port['endPort']}" if "endPort" in port else ""
        yield f" -p {protocol.lower()}" + (f" --dport {number}{last}" if number else "")


def _address_match(rules: Ruleset, chain: str, networks: Sequence[str], side: str) -> str:
    """A match on the peer's address; exceptions need a small chain, that marks what is inside and not excepted."""
    if not networks:
        return ""
    whole, *exceptions = networks
    if not exceptions:
        return f" {side} {whole}"
    block = chain_name("X", f"{side} {networks}")
    rules.chains[block] = [
        *(f"-A {block} {side} {exception} -j RETURN" for exception in exceptions),
        f"-A {block} {side} {whole} -j MARK --set-xmark {_MARK}",
    ]
    rules.chains[chain] += [f"-A {chain} -j MARK --set-xmark 0x0/0x100000", f"-A {chain} -j {block}"]
    return f" -m mark --mark {_MARK}"
