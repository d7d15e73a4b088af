"""What a policy forbids is refused at admission: the chart's ValidatingAdmissionPolicy, judged by a real API server."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from cluster_parts import POLICY, ROOT, SPEC, SYSTEM, Namespace, eventually

from cluster import ControlPlane, binaries
from cluster.api import Api, ApiError
from strop_api import admission
from strop_api.grants import Refusal, resolve
from strop_api.optimization import ModelOptimizationSpec
from strop_api.policy import OptimizationPolicySpec

pytestmark = pytest.mark.apiserver
Node = dict[str, Any]
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
DIGEST = "sha256:" + "3" * 64
STORE, IMAGE, MODEL = POLICY["stores"][0], POLICY["images"][0], SPEC["model"]
GPU = {"name": "gpu", "runtime": "ONNXRuntime", "accelerator": {"resource": "nvidia.com/mig-1g.10gb", "count": 2}}
CODE = {"uri": "s3://models/net.py", "digest": DIGEST}
NET = {"callable": "net:make", "source": CODE}
WEIGHTS = {**MODEL, "uri": "s3://models/w.safetensors", "format": "Safetensors", "architecture": NET}


def worker(**parts: Any) -> Node:
    return {"worker": parts}


def allow(**parts: Any) -> Node:
    return {"allow": parts}


def model(uri: str) -> Node:
    return {"model": {**MODEL, "uri": uri}}


def output(uri: str) -> Node:
    return {"output": {"uri": uri}}


def store(**parts: Any) -> Node:
    return {"stores": [STORE | parts]}


@dataclass(frozen=True)
class Case:
    """A spec, a policy and which field is refused; none when all is well."""

    spec: Node
    policy: Node
    field: str = ""
    later: bool = False
    """Only the operator refuses it: admission cannot know."""
    earlier: bool = False
    """The kind's own schema refuses it already."""

    def __str__(self) -> str:
        return f"{json.dumps(self.spec)} | {json.dumps(self.policy)}"[:120]


