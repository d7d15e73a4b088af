"""NetworkPolicies become the iptables rules that they mean."""

from collections.abc import Sequence
from typing import Any

import pytest

from cluster.netpol import Ruleset, chain_name, matches, parse, translate

Json = dict[str, Any]
SERVER_IN, SERVER_OUT = chain_name("I", "server"), chain_name("E", "server")
NAMESPACES: list[Json] = [{"metadata": {"name": "here"}}, {"metadata": {"name": "there", "labels": {"team": "blue"}}}]


def pod(name: str, ip: str, namespace: str = "here", phase: str = "Running") -> Json:
    ports = [{"name": "http", "containerPort": 9000}]
    return {
        "metadata": {"name": name, "uid": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [{"ports": ports}]},
        "status": {"podIP": ip, "phase": phase},
    }


def policy(**spec: Any) -> Json:
    selector = {"matchLabels": {"app": "server"}}
    return {"metadata": {"namespace": "here"}, "spec": {"podSelector": selector, "policyTypes": ["Ingress"], **spec}}


def rules(*policies: Json, pods: Sequence[Json] = ()) -> Ruleset:
    server = pod("server", "10.0.0.1")
    return translate(parse(policies, [server, *pods], NAMESPACES))


def test_a_pod_that_no_policy_selects_is_not_filtered() -> None:
    """Otherwise every namespace would need a policy to work at all."""
    assert rules().chains == {}


def test_a_policy_without_rules_lets_nothing_in() -> None:
    """The usual first policy of a namespace, deny all, would otherwise allow all."""
    result = rules(policy())
    assert list(result.chains.values()) == [[f"-A {SERVER_IN} -j DROP"]]
    assert result.top[1:] == [f"-A KUBE-NETPOL -d 10.0.0.1/32 -j {SERVER_IN}"]


def test_a_pod_selector_means_pods_of_the_same_namespace() -> None:
    """A pod that carries the same label elsewhere must not be let in."""
    friends = [pod("friend", "10.0.0.2"), pod("friend", "10.0.0.3", namespace="there")]
    peer = {"podSelector": {"matchLabels": {"app": "friend"}}}
    result = rules(policy(ingress=[{"from": [peer]}]), pods=friends)
    assert result.chains[SERVER_IN] == [f"-A {SERVER_IN} -s 10.0.0.2/32 -j RETURN", f"-A {SERVER_IN} -j DROP"]


def test_a_namespace_selector_means_all_pods_of_those_namespaces() -> None:
    """A monitoring namespace is let in by this and nothing else."""
    peer = {"namespaceSelector": {"matchLabels": {"team": "blue"}}}
    result = rules(policy(ingress=[{"from": [peer]}]), pods=[pod("monitor", "10.0.0.3", namespace="there")])
    assert result.chains[SERVER_IN][0] == f"-A {SERVER_IN} -s 10.0.0.3/32 -j RETURN"


def test_named_ports_and_port_ranges_become_numbers() -> None:
    """A policy by port name would otherwise allow nothing."""
    ports = [{"port": "http"}, {"port": "unknown"}, {"port": 53, "protocol": "UDP"}, {"port": 80, "endPort": 90}]
    assert rules(policy(ingress=[{"ports": ports}])).chains[SERVER_IN][:-1] == [
        f"-A {SERVER_IN} -p tcp --dport 9000 -j RETURN",
        f"-A {SERVER_IN} -p udp --dport 53 -j RETURN",
        f"-A {SERVER_IN} -p tcp --dport 80:90 -j RETURN",
    ]


def test_an_exception_to_a_network_is_not_let_out() -> None:
    """«Everything but the metadata service» is the policy that this serves."""
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}
    result = rules(policy(policyTypes=["Egress"], egress=[{"to": [block]}]))
    (exceptions,) = (chain for name, chain in result.chains.items() if name != SERVER_OUT)
    assert "-d 169.254.169.254/32 -j RETURN" in exceptions[0]
    assert "-d 0.0.0.0/0 -j MARK" in exceptions[1]
    assert "--mark 0x100000/0x100000 -j RETURN" in result.chains[SERVER_OUT][2]


def test_a_pod_that_ended_is_not_filtered() -> None:
    """Its address may be another pod's by now."""
    ended = pod("server", "10.0.0.1", phase="Succeeded")
    assert translate(parse([policy()], [ended], NAMESPACES)).chains == {}


@pytest.mark.parametrize(
    ("operator", "selected"), [("In", True), ("NotIn", False), ("Exists", True), ("DoesNotExist", False)]
)
def test_label_expressions(operator: str, selected: bool) -> None:
    """All four operators of a label selector select as the API server's do."""
    selector = {"matchExpressions": [{"key": "app", "operator": operator, "values": ["server"]}]}
    assert matches(selector, {"app": "server"}) is selected
