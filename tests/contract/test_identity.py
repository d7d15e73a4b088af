"""What a run is: the outcome's fields decide, nothing else does, and no release changes it by itself."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from tests.contract.documents import MINIMAL, Document
from tests.contract.edits import put
from tests.contract.server import Server

from strop_api.base import quantity
from strop_api.identity import job_name, run_id, spec_hash
from strop_api.optimization import ModelOptimizationSpec
from strop_api.schema import Node, structural, walk

OUTSIDE: dict[str, Any] = {
    "spec.suspend": True,
    "spec.retries": 7,
    "spec.activeDeadlineSeconds": 60,
    "spec.ttlSecondsAfterFinished": 60,
    "spec.runsHistoryLimit": 1,
    "spec.output.onDelete": "Delete",
    "spec.worker.nodeSelector": {"disk": "ssd"},
    "spec.worker.tolerations": [{"operator": "Exists"}],
    "spec.worker.priorityClassName": "high",
    "spec.worker.runtimeClassName": "nvidia",
    "spec.worker.serviceAccountName": "worker",
    "spec.worker.queueName": "batch",
    "spec.worker.scratch": "30Gi",
    "spec.worker.sharedMemory": "1Gi",
    "spec.worker.labels": {"team": "a"},
}
"""Fields that say how a run is carried out, with another value."""


def _hash(spec: Document) -> str:
    return spec_hash(ModelOptimizationSpec.model_validate(spec))


def _full() -> Document:
    """A spec in which every optional object stands, valid for the models (the rules are not asked)."""
    parts = {"tokenizer": {"uri": "s3://data/tokenizer.json"}, "image": {"resize": 8}}
    quantize = {"precision": "int8", "method": "QAT", "training": {}}
    document: Document = deepcopy(MINIMAL["spec"])
    document["model"]["architecture"] = {
        "callable": "zoo.a:b",
        "arguments": {"width": 1},
        "source": {"uri": "s3://code/a.py", "digest": "sha256:" + "a" * 64},
    }
    sets = ("calibration", "training", "validation", "evaluation")
    document["data"] = {name: {"uri": f"s3://data/{name}", "format": "Npz", **parts} for name in sets}
    document["steps"] = [
        {"name": "merge", "type": "Merge", "merge": {"adapters": ["s3://a/b"]}},
        {"name": "prune", "type": "Prune", "prune": {"method": "Structured"}},
        {"name": "compact", "type": "Compact", "compact": {}},
        {"name": "tune", "type": "FineTune", "fineTune": {}},
        {"name": "distil", "type": "Distil", "distil": {}},
        {"name": "int8", "type": "Quantize", "quantize": quantize},
    ]
    options: Document = {name: {} for name in ("onnxRuntime", "tensorRT", "tensorRTRTX", "openVINO", "inductor")}
    document["targets"] = [{"name": "a", "runtime": "ONNXRuntime", "accelerator": {}, "cpu": {}, **options}]
    document["gates"] = {
        "metricDrop": {"maxPoints": "1"},
        "metricMin": {"min": "0.5"},
        "speedup": {"min": "1.5"},
        "latency": {"p50MaxMicroseconds": 9},
        "throughput": {"minPerSecond": 9},
        "size": {"max": "9Mi"},
        "peakMemory": {"max": "9Mi"},
        "fidelity": {"cosineMin": "0.9"},
        "realisedPrecision": {"min": "50%"},
        "calibration": {"maxMismatches": 1},
    }
    document |= {"benchmark": {}, "storeRef": {}}
    resources = {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}
    document["worker"] = {"resources": resources, "env": [{"name": "A", "value": "b"}]}
    return document


SAMPLES: tuple[Any, ...] = (
    *("s3://other/place", "s3://other", "other", "other:thing", "sha256:" + "b" * 64, "77%", "7.5", "7", "7Mi", "1e-5"),
    *("example.org/other", "7.5", "60%"),
)


def _leaves() -> Iterator[tuple[str, Node]]:
    """Every scalar or list of scalars of the spec, except those outside and those without a place in the full spec."""
    for path, node in walk(structural(ModelOptimizationSpec)):
        if "properties" in node or path.endswith(("[]", "{}")):
            continue
        if node.get("type") == "array" and "properties" in node["items"]:
            continue
        if not any(path == outside or path.startswith(outside) for outside in OUTSIDE):
            yield path, node


def _places(document: Document, path: str) -> Iterator[tuple[Document, str]]:
    """Every object of the document that has (or may have) the field."""
    *way, last = path.removeprefix("spec.").split(".")
    found: list[Any] = [document]
    for part in way:
        below = [value.get(part.removesuffix("[]")) for value in found]
        found = [item for child in below if child is not None for item in (child if part.endswith("[]") else [child])]
    yield from ((place, last) for place in found)


def _other(node: Node, now: Any) -> Iterator[Any]:
    """Values that this place may have and has not."""
    default = node.get("default")
    if "enum" in node:
        candidates: list[Any] = list(node["enum"])
    elif node["type"] == "integer":
        candidates = [node["minimum"], node["minimum"] + 1]
    elif node["type"] == "boolean":
        candidates = [True, False]
    elif node["type"] == "array":
        items = node["items"]
        candidates = [[value] for value in items.get("enum", SAMPLES)]
    elif node["type"] == "object":
        candidates = [{"other": 1}]
    else:
        candidates = list(SAMPLES)
    yield from (value for value in candidates if value not in (now, default))


@pytest.mark.parametrize(("path", "node"), list(_leaves()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_field_that_decides_the_outcome_starts_a_new_run(path: str, node: Node) -> None:
    """A changed field that were left out would leave the old artifact under the new spec."""
    full = _full()
    before = _hash(full)
    for place, name in _places(full, path):
        for value in _other(node, place.get(name)):
            kept = deepcopy(place)
            place[name] = value
            try:
                changed = _hash(full)
            except ValueError:
                place.clear()
                place.update(kept)
                continue
            assert changed != before
            return
    pytest.fail(f"no other value of {path} was found")


@pytest.mark.parametrize("path", OUTSIDE)
def test_fields_outside_the_outcome_start_nothing(path: str, minimal: Document) -> None:
    """Suspending, or moving to another node pool, must not throw away a finished run."""
    before = _hash(minimal["spec"])
    put(path, OUTSIDE[path])(minimal)
    assert _hash(minimal["spec"]) == before


def test_spelling_out_the_defaults_starts_nothing(minimal: Document) -> None:
    """An object read back from the API server carries its defaults; a later release may add more."""
    spec = ModelOptimizationSpec.model_validate(minimal["spec"])
    spelt = spec.model_dump(mode="json", by_alias=True)
    assert spec_hash(ModelOptimizationSpec.model_validate(spelt)) == spec_hash(spec)


@pytest.mark.apiserver
def test_what_the_api_server_adds_starts_nothing(server: Server, minimal: Document) -> None:
    """The stored object and the user's file are the same run."""
    assert _hash(server.create(minimal)["spec"]) == _hash(minimal["spec"])