MIG = {"targets": [GPU]}
GPU_IMAGE = {"images": [IMAGE | {"gpu": True}]}
TEACHER = {"name": "learn", "type": "Distil", "distil": {"epochs": 1, "teacher": "s3://secret/t"}}
CASES = (
    Case({}, {}),
    Case({"storeRef": {"name": "other"}}, {}, "spec.storeRef.name"),
    Case({"storeRef": {"name": "other"}}, {"stores": [STORE, STORE | {"name": "other"}]}),
    # Outputs.
    Case(output("s3://engines"), {}),
    Case(output("s3://engines/"), {}),
    Case(output("s3://engines-of-others/x"), {}, "spec.output.uri"),
    Case(output("s3://elsewhere"), {}, "spec.output.uri"),
    Case(output("s3://engines/a/../../b"), {}, "spec.output.uri", earlier=True),
    Case(output("s3://engines//b"), {}, "spec.output.uri"),
    Case(output("s3://engines/./b"), {}, "spec.output.uri"),
    Case(output("s3://engines/..b"), {}),
    Case(output("s3://engines/{namespace}/x"), store(outputPrefixes=["s3://engines/{namespace}/"]), "spec.output.uri"),
    Case(output("s3://engines/NAMESPACE/x"), store(outputPrefixes=["s3://engines/{namespace}"])),
    Case(output("s3://engines/team-b/x"), store(outputPrefixes=["s3://engines/{namespace}"]), "spec.output.uri"),
    Case(output("s3://b/x"), store(outputPrefixes=["s3://a", "s3://b/"])),
    Case(output("s3://engines/records/x"), store(recordsUri="s3://engines/records"), "spec.output.uri"),
    Case(output("s3://engines"), store(recordsUri="s3://engines/records/"), "spec.output.uri"),
    Case(output("s3://engines/x"), store(recordsUri="s3://engines-records")),
    Case(
        output("s3://engines/r/x"),
        {"stores": [STORE, STORE | {"name": "twin", "recordsUri": "s3://engines/r"}]},
        "spec.output.uri",
    ),
    Case(
        output("s3://engines/r/x"),
        {"stores": [STORE, STORE | {"name": "far", "endpoint": "http://far", "recordsUri": "s3://engines/r"}]},
    ),
    # Inputs.
    Case(model("s3://strop-records/x"), {}, "spec.model.uri"),
    Case(model("s3://models/a//b"), {}, "spec.model.uri"),
    Case(model("s3://models/x"), store(inputPrefixes=["s3://models", "s3://data"])),
    Case(model("s3://model/x"), store(inputPrefixes=["s3://models", "s3://data"]), "spec.model.uri"),
    Case({}, store(inputPrefixes=["s3://models"]), "spec.data.calibration.uri"),
    Case(model("hf://owner/name"), store(inputPrefixes=["s3://models", "s3://data"])),
    Case(model("file:///etc/passwd"), {}, "file://", earlier=True),
    Case(model("pvc://models/x.onnx"), {}, "pvc://models"),
    Case(model("pvc://models/x.onnx"), allow(persistentVolumeClaims=["models"])),
    Case(model("pvc://models-2/x.onnx"), allow(persistentVolumeClaims=["models"]), "pvc://models-2"),
    # Code.
    Case({"model": WEIGHTS}, {}, "spec.model.architecture.source"),
    Case({"model": WEIGHTS}, {"allowCode": True}),
    Case({"model": {**MODEL, "format": "TorchExport", "digest": DIGEST}}, {}, "spec.model.format"),
    Case({"model": {**MODEL, "format": "TorchExport", "digest": DIGEST}}, {"allowCode": True}),
    # The worker.
    Case(worker(serviceAccountName="admin"), {}, "spec.worker.serviceAccountName"),
    Case(worker(serviceAccountName="admin"), allow(serviceAccounts=["admin"])),
    Case(worker(queueName="q"), allow(queues=["other"]), "spec.worker.queueName"),
    Case(worker(queueName="q"), allow(queues=["other", "q"])),
    Case(worker(priorityClassName="high"), {}, "spec.worker.priorityClassName"),
    Case(worker(priorityClassName="high"), allow(priorityClasses=["high"])),
    Case(worker(runtimeClassName="nvidia"), {}, "spec.worker.runtimeClassName"),
    Case(worker(runtimeClassName="nvidia"), allow(runtimeClasses=["nvidia"])),
    Case(worker(tolerations=[{"operator": "Exists"}]), allow(tolerationKeys=["gpu"]), "spec.worker.tolerations"),
    Case(worker(tolerations=[{"key": "gpu", "operator": "Exists"}]), allow(tolerationKeys=["gpu"])),
    Case(worker(tolerations=[{"key": "cpu", "operator": "Exists"}]), allow(tolerationKeys=["gpu"]), "spec.worker.tol"),
    Case(worker(env=[{"name": "OMP_NUM_THREADS", "value": "2"}]), {}),
    Case(worker(env=[{"name": "LD_PRELOAD", "value": "x"}]), {}, "spec.worker.env"),
    Case(worker(env=[{"name": "LD_PRELOAD", "value": "x"}]), allow(environment=["LD_PRELOAD"])),
    Case(worker(labels={"team": "vision", "example.org/a": "b", "notk8s.io/a": "b"}), {}),
    Case(worker(labels={"job-name": "x"}), {}, "spec.worker.labels"),
    Case(worker(labels={"kueue.x-k8s.io/queue-name": "free"}), {}, "spec.worker.labels"),
    Case(worker(labels={"kubernetes.io/arch": "x"}), {}, "spec.worker.labels"),
    Case(worker(image="cpu"), {}),
    Case(worker(image="mine"), {}, "spec.worker.image"),
    # Limits.
    Case(MIG, GPU_IMAGE, "spec.targets"),
    Case(MIG, GPU_IMAGE | allow(acceleratorResources=["nvidia.com/mig-*"])),
    Case(MIG, GPU_IMAGE | allow(acceleratorResources=["nvidia.com/*"])),
    Case(MIG, GPU_IMAGE | allow(acceleratorResources=["nvidia.com/mig-1g.10gb"])),
    Case(MIG, GPU_IMAGE | allow(acceleratorResources=["amd.com/*", "nvidia.com/mig-1g.10g"]), "spec.targets"),
    Case(
        MIG,
        GPU_IMAGE | allow(acceleratorResources=["nvidia.com/*"]) | {"limits": {"accelerators": 1}},
        "spec.targets: 2 acc",
    ),
    Case(MIG, GPU_IMAGE | allow(acceleratorResources=["nvidia.com/*"]) | {"limits": {"accelerators": 2}}),
    Case({"activeDeadlineSeconds": 61}, {"limits": {"activeDeadlineSeconds": 60}}, "spec.activeDeadlineSeconds"),
    Case({"activeDeadlineSeconds": 60}, {"limits": {"activeDeadlineSeconds": 60}}),
    Case({}, {"limits": {"activeDeadlineSeconds": 60}}, "spec.activeDeadlineSeconds"),
    # What only the operator knows: which image serves, and requests joined with the policy's limits.
    Case(MIG, allow(acceleratorResources=["nvidia.com/*"]), "no image", later=True),
    Case(worker(resources={"requests": {"memory": "8Gi"}}), {}, "spec.worker.resources", later=True),
)


