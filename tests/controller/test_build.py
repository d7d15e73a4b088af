"""The Job: as it was agreed (golden files), as the API server takes it, and free of traps."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_parts import POLICY, SPEC, Namespace
from facts_parts import RUN, grant, resource, spec

from cluster import ControlPlane
from strop_api.errands import SIGNING_PATH, ErrandKind
from strop_api.failures import TABLE, PolicyAction
from strop_api.grants import Grant, resolve
from strop_api.identity import spec_hash
from strop_api.policy import OptimizationPolicySpec
from strop_api.result import REQUEST_ANNOTATION, RunRequest
from strop_api.status import ArtifactRef
from strop_operator.build import build_job, failure_rules, literal
from strop_operator.errands import build_errand, clean_up_request, drift_request
from strop_operator.facts import job_fact

GOLDEN = Path(__file__).resolve().parent / "golden"
CPU_IMAGE = POLICY["images"][0]
OTHER_REF = "registry.example.com/strop-worker@sha256:" + "3" * 64
GPU_IMAGE = CPU_IMAGE | {"name": "cuda", "gpu": True, "pullSecrets": ["registry"]}
GPU_TARGET = {
    "name": "gpu",
    "runtime": "ONNXRuntime",
    "accelerator": {"resource": "nvidia.com/gpu", "count": 1, "product": "NVIDIA-L4"},
}

STORE = POLICY["stores"][0]

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cpu": ({}, {}),
    "gpu-in-a-queue": (
        {
            "targets": [GPU_TARGET],
            "worker": {
                "queueName": "research",
                "sharedMemory": "2Gi",
                "priorityClassName": "low",
                "serviceAccountName": "trainer",
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "env": [{"name": "GREETING", "value": "$(HOME) costs $5"}],
                "labels": {"team": "vision"},
                "resources": {"limits": {"cpu": "4", "memory": "16Gi"}},
            },
        },
        {
            "images": [GPU_IMAGE],
            "allow": {
                "queues": ["research"],
                "priorityClasses": ["low"],
                "serviceAccounts": ["trainer"],
                "tolerationKeys": ["nvidia.com/gpu"],
                "environment": ["GREETING"],
            },
            "proxy": {"https": "http://proxy:3128"},
        },
    ),
    "signed": ({}, {"signing": {"secretName": "strop-signing"}}),
    "vnni": (
        {"targets": [{"name": "vnni", "runtime": "OpenVINO", "cpu": {"arch": "amd64", "isa": "avx512_vnni"}}]},
        {"images": [CPU_IMAGE, CPU_IMAGE | {"name": "openvino", "ref": OTHER_REF, "runtimes": ["OpenVINO"]}]},
    ),
    "rtx-without-a-device": (
        {
            "targets": [
                {"name": "rtx", "runtime": "TensorRTRTX", "tensorRTRTX": {"computeCapabilities": ["8.9", "12.0"]}}
            ]
        },
        {"images": [CPU_IMAGE, CPU_IMAGE | {"name": "rtx", "ref": OTHER_REF, "runtimes": ["TensorRTRTX"]}]},
    ),
}


def manifest(case: str) -> dict[str, Any]:
    changes, policy = CASES[case]
    model = spec(**changes)
    return build_job(resource(), model, spec_hash(model), RUN, 1, grant(model, **policy))


@pytest.mark.parametrize("case", CASES)
def test_the_job_is_as_agreed(case: str) -> None:
    """A change of what runs in users' clusters must be seen in a review. STROP_UPDATE_GOLDEN=1 writes it anew."""
    text = yaml.safe_dump(manifest(case), sort_keys=False, width=120)
    path = GOLDEN / f"{case}.yaml"
    if os.environ.get("STROP_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.apiserver
@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_the_job_strictly(plane: ControlPlane, case: str) -> None:
    """A misspelt field would be dropped without a word, and with it what it was to protect."""
    namespace = Namespace(plane.api)
    body = manifest(case)
    body["metadata"]["namespace"] = namespace.name
    made = plane.api.post(f"{namespace.jobs}?dryRun=All&fieldValidation=Strict", body)
    assert job_fact(made | {"metadata": made["metadata"] | {"resourceVersion": "1"}}).run_id == RUN


@pytest.mark.apiserver
@pytest.mark.parametrize("kind", ErrandKind)
def test_the_api_server_takes_an_errands_job_strictly_under_the_restricted_standard(
    plane: ControlPlane, kind: ErrandKind
) -> None:
    """An errand that is refused leaves artifacts behind, or a resource that looks fresh."""
    namespace = Namespace(plane.api, labels={"pod-security.kubernetes.io/enforce": "restricted"})
    namespace.account()
    body = errand(kind)
    body["metadata"]["namespace"] = namespace.name
    made = plane.api.post(f"{namespace.jobs}?dryRun=All&fieldValidation=Strict", body)
    assert job_fact(made | {"metadata": made["metadata"] | {"resourceVersion": "1"}}).errand == kind
    pod = {"apiVersion": "v1", "kind": "Pod", **body["spec"]["template"]}
    pod["metadata"] = pod["metadata"] | {"name": "probe"}
    plane.api.post(f"{namespace.pods}?dryRun=All&fieldValidation=Strict", pod)


@pytest.mark.parametrize("kind", ErrandKind)
def test_an_errand_asks_for_no_accelerator_and_gets_no_signing_key(kind: ErrandKind) -> None:
    """A look at a digest must not take a GPU from a run, nor be able to sign what it finds."""
    body = errand(kind)
    pod = body["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert "nodeSelector" not in pod
    assert "signing" not in {volume["name"] for volume in pod["volumes"]}
    assert pod["automountServiceAccountToken"] is False
    assert ("ownerReferences" in body["metadata"]) is (kind is ErrandKind.DRIFT)


def errand(kind: ErrandKind) -> dict[str, Any]:
    """An errand for a resource that needs a GPU, under a policy that signs."""
    model = spec(targets=[GPU_TARGET])
    granted = grant(model, images=[GPU_IMAGE], signing={"secretName": "strop-signing"})
    published = ArtifactRef(uri="s3://engines/digits/r", digest="sha256:" + "a" * 64, size_bytes=1)
    requests = {
        ErrandKind.DRIFT: lambda: drift_request(resource(), model, granted, RUN, published),
        ErrandKind.CLEAN_UP: lambda: clean_up_request(resource(), model, granted),
    }
    return build_errand(resource(), model, granted, requests[kind]())


def test_the_signing_key_is_mounted_where_the_worker_looks_for_it() -> None:
    """It must be there or the pod must not start: an unsigned artifact would be published as if nobody had asked."""
    pod = manifest("signed")["spec"]["template"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "signing"]
    assert volume["secret"] == {"secretName": "strop-signing", "defaultMode": 0o440, "optional": False}
    mount = {"name": "signing", "mountPath": SIGNING_PATH, "readOnly": True}
    assert mount in pod["containers"][0]["volumeMounts"]


def test_the_worker_reads_the_request_it_is_sent() -> None:
    """The annotation is all that the worker knows."""
    sent = json.loads(manifest("gpu-in-a-queue")["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION])
    request = RunRequest.model_validate(sent)
    assert request.target == "gpu"
    assert request.spec == spec(**CASES["gpu-in-a-queue"][0])
    assert request.store.records_uri == "s3://strop-records/team"


def test_a_runtime_gets_the_image_that_has_it() -> None:
    """A worker without the runtime's libraries refuses the run only after it was pulled and scheduled."""
    for case, runtime in (("vnni", "OpenVINO"), ("rtx-without-a-device", "TensorRTRTX")):
        pod = manifest(case)["spec"]["template"]["spec"]
        assert [container["image"] for container in pod["containers"]] == [OTHER_REF], runtime


def test_an_instruction_set_is_preferred_and_never_required() -> None:
    """In a cluster without Node Feature Discovery a required label would leave the pod pending for ever."""
    pod = manifest("vnni")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert pod["affinity"].keys() == {"nodeAffinity"}
    (rule,) = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    (expression,) = rule["preference"]["matchExpressions"]
    assert expression["key"] == "feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI"
    assert pod["affinity"]["nodeAffinity"].keys() == {"preferredDuringSchedulingIgnoredDuringExecution"}


def test_a_build_ahead_of_time_asks_for_no_device() -> None:
    """It needs none: a GPU node, or a node of a certain kind, would only be waited for."""
    pod = manifest("rtx-without-a-device")["spec"]["template"]["spec"]
    assert "affinity" not in pod
    assert "nodeSelector" not in pod
    assert not any("gpu" in name for name in pod["containers"][0]["resources"]["limits"])


def test_an_unlabelled_instruction_set_moves_nothing() -> None:
    """A label that no tool sets would only be noise in the manifest."""
    model = spec(targets=[{"name": "t", "runtime": "ONNXRuntime", "cpu": {"isa": "i8mm"}}])
    made = build_job(resource(), model, spec_hash(model), RUN, 1, grant(model))
    assert "affinity" not in made["spec"]["template"]["spec"]


def test_no_secret_and_no_token_reaches_the_worker_by_its_environment() -> None:
    """The kubelet expands $(NAME), Secrets of the environment included."""
    container = manifest("gpu-in-a-queue")["spec"]["template"]["spec"]["containers"][0]
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert values["GREETING"] == "$$(HOME) costs $$5"
    assert all(set(variable) == {"name", "value"} for variable in container["env"])
    assert "envFrom" not in container
    assert manifest("cpu")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("value", "escaped"), [("a$b", "a$$b"), ("$(X)", "$$(X)"), ("$$(X)", "$$$$(X)"), ("", "")])
def test_every_dollar_is_doubled(value: str, escaped: str) -> None:
    """Two dollars stand for one, wherever they are."""
    assert literal(value) == escaped


def test_the_failure_policy_is_the_table() -> None:
    """A row that the Job does not carry would be retried, or not, against the table's word."""
    rules = failure_rules()
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    by_action = {rule["action"]: rule["onExitCodes"] for rule in rules[1:]}
    assert all(codes["containerName"] == "worker" for codes in by_action.values())
    for row in TABLE:
        for action, codes in by_action.items():
            if row.exit_code is not None:
                assert (int(row.exit_code) in codes["values"]) == (action == str(row.action))
    assert 137 in by_action[str(PolicyAction.FAIL_JOB)]["values"]


def test_a_variable_of_the_user_never_replaces_ours() -> None:
    """The proxy is the admins' word on where traffic goes, whatever names they allow besides."""
    model = spec(worker={"env": [{"name": name, "value": "theirs"} for name in ("HTTPS_PROXY", "HOME", "TZ")]})
    allowed = grant(model, allow={"environment": ["HTTPS_PROXY", "HOME"]}, proxy={"https": "http://ours:3128"})
    made = build_job(resource(), model, "sha256:" + "0" * 64, RUN, 1, allowed)
    container = made["spec"]["template"]["spec"]["containers"][0]
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert len(values) == len(container["env"])
    assert values == {
        "HTTPS_PROXY": "http://ours:3128", "HOME": "/tmp", "NO_PROXY": ".svc,.cluster.local", "TZ": "theirs",
    }  # fmt: skip


def test_the_labels_of_a_user_never_replace_ours() -> None:
    """Two resources that share a UID label would share their pods."""
    model = spec(worker={"labels": {"team": "x"}})
    made = build_job(resource(name="n" * 80 + ".x"), model, "sha256:" + "0" * 64, RUN, 1, grant())
    assert len(made["metadata"]["name"]) <= 63
    assert len(made["metadata"]["labels"]["strop.dev/optimization"]) == 63


REFUSALS = {
    "store": ({"storeRef": {"name": "other"}}, {}, "NotAllowed", "spec.storeRef.name"),
    "output": ({"output": {"uri": "s3://elsewhere/x"}}, {}, "NotAllowed", "spec.output.uri"),
    "output beside the prefix": ({"output": {"uri": "s3://engines-of-others/x"}}, {}, "NotAllowed", "spec.output.uri"),
    "output climbing out": ({"output": {"uri": "s3://engines/../x"}}, {}, "NotAllowed", "spec.output.uri"),
    "queue": ({"worker": {"queueName": "q"}}, {}, "NotAllowed", "spec.worker.queueName"),
    "service account": ({"worker": {"serviceAccountName": "a"}}, {}, "NotAllowed", "spec.worker.serviceAccountName"),
    "priority": ({"worker": {"priorityClassName": "a"}}, {}, "NotAllowed", "spec.worker.priorityClassName"),
    "runtime class": ({"worker": {"runtimeClassName": "a"}}, {}, "NotAllowed", "spec.worker.runtimeClassName"),
    "toleration": ({"worker": {"tolerations": [{"operator": "Exists"}]}}, {}, "NotAllowed", "tolerations[0].key"),
    "reserved label": (
        {"worker": {"labels": {"kueue.x-k8s.io/queue-name": "q"}}}, {}, "NotAllowed", "spec.worker.labels",
    ),
    "claim": (
        {"data": {"evaluation": {"uri": "pvc://secret/x.npz", "format": "Npz"}}}, {}, "NotAllowed", "pvc://secret",
    ),
    "accelerators": (
        {"targets": [GPU_TARGET]}, {"images": [GPU_IMAGE], "limits": {"accelerators": 0}}, "NotAllowed", "spec.targets",
    ),
    "code": (
        {"model": {"uri": "s3://m/x.pt2", "format": "TorchExport", "inputs": [
            {"name": "x", "dtype": "float32", "shape": [1]}]}}, {}, "NotAllowed", "allowCode",
    ),
    **{
        f"variable {name}": (
            {"worker": {"env": [{"name": "OMP_NUM_THREADS", "value": "2"}, {"name": name, "value": "x"}]}}, {},
            "NotAllowed", f"spec.worker.env[1].name: the policy does not allow {name}: remove it, or have it added",
        )
        for name in (
            "LD_PRELOAD", "PYTHONPATH", "PYTHONWARNINGS", "BROWSER", "PATH", "HTTPS_PROXY", "NO_PROXY", "HOME",
            "CUDA_INJECTION64_PATH", "omp_num_threads",
        )
    },
    "another resource of the nodes": (
        {"targets": [GPU_TARGET | {"accelerator": {"resource": "rdma/hca"}}]}, {"images": [GPU_IMAGE]}, "NotAllowed",
        "spec.targets[0].accelerator.resource: the policy does not allow rdma/hca; it allows nvidia.com/gpu",
    ),
    "no accelerator at all": (
        {"targets": [GPU_TARGET]}, {"images": [GPU_IMAGE], "allow": {"acceleratorResources": []}}, "NotAllowed",
        "it allows none",
    ),
    "records of another namespace": (
        {"model": SPEC["model"] | {"uri": "s3://strop-records/other/blobs/x"}}, {}, "NotAllowed", "spec.model.uri: ",
    ),
    "a folder with the records in it": (
        {"data": SPEC["data"] | {"evaluation": {"uri": "s3://shared", "format": "Npz"}}},
        {"stores": [STORE | {"recordsUri": "s3://shared/records"}]}, "NotAllowed", "spec.data.evaluation.uri: ",
    ),
    "records by the credentials of another store": (
        {"storeRef": {"name": "second"}, "model": SPEC["model"] | {"uri": "s3://strop-records/x"}},
        {"stores": [STORE, STORE | {"name": "second", "recordsUri": "s3://elsewhere"}]}, "NotAllowed",
        "spec.model.uri: s3://strop-records holds the records",
    ),
    "an output among the records": (
        {"output": {"uri": "s3://engines/records/other"}}, {"stores": [STORE | {"recordsUri": "s3://engines/records"}]},
        "NotAllowed", "spec.output.uri: s3://engines/records holds the records",
    ),
    "an input beside the prefix": (
        {}, {"stores": [STORE | {"inputPrefixes": ["s3://model", "s3://data"]}]}, "NotAllowed",
        "spec.model.uri: s3://models/digits.onnx does not lie below what the policy allows: s3://model, s3://data",
    ),
    "an input of another namespace": (
        {}, {"stores": [STORE | {"inputPrefixes": ["s3://models", "s3://data/{namespace}"]}]}, "NotAllowed",
        "spec.data.calibration.uri: s3://data/calibration.npz does not lie below",
    ),
    "an input climbing out": (
        {"model": SPEC["model"] | {"uri": "s3://models/../strop-records/x"}}, {}, "NotAllowed", "spec.model.uri: ",
    ),
    "an input by a detour": (
        {"model": SPEC["model"] | {"uri": "s3://models//x"}}, {}, "NotAllowed", "an empty part",
    ),
    "a tokenizer among the records": (
        {"data": SPEC["data"] | {"evaluation": {
            "uri": "s3://data/e.parquet", "format": "Parquet", "tokenizer": {"uri": "s3://strop-records/t.json"}}}},
        {}, "NotAllowed", "spec.data.evaluation.tokenizer.uri: ",
    ),
    "a request above the policy's limit": (
        {"worker": {"resources": {"requests": {"memory": "8Gi"}}}}, {}, "NotAllowed", "above its limit, 4Gi: set both",
    ),
    "image unknown": ({"worker": {"image": "x"}}, {}, "Unsupported", "spec.worker.image"),
    "no image with the step": ({}, {"images": [POLICY["images"][0] | {"stepTypes": []}]}, "Unsupported", "Quantize"),
    "no image with an accelerator": ({"targets": [GPU_TARGET]}, {}, "Unsupported", "accelerator support"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "policy", "reason", "says"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_the_policy_does_not_grant_is_refused_by_name(
    changes: dict[str, Any], policy: dict[str, Any], reason: str, says: str
) -> None:
    """Each allowlist guards somebody else's rights or money."""
    answer = resolve(spec(**changes), OptimizationPolicySpec.model_validate(POLICY | policy), "team")
    assert not isinstance(answer, Grant)
    assert str(answer.reason) == reason
    assert says in answer.message


GRANTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "harmless variables": ({"worker": {"env": [{"name": "OMP_NUM_THREADS", "value": "2"}, {"name": "TZ"}]}}, {}),
    "a variable of the policy": (
        {"worker": {"env": [{"name": "PYTHONPATH", "value": "/x"}]}}, {"allow": {"environment": ["PYTHONPATH"]}},
    ),
    "a MIG profile by its prefix": (
        {"targets": [GPU_TARGET | {"accelerator": {"resource": "nvidia.com/mig-1g.10gb"}}]},
        {"images": [GPU_IMAGE], "allow": {"acceleratorResources": ["nvidia.com/mig-*"]}},
    ),
    "inputs below their prefixes": (
        {"data": {"evaluation": {"uri": "s3://data/team/e.npz", "format": "Npz"}}, "steps": []},
        {"stores": [STORE | {"inputPrefixes": ["s3://models/", "s3://data/{namespace}"]}]},
    ),
    "a folder": ({"model": SPEC["model"] | {"uri": "s3://models/bert/"}}, {}),
    "a namesake of the records": ({"model": SPEC["model"] | {"uri": "s3://strop-records-old/x"}}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "policy"), GRANTED.values(), ids=GRANTED.keys())
def test_what_the_policy_grants_is_granted(changes: dict[str, Any], policy: dict[str, Any]) -> None:
    """A list that refuses too much is switched off by its first victim."""
    assert isinstance(grant(spec(**changes), **policy), Grant)


def test_a_run_keeps_its_image_while_the_catalogue_has_it() -> None:
    """A new first image in the catalogue must not make every record of a paused run worthless."""
    old = POLICY["images"][0]
    new = old | {"name": "new", "ref": "registry.example.com/strop-worker@sha256:" + "2" * 64}
    policy = OptimizationPolicySpec.model_validate(POLICY | {"images": [new, old]})
    kept, fresh = resolve(spec(), policy, "team", old["ref"]), resolve(spec(), policy, "team")
    assert isinstance(kept, Grant)
    assert isinstance(fresh, Grant)
    assert (kept.image.ref, fresh.image.ref) == (old["ref"], new["ref"])
