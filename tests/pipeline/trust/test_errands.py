"""Errands: drift is found by listing first, a deleted resource's runs go and nothing else does."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from strop_api.errands import Change, ErrandKind, ErrandRequest, ErrandResult
from strop_api.reasons import Reason
from strop_api.result import TERMINATION_LIMIT_BYTES, StoreAccess
from strop_job.errors import InvalidInput
from strop_job.inputs import MODEL_LIMIT_BYTES
from strop_job.publish import Owner, current
from strop_job.sources import Reach, look
from strop_job.store import s3
from strop_job.store.digests import bytes_digest, folder_digest
from strop_job.store.local import LocalStore
from strop_job.trust import errand
from strop_job.trust.cleanup import clean_up
from strop_job.trust.drift import drift
from strop_job.trust.errand import encode

RECORDED = Path(__file__).parents[2] / "upgrade" / "0.1.0"


def asked(place, parts, errand: ErrandKind, **changes) -> ErrandRequest:
    fields = {
        "errand": errand, "namespace": "team", "name": "tiny", "uid": "uid-1", "store": place.access,
        "output_uri": place.output,
    }  # fmt: skip
    if errand is ErrandKind.DRIFT:
        fields |= {"spec": parts.make_spec(place.bucket), "run_id": "r1"}
    return ErrandRequest(**(fields | changes))


@pytest.fixture
def published(place, parts):
    """A run of the model that lies at its source."""
    uri = place.write("models/model.onnx", parts.model)
    version = look(uri, Reach(place.store), field="f", limit_bytes=MODEL_LIMIT_BYTES).version
    request = parts.make_request(parts.make_spec(place.bucket))
    place.publish(provenance=parts.make_provenance(request, version=version))
    return place


def reasons(result: ErrandResult) -> list[Reason]:
    return [change.reason for change in result.changes]


def test_an_unchanged_source_is_not_even_read(published, parts, tmp_path, monkeypatch):
    """Every day every model of the cluster would be read through."""

    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("the source was read")

    monkeypatch.setattr(published.store, "download", refuse)
    monkeypatch.setattr(published.store, "digest", refuse)
    found = drift(asked(published, parts, ErrandKind.DRIFT), published.store, tmp_path)
    assert (found.done, found.changes, found.message) == (True, [], "nothing has changed")
    assert found.model_digest == bytes_digest(parts.model)


def test_another_model_under_the_same_address_is_a_change(published, parts, tmp_path):
    """What is served would be thought to be of the model that lies there."""
    published.write("models/model.onnx", b"another model")
    found = drift(asked(published, parts, ErrandKind.DRIFT), published.store, tmp_path)
    assert reasons(found) == [Reason.SOURCE_CHANGED]
    assert found.model_digest == bytes_digest(b"another model")
    assert bytes_digest(parts.model) in found.message


def test_the_same_model_uploaded_again_is_no_change_and_read_once(local, parts, tmp_path, monkeypatch):
    """Touching a file would mark everything made from it stale, or have it read again at every check."""
    local.write("models/model.onnx", parts.model)
    request = parts.make_request(parts.make_spec(local.bucket))
    local.publish(provenance=parts.make_provenance(request, version="of another listing"))
    errand = asked(local, parts, ErrandKind.DRIFT)
    assert drift(errand, local.store, tmp_path).changes == []
    monkeypatch.setattr(local.store, "download", None)
    again = drift(errand, local.store, tmp_path)
    assert (again.changes, again.model_digest) == ([], bytes_digest(parts.model))


def test_a_folder_is_compared_as_a_folder(local, parts, tmp_path):
    """A model of several files would always, or never, look changed."""
    for name, data in {"model.onnx": b"graph", "model.onnx.data": b"weights"}.items():
        local.write(f"models/whole/{name}", data)
    spec = parts.make_spec(local.bucket)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"uri": "s3://bucket/models/whole"})})
    digest = folder_digest({"model.onnx": bytes_digest(b"graph"), "model.onnx.data": bytes_digest(b"weights")})
    document = parts.make_provenance(parts.make_request(spec))
    document["stages"][0]["content"] = digest
    local.publish(provenance=document)
    errand = asked(local, parts, ErrandKind.DRIFT, spec=spec)
    assert drift(errand, local.store, tmp_path).changes == []
    local.write("models/whole/model.onnx.data", b"other weights")
    assert reasons(drift(errand, local.store, tmp_path)) == [Reason.SOURCE_CHANGED]


def test_a_source_that_is_gone_is_a_change(published, parts, tmp_path):
    """Nobody would be told that the model cannot be made again."""
    published.store.delete(f"s3://{published.bucket}/models/model.onnx")
    found = drift(asked(published, parts, ErrandKind.DRIFT), published.store, tmp_path)
    assert reasons(found) == [Reason.SOURCE_CHANGED]
    assert found.model_digest is None
    assert "nothing lies at" in found.message


def test_another_runtime_in_this_image_is_a_change(local, parts, tmp_path):
    """The figures of the published engine would be thought to hold for today's runtime."""
    local.write("models/model.onnx", parts.model)
    document = parts.make_provenance(parts.make_request(parts.make_spec(local.bucket)))
    document["versions"]["onnxruntime"] = "0.1"
    local.publish(provenance=document)
    found = drift(asked(local, parts, ErrandKind.DRIFT), local.store, tmp_path)
    assert reasons(found) == [Reason.RUNTIME_CHANGED]
    assert found.changes[0].message.startswith("onnxruntime was 0.1 and is ")


