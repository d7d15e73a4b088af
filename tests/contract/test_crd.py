"""The definitions as a cluster serves them: bounded, documented, defaulted, and shown in columns."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contract.documents import Document
from tests.contract.edits import put, step
from tests.contract.extremes import largest
from tests.contract.server import GROUP_PATH, ROOT, Server

from strop_api.crd import SIZE_LIMIT_BYTES, files, model_optimization, optimization_policy
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules import InvalidSpec, check_support, validate, validate_policy
from strop_api.schema import Node, walk
from strop_api.status import ModelOptimizationStatus
from strop_api.support import THIS_BUILD

SAMPLES = sorted((ROOT / "crds" / "samples").glob("*.yaml"))


def _schema(definition: Node) -> Node:
    root: Node = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


PARTS = {
    "spec": _schema(model_optimization())["properties"]["spec"],
    "status": _schema(model_optimization())["properties"]["status"],
    "policy": _schema(optimization_policy())["properties"]["spec"],
}
PLACES = [(path, node) for name, part in PARTS.items() for path, node in walk(part, name)]


def documents(path: Path) -> list[Document]:
    """Every document of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@pytest.mark.parametrize("module", ["strop_api.crd", "strop_api.reference"])
def test_generated_files_are_up_to_date(module: str) -> None:
    """A definition that is older than the models refuses what the worker can do."""
    done = subprocess.run([sys.executable, "-m", module, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + f"run `python -m {module}`"


def test_a_definition_fits_client_side_apply() -> None:
    """`kubectl apply` keeps the whole object in an annotation of at most 262,144 bytes."""
    for path, text in files().items():
        assert len(text) < SIZE_LIMIT_BYTES, path
        assert len(json.dumps(yaml.safe_load(text))) < SIZE_LIMIT_BYTES, path


def test_every_field_says_what_it_is() -> None:
    """`kubectl explain` is the documentation that users have at hand."""
    silent = [path for path, node in PLACES if not path.endswith(("[]", "{}")) and not node.get("description")]
    assert silent == []


def test_everything_is_bounded() -> None:
    """What is unbounded makes the cost of every rule on it unbounded, and an object as large as etcd takes."""
    loose = []
    for path, node in PLACES:
        needed = {"string": "maxLength", "array": "maxItems"}.get(node.get("type", ""))
        if "additionalProperties" in node:
            needed = "maxProperties"
        if needed and needed not in node and "enum" not in node:
            loose.append((path, needed))
        if node.get("type") == "integer" and not {"minimum", "maximum"} <= node.keys():
            loose.append((path, "minimum, maximum"))
    assert loose == []


def test_no_default_makes_a_member_of_a_union() -> None:
    """A default inside an absent member would make the API server set the member itself."""
    unions = {"spec.steps[]", "spec.targets[]", "spec.gates"}
    for path, node in PLACES:
        if path.rpartition(".")[0] in unions and "properties" in node:
            assert "default" not in node, path


@pytest.mark.apiserver
def test_kubectl_explains_every_field(server: Server) -> None:
    """The words must arrive where users read them."""
    text = server.kubectl("explain", "mopt", "--recursive") + server.kubectl("explain", "mop", "--recursive")
    served = json.loads(server.api.text("/openapi/v3" + GROUP_PATH))["components"]["schemas"]
    kinds = {name.rpartition(".")[2]: schema for name, schema in served.items()}
    for kind in ("ModelOptimization", "OptimizationPolicy"):
        for path, node in walk(kinds[kind]["properties"]["spec"]):
            if path.endswith(("[]", "{}")):
                continue
            assert node.get("description"), path
            assert path.rpartition(".")[2] in text


@pytest.mark.apiserver
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mopt.spec.model.inputs.shape", "name of one of `dimensions`"),
        ("mopt.spec.steps.quantize.percentile", "share of observed magnitudes"),
        ("mopt.spec.gates.metricDrop.maxPoints", "points of the metric"),
        ("mopt.status.run.specHash", "decide the outcome"),
        ("mop.spec.stores.credentialsSecretName", "never reads it"),
    ],
)
def test_kubectl_explain_shows_the_description(path: str, words: str, server: Server) -> None:
    """A path that a user types ends at the field's own words."""
    assert words in " ".join(server.kubectl("explain", path).split())


@pytest.mark.apiserver
def test_defaults_are_filled_in_and_are_pythons(server: Server, minimal: Document) -> None:
    """Whoever reads the stored object sees what will be done; it is what Python would have assumed."""
    stored = server.create(minimal)
    assert stored["spec"]["benchmark"] == {"calls": 400, "maxSeconds": 120, "maxAgeSeconds": 604_800, "maxLooks": 3}
    assert stored["spec"]["storeRef"] == {"name": "default"}
    assert stored["spec"]["steps"][0]["quantize"]["calibrator"] == "MinMax"
    assert "gates" not in stored["spec"]
    assert validate(stored, cluster=True) == validate(minimal, cluster=True)


