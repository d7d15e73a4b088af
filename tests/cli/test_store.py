"""`report`, `get-engine` and past runs of `compare`: a real MinIO, the Secret or the environment's keys."""

import hashlib
import json

import pytest
from status_parts import RUN, SECRET_KEY, target


@pytest.fixture
def engine(shop, namespace, tell):
    """A published engine and the status that names it."""
    artifact = shop.published(namespace.name)
    tell("Published", targets=[target(artifact=artifact.model_dump(mode="json", by_alias=True))])
    return artifact


@pytest.fixture
def keyless(as_user):
    """Somebody who may read resources and the policy, and no Secret."""
    return as_user("get,list:modeloptimizations.strop.dev", "get:optimizationpolicies.strop.dev")


def test_a_report_is_saved_with_the_policys_secret(strop, shop, tell, tmp_path):
    """Broken, people would need the store's address and keys by heart."""
    tell("Published", report=shop.put("reports/report.html", b"<!doctype html>"))
    answer = strop("report", "digits", "-o", tmp_path / "page.html")
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == b"<!doctype html>"


def test_without_the_secret_it_says_what_is_missing_and_where_it_lies(keyless, shop, tell):
    """Broken, somebody without keys would not even learn the address to ask for."""
    uri = shop.put("reports/report.html", b"page")
    tell("Published", report=uri)
    answer = keyless("report", "digits")
    assert answer.code == 3
    assert uri in answer.err
    assert "you may not get secrets strop-store" in answer.err
    assert "AWS_ACCESS_KEY_ID" in answer.err
    assert keyless("report", "digits", "--uri").out.strip() == uri