def test_drift_of_what_an_earlier_release_published_is_found(tmp_path, parts):
    """After an upgrade nothing that is served would be checked any more."""
    [pointer, *_] = sorted(RECORDED.rglob("current.json"))
    root = next(parent for parent in pointer.parents if (parent / "strop-records").is_dir())
    document = json.loads((pointer.parent / json.loads(pointer.read_bytes())["runId"] / "provenance.json").read_bytes())
    output = "s3://" + pointer.parent.relative_to(root).as_posix()
    request = ErrandRequest.model_validate({
        "errand": "Drift", "namespace": document["run"]["namespace"], "name": document["run"]["name"],
        "uid": document["run"]["uid"], "outputUri": output, "runId": document["run"]["id"], "spec": document["spec"],
        "store": {"endpoint": "file://local", "region": "local", "recordsUri": "s3://scratch-records/x"},
    })  # fmt: skip
    copied = tmp_path / "store"
    subprocess.run(["cp", "-r", str(root), str(copied)], check=True)
    found = drift(request, LocalStore(copied), tmp_path)
    assert found.done


def test_what_was_removed_cannot_be_checked(local, parts, tmp_path):
    """A folder that somebody removed would look unchanged."""
    with pytest.raises(InvalidInput, match="is gone"):
        drift(asked(local, parts, ErrandKind.DRIFT), local.store, tmp_path)


def test_a_deleted_resources_runs_and_pointer_go_and_nothing_else(place, parts):
    """A user's own files, another resource's engines, or a successor's would be lost."""
    again, other = Owner(namespace="team", name="tiny", uid="uid-2"), Owner(namespace="team", name="big", uid="uid-1")
    place.publish("r1")
    place.publish("r2")
    place.write("out/notes.txt", b"mine")
    place.write("out/r1/onnx/notes.txt", b"mine too")
    place.write("out/half/engine.onnx", b"a run that never ended")
    place.write("out/forged/manifest.json", place.read("out/r1/manifest.json"))
    place.write("outside/r1/manifest.json", b"{}")
    for name in ("manifest.json", "engine.onnx"):
        place.write(f"out/nested/r1/{name}", place.read(f"out/r1/{name}"))
    result = clean_up(asked(place, parts, ErrandKind.CLEAN_UP, uid="uid-9"), place.store)
    assert "removed 0 objects of 0 runs" in result.message
    result = clean_up(asked(place, parts, ErrandKind.CLEAN_UP, name=other.name), place.store)
    assert "removed 0 objects of 0 runs" in result.message
    place.publish("r3", again)
    result = clean_up(asked(place, parts, ErrandKind.CLEAN_UP), place.store)
    assert "removed 10 objects of 2 runs" in result.message
    assert "the pointer was not this resource's" in result.message
    assert "1 objects in these folders were not published by it and stay" in result.message
    pointer = current(place.store, place.output)
    assert pointer is not None
    assert pointer.run_id == "r3"
    kept = {name for name in place.names() if not name.startswith("r3/")}
    assert kept == {
        "current.json", "notes.txt", "r1/onnx/notes.txt", "half/engine.onnx", "forged/manifest.json",
        "nested/r1/manifest.json", "nested/r1/engine.onnx",
    }  # fmt: skip


