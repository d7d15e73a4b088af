"""`strop plan -f` against a real API server: what would run, what refuses it, which node could take it."""

import json

import numpy as np
import pytest
import yaml
from cluster_parts import SPEC
from onnx import TensorProto, helper, numpy_helper, save


@pytest.fixture
def nodes(plane):
    """Makes nodes; they go with the test, for the API server is shared."""
    made = []

    def make(name, allocatable, labels=None, taints=(), ready="True"):
        metadata = {"name": name, "labels": {"kubernetes.io/arch": "amd64"} | (labels or {})}
        plane.api.post("/api/v1/nodes", {"metadata": metadata, "spec": {"taints": list(taints)}})
        made.append(name)
        status = {
            "allocatable": allocatable,
            "capacity": allocatable,
            "conditions": [{"type": "Ready", "status": ready}],
        }
        # The server marks a new node as not ready; a controller that is not here takes the mark away.
        plane.api.merge(f"/api/v1/nodes/{name}", {"spec": {"taints": list(taints)}})
        plane.api.merge(f"/api/v1/nodes/{name}/status", {"status": status})

    yield make
    for name in made:
        with plane.api.open(f"/api/v1/nodes/{name}", "DELETE"):
            pass


def test_it_says_what_would_run_and_changes_nothing(strop, namespace, shop, spec_file):
    """Broken, people would learn by applying."""
    answer = strop("plan", "-f", spec_file())
    assert answer.code == 0, answer.err
    assert "a new resource; its first run starts" in answer.out
    assert f"image {'registry.example.com/strop-worker'}" in answer.out
    assert namespace.api.get(namespace.resources)["items"] == []


def test_the_nodes_are_judged_one_by_one(strop, shop, spec_file, nodes):
    """Broken, `Unschedulable` would be the first that people hear of it."""
    roomy = {"cpu": "8", "memory": "32Gi"}
    nodes("fits", roomy)
    nodes("small", {"cpu": "8", "memory": "1Gi"})
    nodes("kept", roomy, taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}])
    found = strop("plan", "-f", spec_file(), "-o", "json").document()
    verdicts = {n["name"]: (n["fits"], n["faults"]) for n in found["nodes"]}
    assert verdicts["fits"] == (True, [])
    assert verdicts["small"] == (False, ["memory: 1Gi allocatable, 4Gi asked"])
    assert verdicts["kept"] == (False, ["taint team=b:NoSchedule is not tolerated"])


def test_a_spec_that_is_not_understood_is_refused_with_its_field(strop, shop, spec_file):
    """Broken, the plan would speak of what cannot even be applied."""
    answer = strop("plan", "-f", spec_file(targets=[{"name": "gpu", "runtime": "TensorRT"}]))
    assert answer.code == 11
    assert "refused" in answer.out
    assert "✗ spec.targets[0]" in answer.out


def test_what_the_policy_forbids_is_said_as_the_operator_would(strop, shop, spec_file):
    """Broken, the plan and the operator would differ."""
    answer = strop("plan", "-f", spec_file(worker={"queueName": "fast"}))
    assert answer.code == 13
    assert "NotAllowed: spec.worker.queueName: the policy does not allow fast" in answer.out


def test_a_run_that_is_there_already_is_recognised(strop, shop, tell, spec_file):
    """Broken, people would fear that applying the same file costs another run."""
    tell("Published")
    assert "nothing new runs: run 0123456789 is of this very spec (Published)" in strop("plan", "-f", spec_file()).out
    assert "a new run replaces run 0123456789" in strop("plan", "-f", spec_file(seed=7)).out


def test_what_may_not_be_looked_at_is_said_and_no_more(as_user, shop, spec_file):
    """Broken, somebody with few rights would get nothing, or a plan that claims too much."""
    user = as_user("get:modeloptimizations.strop.dev", "get:optimizationpolicies.strop.dev")
    answer = user("plan", "-f", spec_file())
    assert answer.code == 0, answer.err
    assert "not known: nodes: you may not list nodes" in answer.err
    assert "not known: what the API server's admission says" in answer.err
    assert "not known: stages and records" in answer.err
    assert "NODE" not in answer.out