@pytest.mark.apiserver
def test_defaults_never_make_a_member(server: Server, minimal: Document) -> None:
    """An absent accelerator stays absent: its default resource must not ask for a GPU."""
    put("spec.steps", [step("int8", "Quantize", precision="int8", method="Static")])(minimal)
    stored = server.create(minimal)
    assert stored["spec"]["targets"] == [{"name": "cpu", "runtime": "ONNXRuntime", "optional": False}]
    assert stored["spec"]["steps"][0].keys() == {"name", "type", "quantize"}


@pytest.mark.apiserver
def test_a_new_resource_is_not_taken_for_finished(server: Server, minimal: Document) -> None:
    """GitOps tools read observedGeneration: without a status they call a fresh resource Current."""
    minimal["metadata"]["name"] = "fresh"
    stored = server.create(minimal, dry_run=False)
    assert stored["status"] == {"observedGeneration": -1}
    assert stored["metadata"]["generation"] == 1
    server.kubectl("wait", "mopt/fresh", "--for=jsonpath={.status.observedGeneration}=-1", "--timeout=10s")


def _status() -> Document:
    now = "2026-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "reason": "Published", "message": "", "observedGeneration": 1}
    return {
        "observedGeneration": 1,
        "conditions": [{**ready, "lastTransitionTime": now}],
        "summary": {"speedup": "2.31x", "drop": "0.40", "progress": "done"},
    }


@pytest.mark.apiserver
def test_columns_show_what_the_status_says(server: Server, minimal: Document) -> None:
    """`kubectl get mopt` is the first thing that anybody looks at."""
    minimal["metadata"]["name"] = "shown"
    server.create(minimal, dry_run=False)
    path = f"{GROUP_PATH}/namespaces/default/modeloptimizations/shown"
    server.api.merge(f"{path}/status", {"status": _status()})
    head, row = server.kubectl("get", "mopt", "shown").splitlines()
    assert head.split() == ["NAME", "READY", "REASON", "PROGRESS", "SPEEDUP", "DROP", "AGE"]
    assert row.split()[:-1] == ["shown", "True", "Published", "done", "2.31x", "0.40"]
    server.kubectl("wait", "mopt/shown", "--for=condition=Ready", "--timeout=10s")


@pytest.mark.apiserver
def test_a_status_is_written_only_through_its_own_door(server: Server, minimal: Document) -> None:
    """A user who edits the resource must not be able to declare it published."""
    minimal["metadata"]["name"] = "forged"
    stored = server.create({**minimal, "status": _status()}, dry_run=False)
    assert stored["status"] == {"observedGeneration": -1}


@pytest.mark.apiserver
def test_the_largest_status_is_taken(server: Server, minimal: Document) -> None:
    """A status that the operator can build and the API server refuses would be lost, with the result in it."""
    minimal["metadata"]["name"] = "large"
    server.create(minimal, dry_run=False)
    status = ModelOptimizationStatus.model_validate(largest(PARTS["status"]))
    body = {"status": json.loads(status.model_dump_json(by_alias=True, exclude_none=True))}
    path = f"{GROUP_PATH}/namespaces/default/modeloptimizations/large/status?fieldValidation=Strict"
    stored = server.api.merge(path, body)["status"]
    assert ModelOptimizationStatus.model_validate(stored) == status


@pytest.mark.apiserver
def test_client_side_apply_takes_both_definitions(server: Server) -> None:
    """The first command of every newcomer is `kubectl apply -f crds/`."""
    for plural in ("modeloptimizations", "optimizationpolicies"):
        server.kubectl("apply", "-f", str(ROOT / "crds" / f"{plural}.yaml"))


@pytest.mark.apiserver
def test_a_category_lists_both_kinds(server: Server) -> None:
    """`kubectl get strop` shows everything there is."""
    assert set(server.kubectl("api-resources", "--categories=strop", "-o", "name").split()) == {
        "modeloptimizations.strop.dev",
        "optimizationpolicies.strop.dev",
    }


@pytest.mark.apiserver
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_accepted_and_comes_back_as_it_went(path: Path, server: Server) -> None:
    """The samples are what users copy."""
    for document in documents(path):
        put("metadata.namespace", "default")(document)
        stored = server.create(document)
        if document["kind"] == "OptimizationPolicy":
            assert validate_policy(stored) == validate_policy(document)
            continue
        spec = validate(document, cluster=True)
        assert validate(stored, cluster=True) == spec
        assert check_support(spec, THIS_BUILD) == []
        dumped = json.loads(spec.model_dump_json(by_alias=True, exclude_none=True))
        assert ModelOptimizationSpec.model_validate(dumped) == spec


def test_a_newer_object_is_refused_with_the_field_named(minimal: Document) -> None:
    """After a downgrade the operator meets fields and words it does not know; it must say which."""
    put("spec.targets[0].tuning", {"level": 3})(minimal)
    put("spec.targets[0].runtime", "Neuron")(minimal)
    with pytest.raises(InvalidSpec) as refused:
        validate(minimal, cluster=True)
    found: dict[str, Any] = {problem.path: problem.message for problem in refused.value.problems}
    assert found.keys() == {"spec.targets[0].tuning", "spec.targets[0].runtime"}
    assert "ONNXRuntime" in found["spec.targets[0].runtime"]