def test_keys_of_the_environment_do_where_the_secret_may_not_be_read(keyless, shop, tell, tmp_path, monkeypatch):
    """Broken, whoever has keys of their own would be shut out."""
    tell("Published", report=shop.put("reports/report.html", b"page"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", shop.server.user)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", shop.server.password)
    answer = keyless("report", "digits", "-o", tmp_path / "page.html")
    assert answer.code == 0, answer.err


def test_an_address_of_ones_own_replaces_the_policys(strop, shop, tell, namespace, tmp_path, monkeypatch):
    """Broken, a store inside the cluster could not be reached through a forwarded port."""
    tell("Published", report=shop.put("reports/report.html", b"page"))
    policy = f"{namespace.policies}/default"
    stores = namespace.api.get(policy)["spec"]["stores"]
    namespace.api.merge(policy, {"spec": {"stores": [stores[0] | {"endpoint": "http://127.0.0.1:9"}]}})
    answer = strop("report", "digits", "-o", tmp_path / "page.html")
    assert answer.code == 12
    assert "kubectl port-forward" in answer.err
    monkeypatch.setenv("STROP_S3_ENDPOINT", shop.server.url)
    assert strop("report", "digits", "-o", tmp_path / "page.html").code == 0


def test_a_report_that_is_gone_is_said(strop, shop, tell):
    """Broken, an empty file would be left."""
    tell("Published", report=f"s3://{shop.bucket}/reports/report.html")
    assert "is not in the store" in strop("report", "digits").err


def test_a_run_without_a_report_is_said(strop, shop, tell):
    """Broken, a trace would be all there is."""
    tell("Running")
    assert "has no report yet" in strop("report", "digits").err


def test_an_engine_is_kept_when_every_digest_is_right(strop, engine, tmp_path):
    """Broken, what is downloaded would not be what was measured."""
    answer = strop("get-engine", "digits", "-o", tmp_path / "engine")
    assert answer.code == 0, answer.err
    path = tmp_path / "engine" / "model.onnx"
    assert answer.out.strip() == str(path)
    assert "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() == engine.digest
    assert {p.name for p in path.parent.iterdir()} >= {"model.onnx", "manifest.json", "provenance.json"}
    assert "verified: " in answer.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["engine"]


def test_an_engine_that_was_changed_is_not_kept(strop, engine, shop, tmp_path):
    """Broken, whoever may write to the store could serve another model."""
    path = tmp_path / "evil"
    path.write_bytes(b"evil bytes")
    shop.store.upload(engine.uri, path)
    answer = strop("get-engine", "digits", "-o", tmp_path / "engine")
    assert answer.code == 11
    assert "model.onnx has the digest" in answer.err
    assert not (tmp_path / "engine").exists()


def test_a_manifest_that_was_changed_along_is_found_by_the_status(strop, engine, shop, tmp_path):
    """Broken, changing engine and manifest together would go unseen: the status is out of the store's reach."""
    path = tmp_path / "evil"
    path.write_bytes(b"evil bytes")
    folder = engine.uri.rpartition("/")[0]
    manifest = json.loads(shop.store.read(f"{folder}/manifest.json", 1 << 20))
    for file in manifest["files"]:
        if file["name"] == "model.onnx":
            file |= {"digest": "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(), "sizeBytes": 10}
    shop.store.upload(engine.uri, path)
    path.write_text(json.dumps(manifest))
    shop.store.upload(f"{folder}/manifest.json", path)
    answer = strop("get-engine", "digits", "-o", tmp_path / "engine")
    assert answer.code == 11
    assert "the status promises model.onnx" in answer.err
    assert not (tmp_path / "engine").exists()


def test_a_provenance_that_was_changed_is_found(strop, engine, shop, tmp_path):
    """Broken, only the engine would be looked at."""
    path = tmp_path / "evil"
    path.write_text("{}")
    shop.store.upload(f"{engine.uri.rpartition('/')[0]}/provenance.json", path)
    answer = strop("get-engine", "digits", "-o", tmp_path / "engine")
    assert answer.code == 11
    assert not (tmp_path / "engine").exists()


def test_a_folder_with_something_in_it_is_left_alone(strop, engine, tmp_path):
    """Broken, somebody's files would be mixed with ours."""
    (tmp_path / "mine").write_text("mine")
    assert "is there and not empty" in strop("get-engine", "digits", "-o", tmp_path).err
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_missed_a_gate_has_no_engine_to_get(strop, tell):
    """Broken, people would look for a file that was never published."""
    tell("GateMissed", message="speed-up 0.9x is below 1.5x", targets=[target(verdict="GateMissed", artifact=None)])
    answer = strop("get-engine", "digits")
    assert answer.code == 3
    assert "speed-up 0.9x is below 1.5x" in answer.err


def test_no_key_is_ever_shown(strop, keyless, engine, shop, tmp_path, monkeypatch):
    """Broken, a log of a pipeline would hold the store's keys."""
    said = []
    for words in (("get-engine", "digits", "-o", tmp_path / "a"), ("report", "digits")):
        for shell in (strop, keyless):
            answer = shell(*words)
            said += [answer.out, answer.err]
    assert SECRET_KEY not in "".join(said)


def test_a_past_runs_figures_are_those_beside_its_report(strop, shop, tell):
    """Broken, a new run could not be held against the one before it."""
    before = target(speedup={"ratio": "1.5", "low": "1.4", "high": "1.6", "over": "BestUnquantized"})
    result = {"runId": "9876543210", "outcome": "Published", "target": before, "finishedAt": "2025-12-31T00:00:00Z"}
    shop.put("reports/9876543210/result.json", json.dumps(result).encode())
    past = {
        "id": "9876543210", "reason": "Published", "finishedAt": "2025-12-31T00:00:00Z",
        "report": f"s3://{shop.bucket}/reports/9876543210/report.html",
    }  # fmt: skip
    tell("Published", runs=[past])
    found = strop("compare", "digits@9876543210", "digits", "-o", "json").document()
    speed = next(f for f in found["figures"] if f["figure"] == "speed-up")
    assert speed == {"figure": "speed-up", "first": "1.5x (1.4 to 1.6)", "second": "2.31x (2.2 to 2.4)",
                     "secondIs": "better"}  # fmt: skip
    assert [run["run"] for run in found["runs"]] == ["digits@9876543210", f"digits@{RUN}"]
    assert "earlier runs: 9876543210" in strop("compare", "digits@0000000000", "digits").err


def test_two_resources_are_compared_from_their_statuses_alone(strop, tell):
    """Broken, comparing would need keys of the store."""
    tell("Published", "a")
    tell("Published", "b", targets=[target(speedup={"ratio": "3", "low": "2.9", "high": "3.1", "over": "Original"})])
    answer = strop("compare", "a", "b")
    assert answer.code == 0
    assert any(line.startswith("speed-up") and line.endswith("3x (2.9 to 3.1)") for line in answer.lines)
    assert any("the speed-ups are not compared" in line for line in answer.lines)
