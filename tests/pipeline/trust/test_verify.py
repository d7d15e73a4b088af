"""`strop verify`: whatever was changed after publication is found, and told in its own words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strop_api.status import GateStatus, GateVerdict
from strop_job.store.digests import bytes_digest
from strop_job.trust.places import DiskPlace, StoredPlace
from strop_job.trust.signing import read_public_key
from strop_job.trust.verification import Problem, Signature
from strop_job.trust.verify import verify

RECORDED = Path(__file__).parents[2] / "upgrade" / "0.1.0"


def problems(place, key=None, required=()) -> set[Problem]:
    return {fault.problem for fault in verify(StoredPlace(place.store, place.output), key, required).faults}


def edited(place, name: str, change) -> None:
    """Changes a JSON file behind everybody's back."""
    document = json.loads(place.read(f"out/{name}"))
    change(document)
    place.write(f"out/{name}", json.dumps(document, indent=2).encode())


def test_what_was_published_and_signed_is_verified(place, signer, public):
    """The command would be of no use to anybody."""
    place.publish(signer=signer)
    found = verify(StoredPlace(place.store, place.output), public, ["metricDrop"])
    assert found.faults == ()
    assert found.notes == ()
    assert (found.signature, found.files) == (Signature.VERIFIED, 5)
    assert found.engine == bytes_digest(b"engine of r1")
    assert found.provenance is not None
    assert found.provenance.run.target == "cpu"


def test_a_runs_folder_and_a_copy_on_a_disk_are_verified_too(local, signer, public):
    """Only who can reach the store could check what they were given."""
    local.publish(signer=signer)
    root = local.store.root / "bucket" / "out"
    for place in (StoredPlace(local.store, f"{local.output}/r1"), DiskPlace(root / "r1"), DiskPlace(root)):
        found = verify(place, public)
        assert found.faults == ()
        assert found.signature is Signature.VERIFIED


def test_an_unsigned_run_is_verified_and_said_to_be_unsigned(local, public):
    """Unsigned and signed would look alike, or a missing signature would pass where one was asked for."""
    local.publish()
    found = verify(StoredPlace(local.store, local.output))
    assert found.passed
    assert any("unsigned" in note for note in found.notes)
    assert problems(local, public) == {Problem.UNSIGNED}


def test_a_signature_that_nobody_checked_is_said_not_to_be_checked(local, signer):
    """Its mere presence would be taken for a proof."""
    local.publish(signer=signer)
    found = verify(StoredPlace(local.store, local.output))
    assert found.passed
    assert found.signature is Signature.NOT_CHECKED
    assert any("--key" in note for note in found.notes)


def _engine(place) -> None:
    place.write("out/r1/engine.onnx", b"engine of r2")


def _gone(place) -> None:
    place.store.delete(f"{place.output}/r1/onnx/model.onnx")


def _extra(place) -> None:
    place.write("out/r1/onnx/other.onnx", b"not ours")


def _manifest_digest(place) -> None:
    place.write("out/r1/engine.onnx", b"evil")
    edited(place, "r1/manifest.json", lambda m: m["files"][_at(m, "engine.onnx")].update(digest=bytes_digest(b"evil")))


def _at(manifest: dict, name: str) -> int:
    return next(i for i, file in enumerate(manifest["files"]) if file["name"] == name)


def _manifest_junk(place) -> None:
    place.write("out/r1/manifest.json", b"{}")


def _manifest_gone(place) -> None:
    place.store.delete(f"{place.output}/r1/manifest.json")


def _manifest_escape(place) -> None:
    edited(place, "r1/manifest.json", lambda m: m["files"][0].update(name="../../secret"))


def _provenance(place) -> None:
    edited(place, "r1/provenance.json", lambda p: p["subject"].pop())


def _provenance_gone(place) -> None:
    place.store.delete(f"{place.output}/r1/provenance.json")


def _provenance_junk(place) -> None:
    place.write("out/r1/provenance.json", b"[]")


def _envelope_gone(place) -> None:
    place.store.delete(f"{place.output}/r1/provenance.dsse.json")


def _envelope_junk(place) -> None:
    place.write("out/r1/provenance.dsse.json", b"{}")


def _pointer_junk(place) -> None:
    place.write("out/current.json", b"{}")


def _pointer_engine(place) -> None:
    edited(place, "current.json", lambda p: p["artifact"].update(digest=bytes_digest(b"evil")))


def _pointer_companion(place) -> None:
    place_ = {"uri": f"{place.output}/r1/onnx/model.onnx", "digest": bytes_digest(b"graph")}
    edited(place, "current.json", lambda p: p["artifact"].update(place_))


