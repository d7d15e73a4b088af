"""Provenance as an in-toto statement: what stock tools demand of it, and what earlier releases published."""

import hashlib
import json
from pathlib import Path

import pytest

from strop_api.worker import EnvVar
from strop_job.errors import InvalidInput
from strop_job.trust.statement import BUILD_TYPE, Provenance, read, statement

FILES = {"engine.onnx": "sha256:" + "1" * 64, "README.md": "sha256:" + "2" * 64}
RECORDED = sorted((Path(__file__).parents[2] / "upgrade").glob("*/**/provenance.json"))

DESCRIPTOR = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}


def made(parts) -> dict:
    return json.loads(statement(parts.make_provenance(), FILES, ["engine.onnx"]))


def test_every_published_file_is_a_subject_by_its_digest(parts):
    """A stock tool that is given one file finds the statement about it by nothing else."""
    found = made(parts)
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"] == [
        {"name": "README.md", "digest": {"sha256": "2" * 64}},
        {"name": "engine.onnx", "digest": {"sha256": "1" * 64}},
    ]


def test_no_field_is_beyond_the_two_specifications(parts):
    """A decoder that refuses unknown fields, as slsa-verifier's does, could not read it at all."""
    found = made(parts)
    predicate = found["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert found.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert predicate.keys() == {"buildDefinition", "runDetails"}
    assert definition.keys() == {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    assert details.keys() == {"builder", "metadata", "byproducts"}
    assert details["builder"].keys() <= {"id", "version", "builderDependencies"}
    assert all(isinstance(v, str) for v in details["builder"]["version"].values())
    assert details["metadata"].keys() <= {"invocationId", "startedOn", "finishedOn"}
    for descriptor in (*definition["resolvedDependencies"], *details["byproducts"]):
        assert descriptor.keys() <= DESCRIPTOR
        assert descriptor.keys() & {"uri", "digest", "content"}


def test_the_model_is_named_by_the_digest_that_sha256sum_prints(parts):
    """Nobody could tell from the records' own digests which file was optimized."""
    dependencies = {d["name"]: d for d in made(parts)["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert dependencies["model"]["uri"] == "s3://bucket/models/model.onnx"
    assert dependencies["model"]["digest"] == {"sha256": hashlib.sha256(parts.model).hexdigest()}
    assert dependencies["worker-image"] == {
        "name": "worker-image",
        "uri": "registry/strop",
        "digest": {"sha256": "a" * 64},
    }


def test_what_is_published_is_read_back_whole(parts):
    """Verification, drift checks and the card would see less than was written."""
    document = parts.make_provenance(reads=3)
    found = read(statement(document, FILES, ["engine.onnx"]))
    before = Provenance.model_validate(document)
    assert found.subjects == FILES
    assert found.measured == ["engine.onnx"]
    assert (found.run, found.spec, found.hardware) == (before.run, before.spec, before.hardware)
    assert (found.gates, found.evaluation, found.started_at) == (before.gates, before.evaluation, before.started_at)
    assert {s.name: s for s in found.stages} == {s.name: s for s in before.stages}
    assert before.versions.items() <= found.versions.items()


@pytest.mark.parametrize("path", RECORDED, ids=[path.parent.name for path in RECORDED])
def test_provenance_of_an_earlier_release_is_still_read(path):
    """What was published before an upgrade could not be verified or checked for drift any more."""
    found = read(path.read_bytes())
    assert found.run.id == path.parent.name
    assert found.stage("resolve-model") is not None
    assert found.gates
    assert found.versions["onnxruntime"]


def _other_type(document: dict) -> None:
    document["predicate"]["buildDefinition"]["buildType"] = "https://example.com/other"


def _twice(document: dict) -> None:
    document["subject"].append(document["subject"][0])


def _no_verdicts(document: dict) -> None:
    document["predicate"]["runDetails"]["byproducts"] = []


@pytest.mark.parametrize("change", [_other_type, _twice, _no_verdicts])
def test_a_statement_that_is_not_one_of_ours_is_refused(parts, change):
    """Another builder's statement would be taken for the verdicts of a run."""
    document = made(parts)
    change(document)
    with pytest.raises(InvalidInput):
        read(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"format": 2}', b'{"_type": "x"}', b"\xff", b"[" * 100_000])
def test_what_is_no_provenance_is_refused_in_words(data):
    """A damaged file would end in a trace."""
    with pytest.raises(InvalidInput, match="provenance"):
        read(data)


def test_the_build_type_is_documented():
    """Its URI stands for what docs/trust.md says of the parameters."""
    page = (Path(__file__).parents[3] / "docs" / "trust.md").read_text()
    assert BUILD_TYPE in page


def test_values_that_a_policy_allows_are_not_published(parts):
    """A token for a model hub, given by `worker.env`, would be read by whoever may read the engine."""
    spec = parts.make_spec("bucket")
    env = [EnvVar(name="OMP_NUM_THREADS", value="2"), EnvVar(name="HF_TOKEN", value="hf_verysecret")]
    told = parts.make_provenance(
        parts.make_request(spec.model_copy(update={"worker": spec.worker.model_copy(update={"env": env})}))
    )
    assert "hf_verysecret" not in json.dumps(told)
    assert told["spec"]["worker"]["env"] == [
        {"name": "OMP_NUM_THREADS", "value": "2"},
        {"name": "HF_TOKEN", "value": "[hidden]"},
    ]
