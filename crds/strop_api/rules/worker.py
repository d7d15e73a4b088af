"""Rules on the worker's pod."""

import re
from collections.abc import Callable

from strop_api.base import LABEL_KEY_PATTERN, quantity
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.rule import Rule
from strop_api.targets import Target
from strop_api.worker import EnvVar, ResourceAmounts, Resources, Toleration

ARCH_LABEL, PRODUCT_LABEL = "kubernetes.io/arch", "nvidia.com/gpu.product"
"""Labels that a target's processor and device put into the pod's node selector."""


def _selected(label: str, own: Callable[[Target], str | None]) -> Callable[[ModelOptimizationSpec], bool]:
    def holds(spec: ModelOptimizationSpec) -> bool:
        asked = spec.worker.node_selector.get(label)
        return asked is None or all(own(target) in (None, asked) for target in spec.targets)

    return holds


def _arch(target: Target) -> str | None:
    return target.cpu.arch if target.cpu is not None else None


def _product(target: Target) -> str | None:
    return target.accelerator.product if target.accelerator is not None else None


def _node_rule(label: str, member: str, holds: Callable[[ModelOptimizationSpec], bool]) -> Rule:
    has = f"has(t.{member.partition('.')[0]}) && has(t.{member})"
    return Rule(
        f"node-of-{member.replace('.', '-')}",
        "spec",
        f"!has(self.worker.nodeSelector) || !('{label}' in self.worker.nodeSelector)"
        f" || self.targets.all(t, !({has}) || t.{member} == self.worker.nodeSelector['{label}'])",
        holds,
        f"{label} contradicts the target's {member}: remove it, the target selects the node itself",
        ".worker.nodeSelector",
    )


def _request_fits(name: str) -> Callable[[Resources], bool]:
    def holds(resources: Resources) -> bool:
        request, limit = getattr(resources.requests, name), getattr(resources.limits, name)
        return request is None or limit is None or quantity(request) <= quantity(limit)

    return holds


def _amount_rule(name: str) -> Rule:
    wire = name.replace("_", "-")
    request, limit = (f"self.{side}.{wire.replace('-', '__dash__')}" for side in ("requests", "limits"))
    return Rule(
        f"request-of-{wire}-within-its-limit",
        "spec.worker.resources",
        f"!has(self.requests) || !has(self.limits) || !has({request}) || !has({limit})"
        f" || quantity({request}).compareTo(quantity({limit})) <= 0",
        _request_fits(name),
        "a request is at most its limit: lower it, or raise the limit",
        f".requests.{wire}",
    )


NODES = (
    _node_rule(ARCH_LABEL, "cpu.arch", _selected(ARCH_LABEL, _arch)),
    _node_rule(PRODUCT_LABEL, "accelerator.product", _selected(PRODUCT_LABEL, _product)),
)
AMOUNTS = tuple(_amount_rule(name) for name in ResourceAmounts.model_fields)


def _env(variable: EnvVar) -> bool:
    return not variable.name.startswith("STROP_")


def _toleration_value(toleration: Toleration) -> bool:
    return toleration.operator != "Exists" or not toleration.value


def _toleration_key(toleration: Toleration) -> bool:
    return toleration.key is not None or toleration.operator == "Exists"


def _toleration_seconds(toleration: Toleration) -> bool:
    return toleration.toleration_seconds is None or toleration.effect == "NoExecute"


def _keys(labels: dict[str, str]) -> bool:
    return all(len(key) <= 316 and re.fullmatch(LABEL_KEY_PATTERN, key) for key in labels)


def _label_keys(place: str) -> Rule:
    return Rule(
        "label-keys",
        place,
        f"self.all(key, key.size() <= 316 && key.matches('{LABEL_KEY_PATTERN}'))",
        _keys,
        "a key is a label's name, with or without a DNS prefix: example.org/team",
    )


WORKER = (
    *NODES,
    *AMOUNTS,
    _label_keys("spec.worker.labels"),
    _label_keys("spec.worker.nodeSelector"),
    Rule(
        "own-variables",
        "spec.worker.env[]",
        "!self.name.startsWith('STROP_')",
        _env,
        "names that begin with STROP_ are the worker's own: choose another",
        ".name",
    ),
    Rule(
        "own-labels",
        "spec.worker.labels",
        "self.all(key, !key.startsWith('strop.dev/'))",
        lambda labels: not any(key.startswith("strop.dev/") for key in labels),
        "labels below strop.dev/ are the operator's own: remove them",
    ),
    Rule(
        "toleration-value",
        "spec.worker.tolerations[]",
        "self.operator != 'Exists' || !has(self.value) || self.value == ''",
        _toleration_value,
        "operator Exists takes no value",
        ".value",
    ),
    Rule(
        "toleration-key",
        "spec.worker.tolerations[]",
        "has(self.key) || self.operator == 'Exists'",
        _toleration_key,
        "a toleration without a key needs operator Exists",
        ".operator",
    ),
    Rule(
        "toleration-seconds",
        "spec.worker.tolerations[]",
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        _toleration_seconds,
        "tolerationSeconds needs effect NoExecute",
        ".tolerationSeconds",
    ),
)