def test_cleaning_up_again_removes_what_was_left(place, parts):
    """A Job that was killed in the middle would strand the rest for ever, and the finalizer with it."""
    place.publish()
    place.store.delete(f"{place.output}/r1/engine.onnx")
    result = clean_up(asked(place, parts, ErrandKind.CLEAN_UP), place.store)
    assert "removed 5 objects of 1 runs" in result.message
    assert place.names() == set()
    again = clean_up(asked(place, parts, ErrandKind.CLEAN_UP), place.store)
    assert again.done
    assert "removed 0 objects of 0 runs" in again.message


def test_a_manifest_cannot_lead_out_of_its_folder(local, parts):
    """Who may write one could have another resource's engines removed."""
    local.publish()
    document = json.loads(local.read("out/r1/manifest.json"))
    document["files"][0]["name"] = "../precious"
    local.write("out/precious", b"theirs")
    local.write("out/r1/manifest.json", json.dumps(document).encode())
    clean_up(asked(local, parts, ErrandKind.CLEAN_UP), local.store)
    assert "precious" in local.names()


@pytest.mark.parametrize("letter", ["x", "\u20ac", '"'])
def test_an_answer_fits_the_termination_message(letter):
    """The kubelet would cut the front off, and the operator could not read the rest."""
    changes = [Change(reason=Reason.SOURCE_CHANGED, message=letter * 256)] * 2
    result = ErrandResult(errand=ErrandKind.DRIFT, done=True, message=letter * 2048, changes=changes)
    data = encode(result)
    assert len(data) <= TERMINATION_LIMIT_BYTES
    assert ErrandResult.model_validate_json(data).changes == changes


def strop(request: ErrandRequest, folder: Path, *words: object) -> tuple[int, ErrandResult]:
    (folder / "request.json").write_text(request.model_dump_json(by_alias=True))
    log = folder / "termination-log"
    command = [sys.executable, "-m", "strop_job.cli", "errand", "--request", folder / "request.json",
               "--termination-log", log, "--scratch", folder / "scratch", *words]  # fmt: skip
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, env=os.environ, check=False)
    assert log.exists(), done.stderr
    return done.returncode, ErrandResult.model_validate_json(log.read_bytes())


def test_the_command_answers_in_the_termination_log(published, parts, tmp_path):
    """The operator could not hear what its Job found out."""
    if published.environment:
        keys = tmp_path / "credentials"
        keys.mkdir()
        (keys / "accessKey").write_text(published.environment["AWS_ACCESS_KEY_ID"])
        (keys / "secretKey").write_text(published.environment["AWS_SECRET_ACCESS_KEY"])
        where: tuple[object, ...] = ("--credentials", keys)
    else:
        where = ("--local-store", published.store.root)
    code, found = strop(asked(published, parts, ErrandKind.DRIFT), tmp_path, *where)
    assert (code, found.done, found.changes) == (0, True, [])
    published.write("models/model.onnx", b"another model")
    code, found = strop(asked(published, parts, ErrandKind.DRIFT), tmp_path, *where)
    assert (code, reasons(found)) == (0, [Reason.SOURCE_CHANGED])
    code, found = strop(asked(published, parts, ErrandKind.CLEAN_UP), tmp_path, *where)
    assert (code, found.done) == (0, True)
    assert published.names() == set()
    code, found = strop(asked(published, parts, ErrandKind.DRIFT), tmp_path, *where)
    assert (code, found.done) == (11, False)


def test_a_store_that_does_not_answer_can_be_tried_again(local, parts, tmp_path, monkeypatch):
    """The Job would be given up for a network that fails for a minute, or the answer would hold the keys."""
    for name, value in {"accessKey": "someone", "secretKey": "verysecret"}.items():
        (tmp_path / name).write_text(value)
    nowhere = StoreAccess(endpoint="http://127.0.0.1:1", region="us-east-1", records_uri="s3://records/team")
    request = asked(local, parts, ErrandKind.CLEAN_UP, store=nowhere)
    (tmp_path / "request.json").write_text(request.model_dump_json(by_alias=True))
    brisk = s3.Patience(attempts=1, backoff_seconds=0, request_retries=0, request_backoff_seconds=0, connect_seconds=1)
    monkeypatch.setattr(s3, "S3Store", partial(s3.S3Store, patience=brisk))
    log = tmp_path / "termination-log"
    code = errand.run(errand.Place(tmp_path / "request.json", log, tmp_path, tmp_path / "scratch"))
    found = ErrandResult.model_validate_json(log.read_bytes())
    assert (int(code), found.done, found.errand) == (12, False, ErrandKind.CLEAN_UP)
    assert "verysecret" not in found.message