def test_the_hash_of_this_version_never_changes(minimal: Document) -> None:
    """An upgrade of the operator must not start runs: a change here needs a new HASH_VERSION."""
    assert _hash(minimal["spec"]) == "sha256:4f1812c50a22598e99845a78bef76159ed64c8963dbfae89350fcab837c5489d"


def test_a_rerun_is_another_run_and_asking_again_is_not() -> None:
    """The run id names the Job: two names would be two runs of the same thing."""
    assert run_id("uid", "sha256:a") == run_id("uid", "sha256:a")
    assert len({run_id("uid", "sha256:a"), run_id("uid", "sha256:a", "again"), run_id("other", "sha256:a")}) == 3


@pytest.mark.parametrize("name", ["a", "a" * 63, "a.b-c", "x" * 51 + "." + "y" * 201, "a" * 52 + "-tail"])
def test_a_job_name_is_a_dns_label(name: str) -> None:
    """The API server refuses other names, and pods' host names are made of it."""
    made = job_name(name, "uid", "0123456789")
    assert len(made) <= 63
    assert made[0].isalnum()
    assert made[-1].isalnum()
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    ("text", "bytes_"), [("4Ki", 4096), ("1k", 1000), ("1Mi", 1 << 20), ("2Gi", 2 << 30), ("3", 3)]
)
def test_a_quantity_is_read_with_every_suffix_that_kubernetes_has(text: str, bytes_: int) -> None:
    """A spec that admission takes would crash whoever reads it."""
    assert quantity(text) == bytes_