@pytest.fixture(scope="module")
def space(plane: ControlPlane, operator_kubeconfig: object) -> Iterator[Namespace]:
    """A namespace, the only one that the policies of this module judge."""
    made = Namespace(plane.api)
    made.set_policy()
    fallen = Namespace(plane.api, f"{made.name}-fallback", {"strop.dev/policy": "fallback"})
    for document in rendered(made.name, fallen.name):
        plane.api.post(f"{ADMISSION}/{plural(document)}", document)
    made.api.merge(f"{made.policies}/default", {"spec": {"limits": {"activeDeadlineSeconds": 60}}})
    eventually("it judges", lambda: refusal(made, {}) is not None)
    yield made
    for document in rendered(made.name, fallen.name):
        made.delete(f"{ADMISSION}/{plural(document)}/{document['metadata']['name']}")


def plural(document: Node) -> str:
    bindings = document["kind"].endswith("Binding")
    return "validatingadmissionpolicybindings" if bindings else "validatingadmissionpolicies"


def rendered(*namespaces: str) -> list[Node]:
    """What the chart makes for an operator of these namespaces."""
    command = [str(binaries.find("helm")), "template", "strop", str(ROOT / "charts/strop"), "-n", SYSTEM]
    words = ["--set", f"watchNamespaces={{{','.join(namespaces)}}}", "-s", "templates/admission.yaml"]
    said = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=True).stdout
    return [document for document in yaml.safe_load_all(said) if document]


def body(changes: Node, name: str = "digits") -> Node:
    kind = {"apiVersion": "strop.dev/v1alpha1", "kind": "ModelOptimization", "metadata": {"name": name}}
    return kind | {"spec": SPEC | changes}


def refusal(space: Namespace, changes: Node, api: Api | None = None) -> str | None:
    """What admission says of a spec; None when it takes it."""
    try:
        (api or space.api).post(f"{space.resources}?dryRun=All&fieldValidation=Strict", body(changes))
    except ApiError as error:
        if error.status not in (403, 422):
            raise
        said = json.loads(str(error).partition(": ")[2])
        return str(said["message"]) if error.status == 403 else f"schema: {said['message']}"
    return None


def set_policy(space: Namespace, changes: Node) -> int:
    """Replace the policy."""
    path = f"{space.policies}/default"
    document = space.api.get(path) | {"spec": POLICY | changes}
    with space.api.open(path, "PUT", document) as answer:
        return answer.status


def marked(changes: Node, mark: str) -> Node:
    """A policy that admission shows to have seen: its own store's name is in each refusal of another."""
    stores = changes.get("stores", POLICY["stores"])
    return changes | {"stores": [*stores, STORE | {"name": mark, "endpoint": f"http://{mark}"}]}


