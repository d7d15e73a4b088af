"""A worker runs other people's models: what it says is not believed because it says it."""

import unicodedata
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.actions import operator_restarts
from e2e.images import Image
from e2e.runs import QUICK, Run, applied, sample
from e2e.shell import Json
from e2e.stack import Stack, tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
FOLDER = Path(__file__).resolve().parent / "liar"
LIAR = Image("strop-liar", FOLDER / "Dockerfile", FOLDER, ("Dockerfile", "strop"))
LIES = ("lie-nonsense", "lie-huge", "lie-another", "lie-climbs", "lie-elsewhere", "lie-html")
LITTLE = {"resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}}


def test_a_worker_that_lies_publishes_nothing_and_harms_nobody(stack: Stack) -> None:
    """Broken, code inside a model could have anything called verified, or end the operator by what it says."""
    images = stack.policy()["images"]
    images[0]["ref"] = stack.platform.image(LIAR)
    before = operator_restarts(stack)
    with tenant(stack, "team-liars", images=images) as namespace, ExitStack() as all_runs:
        runs = {lie: all_runs.enter_context(applied(stack.kubectl, _document(), lie, namespace)) for lie in LIES}
        for run in runs.values():
            run.wait("Stalled", 300)
            _nothing_is_believed(run)
        assert "contradicts itself" in runs["lie-elsewhere"].condition("Stalled")["message"]
        assert all("was not seen" in runs[lie].condition("Stalled")["message"] for lie in LIES[:4])
        assert "<script>" in runs["lie-html"].condition("Stalled")["message"], "words stay words, whoever shows them"
    assert operator_restarts(stack) == before
    with applied(stack.kubectl, sample("magika-static-int8", benchmark=QUICK, seed=51), "honest") as honest:
        honest.wait("Ready")


def _nothing_is_believed(run: Run) -> None:
    status = run.status
    assert run.condition("Stalled")["reason"] == "WorkerFailed", status
    assert run.condition("Ready")["status"] == "False"
    assert not any("artifact" in target for target in status.get("targets", [])), status
    strange = [c for text in _texts(status) for c in text if unicodedata.category(c) in ("Cc", "Cf")]
    assert strange == [], f"{run.name}: what steers a terminal reached the status"


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def _document() -> Json:
    return sample("magika-static-int8", retries=0, worker=LITTLE)
