"""Which node could take a pod: labels, taints, allocatable, as the scheduler compares them."""

import pytest
from cluster_parts import POLICY

from strop_api.optimization import ModelOptimizationSpec
from strop_api.policy import OptimizationPolicySpec
from strop_api.worker import Toleration
from strop_cli.nodes import Need, NodeFact, amount, fit, need_of, node_fact, tolerates

LABELS = {"kubernetes.io/arch": "amd64"}
ONLY_GPU = {"key": "gpu", "value": "only", "effect": "NoSchedule"}
ROOMY = {"cpu": "8", "memory": "32Gi", "pods": "110"}


def node(**changes):
    fields = {"name": "n1", "labels": LABELS, "allocatable": ROOMY} | changes
    return NodeFact(**fields)


def test_a_node_with_room_fits():
    """Broken, no node would ever do."""
    assert fit(node(), Need(LABELS, {"cpu": "1", "memory": "4Gi"})).fits


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"labels": {"kubernetes.io/arch": "arm64"}}, "label kubernetes.io/arch is arm64, not amd64"),
        ({"labels": {}}, "label kubernetes.io/arch is absent, not amd64"),
        ({"allocatable": ROOMY | {"memory": "2000Mi"}}, "memory: 2000Mi allocatable, 4Gi asked"),
        ({"allocatable": ROOMY | {"cpu": "900m"}}, "cpu: 900m allocatable, 1 asked"),
        ({"ready": False}, "not ready"),
        ({"cordoned": True}, "cordoned"),
        ({"taints": [ONLY_GPU]}, "taint gpu=only:NoSchedule is not tolerated"),
    ],
)  # fmt: skip
def test_what_speaks_against_a_node_is_named(changes, fault):
    """Broken, people would look at every node by hand."""
    assert fit(node(**changes), Need(LABELS, {"cpu": "1", "memory": "4Gi"})).faults == (fault,)


def test_a_missing_accelerator_is_named():
    """Broken, a GPU target would seem to fit a node without one."""
    need = Need({}, {"nvidia.com/gpu": "1"})
    assert fit(node(), need).faults == ("has no nvidia.com/gpu",)
    assert fit(node(allocatable=ROOMY | {"nvidia.com/gpu": "0"}), need).faults == (
        "nvidia.com/gpu: 0 allocatable, 1 asked",
    )
    assert fit(node(allocatable=ROOMY | {"nvidia.com/gpu": "4"}), need).fits


@pytest.mark.parametrize(
    ("toleration", "yes"),
    [
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "only"}, True),
        ({"key": "gpu", "value": "other"}, False),
        ({"key": "gpu"}, False),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations_are_compared_as_the_scheduler_does(toleration, yes):
    """Broken, a node would be offered that then refuses the pod, or the other way round."""
    assert tolerates(Toleration.model_validate(toleration), ONLY_GPU) is yes


def test_a_soft_taint_and_a_missing_feature_label_are_notes():
    """Broken, a node would be left out that the scheduler takes."""
    found = fit(node(taints=[{"key": "spot", "effect": "PreferNoSchedule"}]), Need({}, {}, preferred="vnni"))
    assert found.fits
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [("4", 4), ("500m", 0.5), ("1e3", 1000), ("16Gi", 2**34), ("1Pi", 2**50), ("2E", 2e18), ("7n", 7e-9)],
)
def test_any_quantity_of_a_node_is_read(text, value):
    """Broken, a large disk would end the command."""
    assert amount(text) == pytest.approx(value)


def test_a_pod_needs_what_the_operator_will_ask_for(spec):
    """Broken, the plan would speak of another pod than the one that is made."""
    asked = spec | {
        "targets": [{"name": "gpu", "runtime": "ONNXRuntime", "accelerator": {"product": "NVIDIA-L4", "count": 2}}],
        "worker": {"nodeSelector": {"pool": "a"}, "resources": {"limits": {"cpu": "4"}}},
    }
    made = ModelOptimizationSpec.model_validate(asked)
    need = need_of(made, made.targets[0], OptimizationPolicySpec.model_validate(POLICY))
    assert need.labels == {"pool": "a", "nvidia.com/gpu.product": "NVIDIA-L4"}
    assert need.amounts == {"cpu": "1", "memory": "4Gi", "nvidia.com/gpu": "2"}


def test_a_node_is_read_from_its_object():
    """Broken, a cordoned or dead node would be offered."""
    document = {
        "metadata": {"name": "n1", "labels": LABELS},
        "spec": {
            "unschedulable": True,
            "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
        },
        "status": {"allocatable": ROOMY, "conditions": [{"type": "Ready", "status": "Unknown"}]},
    }
    assert fit(node_fact(document), Need({}, {})).faults == ("not ready", "cordoned")