def seen(space: Namespace, mark: str) -> bool:
    return mark in (refusal(space, {"storeRef": {"name": "nowhere"}}) or "")


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{n}-{CASES[n].field or 'taken'}")
def test_admission_and_the_operator_agree(space: Namespace, number: int) -> None:
    """Where they differ a user is refused what the admin allows, or allowed in the editor and refused at night."""
    case = CASES[number]
    changes = json.loads(json.dumps(case.spec).replace("NAMESPACE", space.name))
    mark = f"mark-{number}"
    policy = marked(case.policy, mark)
    said = resolve(
        ModelOptimizationSpec.model_validate(SPEC | changes),
        OptimizationPolicySpec.model_validate(POLICY | policy),
        space.name,
    )
    set_policy(space, policy)
    eventually("the policy is seen", lambda: seen(space, mark))
    told = refusal(space, changes)
    if case.field:
        assert isinstance(said, Refusal)
        assert case.field in said.message
    else:
        assert not isinstance(said, Refusal), said
    assert (told is not None) == (bool(case.field) and not case.later), told
    assert (told or "").startswith("schema: ") == case.earlier, told


def test_every_check_refuses_something_and_says_where_and_what_mends_it(space: Namespace) -> None:
    """An expression that is never false, or whose message cannot be made, would be found by a user."""
    told = []
    for number, case in enumerate(c for c in CASES if c.field and not c.later):
        mark = f"again-{number}"
        set_policy(space, marked(case.policy, mark))
        eventually("the policy is seen", lambda mark=mark: seen(space, mark))
        told.append(refusal(space, json.loads(json.dumps(case.spec).replace("NAMESPACE", space.name))) or "")
    for check in admission.CHECKS:
        words = max((said for said in check.message.split("'")[1::2] if "^" not in said), key=len)
        assert any(words in message for message in told), check.name
    assert all("failed expression" not in message for message in told)
    assert all("spec." in message for message in told)


def test_what_is_stored_goes_on_whatever_a_policy_has_come_to_forbid(space: Namespace) -> None:
    """An operator that cannot take its finalizer away, or a user who cannot pause, would be stuck with a resource."""
    set_policy(space, marked({}, "loose"))
    eventually("the policy is seen", lambda: seen(space, "loose"))
    space.create("kept", suspend=False)
    path = f"{space.resources}/kept"
    set_policy(space, marked({"limits": {"activeDeadlineSeconds": 60}}, "tight"))
    eventually("the policy is seen", lambda: seen(space, "tight"))
    space.api.merge(path, {"metadata": {"finalizers": ["example.org/held"], "annotations": {"a": "b"}}})
    space.api.merge(f"{path}/status", {"status": {"observedGeneration": 1}})
    with pytest.raises(ApiError, match="activeDeadlineSeconds"):
        space.change("kept", seed=5)
    space.change("kept", suspend=True, seed=5)
    with pytest.raises(ApiError, match="activeDeadlineSeconds"):
        space.change("kept", suspend=False)
    space.change("kept", suspend=False, activeDeadlineSeconds=60)
    set_policy(space, marked({"limits": {"activeDeadlineSeconds": 1}}, "tighter"))
    eventually("the policy is seen", lambda: seen(space, "tighter"))
    space.delete(path)
    space.change("kept", output=SPEC["output"] | {"onDelete": "Retain"}, seed=6)
    space.api.merge(path, {"metadata": {"finalizers": []}})
    eventually("gone", lambda: not space.api.exists(path))


def test_without_a_policy_nothing_is_judged_and_a_label_asks_for_the_operators_own(space: Namespace) -> None:
    """The operator waits with NoPolicy for one; the fallback is for namespaces that say they have none."""
    foreign = {"storeRef": {"name": "nowhere"}}
    assert refusal(Namespace(space.api), foreign) is None
    fallen = Namespace(space.api, f"{space.name}-fallback")
    told = eventually("it judges there too", lambda: refusal(fallen, foreign))
    assert f"the policy {SYSTEM}/default has no store nowhere" in told
    assert refusal(fallen, {}) is None


