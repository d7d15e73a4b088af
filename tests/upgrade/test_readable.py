"""What earlier releases left is read by today's code: resources and status, a run that goes on, records, pointers.

A failure here means: this change would harm who upgrades. Mend the change; a recorded release is never edited.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from strop_api.identity import HASH_VERSION, spec_hash
from strop_api.optimization import ModelOptimizationSpec
from strop_api.policy import OptimizationPolicySpec
from strop_api.reasons import Reason
from strop_api.result import REQUEST_ANNOTATION, Result, RunRequest, encode
from strop_api.rules import validate, validate_policy
from strop_api.status import ModelOptimizationStatus
from strop_job.publish import MANIFEST, POINTER, PROVENANCE, Manifest, Owner, current, publish
from strop_job.records import Record
from strop_job.store.digests import bytes_digest
from strop_job.store.local import LocalStore
from strop_job.trust.statement import read
from strop_operator.cache import Cache
from strop_operator.decide import Action, Decision, decide
from strop_operator.facts import job_fact, pod_fact, policy_fact, resource_fact
from strop_operator.observe import Observed, observe
from strop_operator.status import compose, dump

from .conftest import Release, load

SYSTEM = "strop-system"
SETTLED = {Reason.PUBLISHED, Reason.GATE_MISSED, Reason.INVALID_INPUT}


DROPPED = {".warnings", ".status.warnings"}
"""Fields of earlier releases that went, as the changelog says: what they held is said anew, in another field."""


def lost(before: Any, after: Any, where: str = "") -> list[str]:
    """Paths whose value is not there any more; what was added does not count."""
    if where in DROPPED:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        return [path for key, value in before.items() for path in lost(value, after.get(key), f"{where}.{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [path for i, value in enumerate(before) for path in lost(value, after[i], f"{where}[{i}]")]
    return [] if before == after else [where]


def seen(release: Release, name: str) -> Observed:
    """What today's operator knows after its start, when the Job and the pod of the run are still there or gone."""
    cache, document = Cache(), release.resources[name]
    cache.policies[SYSTEM] = policy_fact(release.policy)
    fact = resource_fact(document)
    cache.put_resource(fact)
    cache.put_job(job_fact(release.running("job")))
    cache.pods.put(pod_fact(release.running("pod")))
    found = observe(cache, fact.key, SYSTEM, fact.created_at + 3600)
    assert found is not None
    return found


def decided(release: Release, reason: Reason) -> dict[str, Decision]:
    """Today's decision about every resource that had this reason."""
    ready = {name: d["status"]["conditions"][0]["reason"] for name, d in release.resources.items()}
    return {name: decide(seen(release, name)) for name, said in ready.items() if said == reason}


def test_a_release_was_recorded_in_full(release: Release) -> None:
    """A record of nothing would prove nothing."""
    reasons = {d["status"]["conditions"][0]["reason"] for d in release.resources.values()}
    assert reasons >= {*SETTLED, Reason.RUNNING, Reason.SUSPENDED}
    assert list(release.store.rglob(POINTER))


def test_a_stored_spec_is_still_valid(release: Release) -> None:
    """A resource that ran yesterday would be refused today: by a rule that came, or a field that went."""
    for name, document in release.resources.items():
        spec = validate(document, cluster=True)
        assert lost(document["spec"], spec.model_dump(mode="json", by_alias=True)) == [], name
    validate_policy(release.policy)
    OptimizationPolicySpec.model_validate(release.policy["spec"])


def test_the_hash_of_a_stored_spec_is_the_one_that_was_recorded(release: Release) -> None:
    """An upgrade would start every run again. Where the hash must change, HASH_VERSION does too."""
    for name, document in release.resources.items():
        run = document["status"].get("run")
        if run is not None and run["hashVersion"] == HASH_VERSION:
            assert spec_hash(ModelOptimizationSpec.model_validate(document["spec"])) == run["specHash"], name


def test_a_stored_status_is_understood_whole(release: Release) -> None:
    """The operator would forget what it said, and write a status that says less."""
    for name, document in release.resources.items():
        status = ModelOptimizationStatus.model_validate(document["status"])
        assert lost(document["status"], dump(status)) == [], name


