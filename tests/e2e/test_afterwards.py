"""After a run is over: what was published is watched, and goes with its resource where that is asked for."""

import json
from collections.abc import Iterator

import pytest

from e2e.runs import QUICK, applied, sample
from e2e.shell import Json, wait_until
from e2e.stack import SYSTEM, Stack, tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
NAMESPACE = "team-later"
OWN_MODEL = "later/model.onnx"
FINALIZER = "strop.dev/artifacts"


@pytest.fixture(scope="module")
def namespace(stack: Stack) -> Iterator[str]:
    """A namespace that looks for drift every minute, and a model of its own that may be replaced."""
    with tenant(stack, NAMESPACE, driftChecks={"everySeconds": 60}) as name:
        stack.write("models", OWN_MODEL, stack.read("models", "magika/model.onnx"))
        yield name


def _document(model: str) -> Json:
    document = sample("magika-static-int8", benchmark=QUICK, seed=31)
    document["spec"]["model"]["uri"] = f"s3://models/{model}"
    document["spec"]["output"]["onDelete"] = "Delete"
    document["spec"]["gates"] = {"metricDrop": {"maxPoints": "5"}}
    return document


def test_a_replaced_model_makes_stale_and_starts_nothing_and_deletion_takes_what_was_published(
    stack: Stack, namespace: str
) -> None:
    """Broken, an outdated engine would be served as today's, or deleting it would take what belongs to others."""
    with applied(stack.kubectl, _document(OWN_MODEL), "later", namespace) as run:
        run.wait("Ready")
        before = run.status["run"]
        stack.write("models", OWN_MODEL, stack.read("models", "magika/model.onnx") + b"\0")
        wait_until("the look at the source", lambda: run.condition("Stale").get("status") == "True", 180)
        assert run.condition("Stale")["reason"] == "SourceChanged"
        assert run.condition("Ready")["status"] == "True", "what was published is still what was measured"
        assert run.status["run"] == before, "nothing is started by it"
        wait_until("its Job is gone", lambda: run.jobs() == [], 60)
        assert "SourceChanged" in run.events()

        others = _belongings_of_others(stack, "later")
        records = stack.names("strop-records", f"{namespace}/")
        assert FINALIZER in run.get()["metadata"]["finalizers"]
        stack.kubectl("-n", namespace, "delete", "modeloptimization", "later", "--timeout=180s")
        assert set(stack.names("engines", "later/")) == others
        assert set(records) <= set(stack.names("strop-records", f"{namespace}/")), "records and reports stay"


def test_a_namespace_is_deleted_though_its_resources_wait_for_a_clean_up(stack: Stack, namespace: str) -> None:
    """Broken, a namespace would hang in Terminating for ever, since no Job can start in it."""
    with applied(stack.kubectl, _document("magika/model.onnx"), "going", namespace) as run:
        run.wait("Ready")
        assert FINALIZER in run.get()["metadata"]["finalizers"]
        stack.kubectl("delete", "namespace", namespace, "--timeout=180s")
        assert stack.names("engines", "going/"), "nothing could remove it"
        told = stack.kubectl.get("-n", SYSTEM, "events", "--field-selector=reason=ArtifactsLeft")["items"]
        assert any("s3://engines/going" in event["message"] for event in told), told


def _belongings_of_others(stack: Stack, folder: str) -> set[str]:
    """A run's folder of another resource of that name, and a note, both beside ours. Returns their names."""
    (own,) = (name for name in stack.names("engines", f"{folder}/") if name.endswith("/manifest.json"))
    manifest = json.loads(stack.read("engines", own))
    manifest["runId"], manifest["owner"]["uid"] = "0123456789", "00000000-0000-4000-8000-000000000000"
    names = {f"{folder}/0123456789/manifest.json": json.dumps(manifest).encode(), f"{folder}/notes.txt": b"mine"}
    for name, content in names.items():
        stack.write("engines", name, content)
    return set(names)