def test_a_field_that_the_cluster_does_not_know_is_refused_by_it(strop, shop, spec_file, plane, monkeypatch):
    """Broken, a file for a newer release would pass the plan and lose a field in the cluster."""
    path = spec_file()
    document = json.loads(path.read_text())
    document["metadata"]["anotations"] = {}
    path.write_text(json.dumps(document))
    answer = strop("plan", "-f", path)
    assert answer.code == 11
    assert "anotations" in answer.err


def test_a_file_with_nothing_in_it_is_said(strop, tmp_path):
    """Broken, a typing error in a path would be a trace."""
    path = tmp_path / "empty.yaml"
    path.write_text(yaml.safe_dump({"kind": "ConfigMap"}))
    assert "holds no documents of kind ModelOptimization" in strop("plan", "-f", path).err
    assert strop("plan", "-f", tmp_path / "absent.yaml").code == 11


def test_one_file_is_asked_for(strop):
    """Broken, it would be unclear which of two was planned."""
    assert strop("plan").code == 2


def test_without_f_it_is_the_plan_of_this_machine(strop, shop, tmp_path, spec_file):
    """Broken, `strop plan spec.yaml --store out` of the README would be gone."""
    answer = strop("plan", spec_file(), "--store", tmp_path, where=False)
    assert answer.code == 11
    assert "s3://models/digits.onnx" in answer.err


def test_stages_that_are_on_record_are_named(strop, shop, namespace, spec_file, tmp_path):
    """Broken, people would wait for what is done, or fear for it."""
    weights = numpy_helper.from_array(np.ones((64, 10), np.float32), "w")
    flat = helper.make_node("Flatten", ["image"], ["flat"])
    product = helper.make_node("MatMul", ["flat", "w"], ["label"])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])
    label = helper.make_tensor_value_info("label", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph([flat, product], "g", [image], [label], [weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", image=np.zeros((8, 1, 8, 8), np.float32), label=np.zeros(8, np.int64))
    model = shop.put("in/m.onnx", (tmp_path / "m.onnx").read_bytes())
    data = {
        role: {"uri": shop.put(f"in/{role}.npz", (tmp_path / "data.npz").read_bytes()), "format": "Npz"}
        for role in ("calibration", "evaluation")
    }
    changes = {"model": SPEC["model"] | {"uri": model}, "data": data}
    path = spec_file(**changes)
    found = strop("plan", "-f", path, "-o", "json").document()
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert found["unknown"] == []
    assert stages["resolve-model"] == {"name": "resolve-model", "onRecord": False, "seconds": None}
    _resolve(shop, namespace, path, tmp_path)
    found = strop("plan", "-f", path, "-o", "json").document()
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages["resolve-model"]["onRecord"] is True
    assert stages["compile"]["onRecord"] is False


def _resolve(shop, namespace, path, tmp_path):
    """Commits the record of the first stage, as a worker with the policy's image would."""
    from cluster_parts import POLICY

    from strop_api.optimization import ModelOptimizationSpec
    from strop_api.result import RunRequest, StoreAccess
    from strop_job.plan import make_plan
    from strop_job.records import Records
    from strop_job.sources import Reach
    from strop_job.stages import Artifact, ArtifactKind
    from strop_job.walk import fingerprint_of, origin_of, this_machine

    records = f"s3://{shop.bucket}/records/{namespace.name}"
    request = RunRequest(
        namespace=namespace.name, name="digits", uid="u", run_id="r", target="cpu",
        spec=ModelOptimizationSpec.model_validate(json.loads(path.read_text())["spec"]),
        image=POLICY["images"][0]["ref"],
        store=StoreAccess(endpoint=shop.server.url, region="us-east-1", records_uri=records),
    )  # fmt: skip
    plan = make_plan(request, Reach(shop.store))
    stage = next(s for s in plan.stages if s.name == "resolve-model")
    origin = origin_of(plan, stage, {}, fingerprint_of(plan, this_machine()))
    Records(shop.store, records).commit(
        origin.key, Artifact(ArtifactKind.SOURCE, tmp_path, ("m.onnx",)), 1.0, origin=origin
    )