def _pointer_owner(place) -> None:
    edited(place, "current.json", lambda p: p["owner"].update(name="other"))


def _pointer_escape(place) -> None:
    edited(place, "current.json", lambda p: p.update(runId="../r1"))


def _pointer_nowhere(place) -> None:
    edited(place, "current.json", lambda p: p.update(runId="r9"))


TAMPERED = {
    _engine: {Problem.FILE_CHANGED},
    _gone: {Problem.FILE_MISSING},
    _extra: {Problem.FILE_UNKNOWN},
    _manifest_digest: {Problem.MANIFEST_CHANGED, Problem.POINTER_CHANGED, Problem.PROVENANCE_CHANGED},
    _manifest_junk: {Problem.MANIFEST_CHANGED},
    _manifest_gone: {Problem.MANIFEST_MISSING},
    _manifest_escape: {Problem.MANIFEST_CHANGED, Problem.PROVENANCE_CHANGED, Problem.FILE_UNKNOWN},
    _provenance: {Problem.FILE_CHANGED, Problem.PROVENANCE_CHANGED, Problem.SIGNATURE_WRONG},
    _provenance_gone: {Problem.FILE_MISSING, Problem.PROVENANCE_MISSING, Problem.SIGNATURE_WRONG},
    _provenance_junk: {Problem.FILE_CHANGED, Problem.PROVENANCE_CHANGED, Problem.SIGNATURE_WRONG},
    _envelope_gone: {Problem.FILE_MISSING, Problem.UNSIGNED},
    _envelope_junk: {Problem.FILE_CHANGED, Problem.SIGNATURE_WRONG},
    _pointer_junk: {Problem.POINTER_CHANGED},
    _pointer_engine: {Problem.POINTER_CHANGED},
    _pointer_companion: {Problem.POINTER_CHANGED},
    _pointer_owner: {Problem.POINTER_CHANGED},
    _pointer_escape: {Problem.POINTER_CHANGED},
    _pointer_nowhere: {Problem.MANIFEST_MISSING, Problem.PROVENANCE_MISSING, Problem.UNSIGNED},
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=[change.__name__.strip("_") for change in TAMPERED])
def test_whatever_is_changed_is_found_and_named(place, signer, public, tamper):
    """A changed engine, or changed words about it, would be served."""
    place.publish(signer=signer)
    tamper(place)
    assert problems(place, public) == TAMPERED[tamper]


def test_who_may_write_to_the_store_cannot_change_a_signed_run_consistently(local, signer, public):
    """A signature that vouched for less than every byte and every verdict would be worth little."""
    local.publish(signer=signer)
    local.write("out/r1/engine.onnx", b"evil")
    evil = bytes_digest(b"evil")

    def manifest(document: dict) -> None:
        document["files"][_at(document, "engine.onnx")].update(digest=evil, sizeBytes=4)

    def stated(document: dict) -> None:
        for subject in document["subject"]:
            if subject["name"] == "engine.onnx":
                subject["digest"] = {"sha256": evil.removeprefix("sha256:")}

    edited(local, "r1/provenance.json", stated)
    changed = local.read("out/r1/provenance.json")
    edited(local, "r1/manifest.json", manifest)
    edited(local, "r1/manifest.json", lambda m: m["files"][_at(m, "provenance.json")].update(
        digest=bytes_digest(changed), sizeBytes=len(changed)))  # fmt: skip
    whole = bytes_digest(local.read("out/r1/manifest.json"))
    edited(local, "current.json", lambda p: (p.update(manifestDigest=whole), p["artifact"].update(digest=evil)))
    assert problems(local) == set()
    assert problems(local, public) == {Problem.SIGNATURE_WRONG}


def test_a_companion_cannot_be_called_measured_afterwards(local, signer, public):
    """A file that nothing was measured of would be served with the engine's figures."""
    local.publish(signer=signer)
    edited(local, "r1/manifest.json", lambda m: m["files"][_at(m, "onnx/model.onnx")].update(role="measured"))
    whole = bytes_digest(local.read("out/r1/manifest.json"))
    edited(local, "current.json", lambda p: p.update(manifestDigest=whole))
    assert problems(local, public) == {Problem.MANIFEST_CHANGED}


def test_the_papers_of_another_run_do_not_pass(local, signer, public):
    """An older, worse engine could be put back under the name of a newer run, with its own good signature."""
    local.publish(signer=signer)
    local.publish("r2", signer=signer)
    for name in ("engine.onnx", "provenance.json", "provenance.dsse.json", "manifest.json"):
        local.write(f"out/r2/{name}", local.read(f"out/r1/{name}"))
    assert problems(local, public) == {Problem.MANIFEST_CHANGED, Problem.POINTER_CHANGED}