LONG = "/".join(["s3://" + "p" * 60] + ["d" * 60] * 7)
MANY: Node = {
    "stores": [
        STORE
        | {
            "name": f"store-{number}",
            "outputPrefixes": [f"{LONG}/{number}/{prefix}" for prefix in range(16)],
            "inputPrefixes": [f"{LONG}/{number}/{prefix}" for prefix in range(16)],
            "recordsUri": f"s3://records-{number}/{LONG[5:400]}",
        }
        for number in range(16)
    ],
    "images": [IMAGE | {"name": f"image-{number}"} for number in range(32)],
    "allowCode": True,
    "allow": {
        "environment": [f"{'N' * 120}_{number}" for number in range(64)],
        "tolerationKeys": [f"{'k' * 60}-{number}" for number in range(32)],
        "acceleratorResources": [f"{'r' * 240}/{number}*" for number in range(31)] + ["nvidia.com/gpu"],
        "persistentVolumeClaims": [f"{'c' * 55}-{number}" for number in range(32)],
    },
}


def crowded(last: str) -> Node:
    """The largest spec that the schema takes, or nearly; its last input is the one that is asked for."""
    inputs = [f"{LONG}/15/15/{'x' * 400}/{number}" for number in range(31 * 8)]
    steps = [
        {"name": f"m{step}", "type": "Merge", "merge": {"adapters": inputs[8 * step : 8 * step + 8]}}
        for step in range(31)
    ]
    steps[-1]["merge"]["adapters"][-1] = last
    env = [{"name": f"{'N' * 120}_{number}"} for number in range(32, 64)]
    tolerations = [{"key": f"{'k' * 60}-{number}", "operator": "Exists"} for number in range(16, 32)]
    labels = {f"example.org/{'l' * 50}-{number}": "x" for number in range(32)}
    data = {role: {"uri": f"{LONG}/15/15/{role}.npz", "format": "Npz"} for role in ("evaluation", "training")}
    return {
        "model": WEIGHTS | {"uri": f"{LONG}/15/15/w.safetensors", "architecture": {"callable": "net:make"}},
        "steps": steps,
        "data": data,
        "storeRef": {"name": "store-15"},
        "output": {"uri": f"{LONG}/15/15"},
        "worker": {"env": env, "tolerations": tolerations, "labels": labels, "image": "image-31"},
    }


def test_the_largest_spec_under_the_largest_policy_is_still_judged(space: Namespace) -> None:
    """Expressions have a budget; beyond it nothing would be refused at admission, without a word."""
    set_policy(space, marked(MANY | {"stores": MANY["stores"][1:]}, "largest"))
    eventually("the policy is seen", lambda: seen(space, "largest"))
    assert refusal(space, crowded(f"{LONG}/15/15/{'x' * 400}/fine")) is None
    told = refusal(space, crowded(f"s3://elsewhere/{LONG[5:]}"))
    assert told is not None
    assert "spec.steps.m30.merge.adapters[7]" in told
    assert "allows in inputPrefixes" in told


@pytest.mark.parametrize(
    ("words", "actions"),
    [
        (["admission.enabled=false"], []),
        (["admission.action=Warn"], ["Warn", "Warn"]),
        (["admission.fallbackSelector=null"], ["Deny"]),
    ],
    ids=lambda value: "-".join(value),
)
def test_an_admin_can_look_first_or_do_without(words: list[str], actions: list[str]) -> None:
    """A cluster may have its own way of refusing; the operator refuses in any case."""
    command = [str(binaries.find("helm")), "template", "strop", str(ROOT / "charts/strop"), "--set", *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = [d for d in yaml.safe_load_all(said) if d and d["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert [action for binding in found for action in binding["spec"]["validationActions"]] == actions


def test_the_api_server_finds_nothing_wrong_with_the_expressions(space: Namespace) -> None:
    """It checks their types against both kinds' schemas, and only notes what is wrong."""
    path = f"{ADMISSION}/validatingadmissionpolicies/strop"
    status = eventually(
        "checked", lambda: space.api.get(path)["status"].get("observedGeneration") and space.api.get(path)["status"]
    )
    assert "expressionWarnings" not in status.get("typeChecking", {}), status