@pytest.mark.parametrize("reason", sorted(SETTLED))
def test_a_run_that_ended_is_not_started_again(release: Release, reason: Reason) -> None:
    """After an upgrade every published model would be made once more, or be said to have less."""
    found = decided(release, reason)
    assert found
    for name, decision in found.items():
        observed = seen(release, name)
        assert (decision.action, decision.reason) == (Action.WAIT, reason), name
        after = dump(compose(observed, decision, None, progress_due=True))
        assert lost(release.resources[name]["status"], after) == [], name


def test_a_run_that_goes_on_is_left_alone(release: Release) -> None:
    """The operator is replaced while workers run: their Jobs must be recognised, by labels and annotations."""
    (decision,) = decided(release, Reason.RUNNING).values()
    assert (decision.action, decision.reason) == (Action.WAIT, Reason.RUNNING)


def test_a_suspended_resource_stays_suspended(release: Release) -> None:
    """An upgrade would start what somebody had stopped."""
    (decision,) = decided(release, Reason.SUSPENDED).values()
    assert (decision.action, decision.reason) == (Action.SETTLE, Reason.SUSPENDED)


def test_a_request_of_an_older_operator_is_carried_out(release: Release) -> None:
    """A pod that starts during the upgrade has the older operator's request and perhaps the newer worker's image."""
    pod = release.running("pod")
    request = RunRequest.model_validate_json(pod["metadata"]["annotations"][REQUEST_ANNOTATION])
    stored = release.resources[request.name]
    assert request.run_id == stored["status"]["run"]["id"]
    assert spec_hash(request.spec) == stored["status"]["run"]["specHash"]


def test_a_result_of_an_older_worker_becomes_status(release: Release) -> None:
    """The policy pins the worker's image, so a new operator hears older workers: their figures would be lost."""
    for path in release.store.rglob("result.json"):
        result = Result.model_validate_json(path.read_bytes())
        assert result.target is not None
        stored = next(d for d in release.resources.values() if d["status"].get("run", {}).get("id") == result.run_id)
        assert lost(stored["status"]["targets"], [result.target.model_dump(mode="json", by_alias=True)]) == []
        assert Result.model_validate_json(encode(result)).outcome is result.outcome


def test_records_are_read(release: Release) -> None:
    """Every stage of every model would be done again after an upgrade."""
    paths = list(release.store.rglob("records/*.json"))
    assert paths
    for path in paths:
        record = Record.model_validate_json(path.read_bytes())
        assert record.key == path.stem
        assert lost(load(path), json.loads(record.model_dump_json(by_alias=True))) == []


def test_a_published_run_is_found_and_followed_by_the_next(release: Release, tmp_path: Path) -> None:
    """The pointer of an older release could not be read, or not be moved by the resource that owns it."""
    shutil.copytree(release.store, tmp_path / "store")
    store = LocalStore(tmp_path / "store")
    output = "s3://" + next(release.store.rglob(POINTER)).parent.relative_to(release.store).as_posix()
    pointer = current(store, output)
    assert pointer is not None
    data = store.read(f"{pointer.uri}/{MANIFEST}", 1 << 20)
    assert bytes_digest(data) == pointer.manifest_digest
    manifest = Manifest.model_validate_json(data)
    assert (manifest.run_id, manifest.owner) == (pointer.run_id, pointer.owner)
    (tmp_path / "engine.onnx").write_bytes(b"the next one")
    next_owner = Owner(namespace=pointer.owner.namespace, name=pointer.owner.name, uid="another")
    publish(store, output, "next", next_owner, {"engine.onnx": tmp_path / "engine.onnx"}, {})
    moved = current(store, output)
    assert moved is not None
    assert moved.run_id == "next"


def test_provenance_names_the_spec_it_is_of(release: Release) -> None:
    """Whoever asks later how a published model was made could not check the answer."""
    found = list(release.store.rglob(PROVENANCE))
    assert found
    for path in found:
        seen = read(path.read_bytes())
        assert spec_hash(ModelOptimizationSpec.model_validate(seen.spec)) == seen.run.spec_hash
