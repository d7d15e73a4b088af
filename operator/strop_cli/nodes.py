"""Which nodes could take a run's pod, as the scheduler would judge an empty node: labels, taints, allocatable. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from strop_api.base import quantity
from strop_api.grants import resources
from strop_api.optimization import ModelOptimizationSpec
from strop_api.policy import OptimizationPolicySpec
from strop_api.support import NODE_FEATURES
from strop_api.targets import Target
from strop_api.worker import Toleration

EXPONENTS = {"P": 10**15, "E": 10**18, "Pi": 2**50, "Ei": 2**60, "n": 1e-9, "u": 1e-6}
"""Suffixes that the contract does not allow and a node may still use."""
HARD = ("NoSchedule", "NoExecute")
STATES = "node.kubernetes.io/"
"""Taints below it repeat what is told of the node's state."""


@dataclass(frozen=True)
class Need:
    """What the pod asks of a node."""

    labels: Mapping[str, str]
    amounts: Mapping[str, str]
    """Resource to quantity, as the scheduler reserves it."""
    tolerations: Sequence[Toleration] = ()
    preferred: str = ""
    """Label of the instruction set that the worker will check; nodes that have it come first."""


@dataclass(frozen=True)
class NodeFact:
    """What is known of a node."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, str]
    taints: Sequence[Mapping[str, str]] = ()
    ready: bool = True
    cordoned: bool = False


@dataclass(frozen=True)
class Fit:
    """Whether a node could take it; `faults` says why not."""

    node: str
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Nothing speaks against it."""
        return not self.faults


def need_of(spec: ModelOptimizationSpec, target: Target, policy: OptimizationPolicySpec) -> Need:
    """As the operator builds the pod."""
    joined = resources(spec, policy)
    amounts = joined["limits"] | joined["requests"]  # a resource with a limit alone is reserved up to it
    if target.accelerator is not None:
        amounts[target.accelerator.resource] = str(target.accelerator.count)
    preferred = NODE_FEATURES.get(target.cpu.isa or "", "") if target.cpu is not None else ""
    return Need(dict(spec.worker.node_selector) | target.node_labels, amounts, spec.worker.tolerations, preferred)


def node_fact(document: Mapping[str, Any]) -> NodeFact:
    """From a Node object."""
    spec, status = document.get("spec") or {}, document.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return NodeFact(
        name=document["metadata"]["name"],
        labels=document["metadata"].get("labels") or {},
        allocatable=status.get("allocatable") or {},
        taints=spec.get("taints") or (),
        ready=conditions.get("Ready") == "True",
        cordoned=bool(spec.get("unschedulable", False)),
    )


def fit(node: NodeFact, need: Need) -> Fit:
    """What speaks against this node, all of it."""
    faults = (*_states(node), *_labels(node, need), *_amounts(node, need), *_taints(node, need))
    return Fit(node.name, faults, tuple(_notes(node, need)))


def _states(node: NodeFact) -> Iterator[str]:
    if not node.ready:
        yield "not ready"
    if node.cordoned:
        yield "cordoned"


def _labels(node: NodeFact, need: Need) -> Iterator[str]:
    for key, value in sorted(need.labels.items()):
        there = node.labels.get(key)
        if there != value:
            yield f"label {key} is {there or 'absent'}, not {value}"


def _amounts(node: NodeFact, need: Need) -> Iterator[str]:
    for name, wanted in sorted(need.amounts.items()):
        there = node.allocatable.get(name)
        if there is None:
            yield f"has no {name}"
        elif amount(there) < amount(wanted):
            yield f"{name}: {there} allocatable, {wanted} asked"


def _taints(node: NodeFact, need: Need) -> Iterator[str]:
    for taint in node.taints:
        if taint.get("effect") in HARD and not any(tolerates(t, taint) for t in need.tolerations):
            if taint["key"].startswith(STATES) and (node.cordoned or not node.ready):
                continue
            value = f"={taint['value']}" if taint.get("value") else ""
            yield f"taint {taint['key']}{value}:{taint['effect']} is not tolerated"


def _notes(node: NodeFact, need: Need) -> Iterator[str]:
    if need.preferred and node.labels.get(need.preferred) != "true":
        yield f"not labelled {need.preferred}: the worker looks for itself"
    if any(taint.get("effect") == "PreferNoSchedule" for taint in node.taints):
        yield "has a PreferNoSchedule taint: others come first"


def tolerates(toleration: Toleration, taint: Mapping[str, str]) -> bool:
    """As the scheduler compares them."""
    if toleration.effect is not None and toleration.effect != taint.get("effect"):
        return False
    if toleration.key is None:
        return toleration.operator == "Exists"
    if toleration.key != taint["key"]:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == taint.get("value", "")


def amount(text: str) -> float:
    """Any quantity that the API server may write."""
    for suffix, factor in EXPONENTS.items():
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    try:
        return float(text)
    except ValueError:
        return quantity(text)