def test_a_wrong_key_is_told(local, signer, tmp_path):
    """Anybody's signature would do."""
    local.publish(signer=signer)
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    (tmp_path / "other.pub").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert problems(local, read_public_key(tmp_path / "other.pub")) == {Problem.SIGNATURE_WRONG}


def gate(name: str, verdict: GateVerdict) -> GateStatus:
    return GateStatus(gate=name, verdict=verdict, message="in words")


@pytest.mark.parametrize(
    ("gates", "required", "expected"),
    [
        ([gate("metricDrop", GateVerdict.MISSED)], (), {Problem.GATE_NOT_PASSED}),
        ([gate("metricDrop", GateVerdict.INCONCLUSIVE)], (), {Problem.GATE_NOT_PASSED}),
        ([gate("metricDrop", GateVerdict.NOT_MEASURED)], (), {Problem.GATE_NOT_PASSED}),
        ([], (), {Problem.GATE_NOT_PASSED}),
        ([gate("size", GateVerdict.PASSED)], (), {Problem.GATE_NOT_PASSED}),
        ([gate("metricDrop", GateVerdict.PASSED)], ("speedup",), {Problem.GATE_NOT_ASKED}),
        (
            [gate("metricDrop", GateVerdict.PASSED), gate("latency.p99MaxMicroseconds", GateVerdict.PASSED)],
            ("latency", "metricDrop", "latency.p99MaxMicroseconds"),
            set(),
        ),
    ],
)
def test_claims_are_held_against_what_was_asked(local, parts, gates, required, expected):
    """A folder that says itself that a gate was missed, or was never asked, would be called verified."""
    request = parts.make_request(parts.make_spec(local.bucket))
    local.publish(provenance=parts.make_provenance(request, parts.make_judgement(gates=gates)))
    assert problems(local, None, required) == expected


def test_nothing_published_is_not_verified(local):
    """An empty folder would pass."""
    assert problems(local) == {Problem.NOTHING_PUBLISHED}


def test_what_an_earlier_release_published_is_verified_as_far_as_it_can_be():
    """After an upgrade everything that is served would look forged, or checked where it was not."""
    pointers = sorted(RECORDED.rglob("current.json"))
    assert pointers
    for pointer in pointers:
        found = verify(DiskPlace(pointer.parent))
        assert {fault.problem for fault in found.faults} <= {Problem.FILE_MISSING}  # engines were not recorded
        assert found.gates
        assert any("names no files" in note for note in found.notes)


def strop(*words, **environment) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strop_job.cli", "verify", *map(str, words)]
    env = os.environ | {"COLUMNS": "200"} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)


def test_the_command_answers_in_words_json_and_exit_code(local, signer, parts):
    """A pipeline that deploys could not ask."""
    local.publish(signer=signer)
    store, key = ("--store", local.store.root), ("--key", parts.cosign / "cosign.pub")
    good = strop(local.output, *store, *key, "--require", "metricDrop")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "verified" in good.stdout
    assert "signature: Verified" in good.stdout
    _engine(local)
    bad = strop(f"{local.output}/current.json", *store, *key, "-o", "json")
    assert bad.returncode == 11, bad.stdout + bad.stderr
    told = json.loads(bad.stdout)
    assert [fault["problem"] for fault in told["faults"]] == ["FileChanged"]
    assert (told["passed"], told["signature"], told["run"]["name"]) == (False, "Verified", "tiny")


def test_a_hostile_folder_cannot_steer_the_terminal(local, parts):
    """Words of the folder could paint over the verdict."""
    request = parts.make_request(parts.make_spec(local.bucket))
    said = GateStatus(gate="metricDrop", verdict=GateVerdict.MISSED, message="\x1b[2J\x1b[Hverified")
    local.publish(provenance=parts.make_provenance(request, parts.make_judgement(gates=[said])))
    shown = strop(local.output, "--store", local.store.root)
    assert shown.returncode == 11
    assert "GateNotPassed" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_a_question_that_makes_no_sense_is_told_in_words(local):
    """A mistyped path would look like a forgery."""
    wrong = strop("/nowhere/at/all", "--store", local.store.root)
    assert wrong.returncode == 11
    assert "is neither s3:// nor a folder here" in wrong.stderr


@pytest.mark.minio
def test_the_command_reads_a_real_object_store(remote, signer, parts):
    """Only folders on a laptop could be verified."""
    remote.publish(signer=signer)
    environment = remote.environment | {"STROP_S3_ENDPOINT": remote.access.endpoint}
    good = strop(remote.output, "--store", "s3", "--key", parts.cosign / "cosign.pub", **environment)
    assert good.returncode == 0, good.stdout + good.stderr
