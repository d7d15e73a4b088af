"""A model that keeps its promises is published, and everything on the way says so."""

import hashlib
import json
from pathlib import Path

import pytest

from e2e.prometheus import scraping
from e2e.runs import Watch, applied, sample
from e2e.shell import wait_until
from e2e.stack import SYSTEM, TEAM, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def test_minilm_becomes_a_verified_int8_model_in_minio(stack: Stack, tmp_path: Path) -> None:
    """Broken, nothing of the product works: this is what a user does and sees."""
    kubectl = stack.kubectl
    with applied(kubectl, sample("minilm-int8"), "minilm") as run:
        watch = Watch(kubectl, "minilm", tmp_path / "watch.json")
        kubectl("-n", TEAM, "wait", "--for=condition=Ready", "--timeout=600s", "modeloptimization/minilm")
        states = watch.stop(run.get())

        seen = [s["status"]["progress"] for s in states if s.get("status", {}).get("progress")]
        assert len({(p["stage"], p["percent"]) for p in seen}) >= 2, f"live progress was seen {len(seen)} times"
        percents = [p["percent"] for p in seen]
        assert percents == sorted(percents), f"progress went back: {percents}"
        assert _history(states)[-1] == {"Ready": "True"}
        assert all(h.get("Reconciling") == "True" for h in _history(states)[:-1]), _history(states)

        status = run.status
        assert status["observedGeneration"] == run.get()["metadata"]["generation"]
        target = status["targets"][0]
        assert target["verdict"] == "Published"
        assert {g["verdict"] for g in target["gates"]} == {"Passed"}
        assert _digest_in_store(stack, target["artifact"]["uri"]) == target["artifact"]["digest"]
        assert "Published" in run.events()

        columns = kubectl("-n", TEAM, "get", "mopt", "minilm").splitlines()
        assert columns[0].split() == ["NAME", "READY", "REASON", "PROGRESS", "SPEEDUP", "DROP", "AGE"]
        assert "True" in columns[1]
        assert "Published" in columns[1]

        _metrics_tell_of_it(stack, tmp_path)


def test_applying_the_same_again_starts_nothing(stack: Stack) -> None:
    """Broken, every GitOps sync would burn another run."""
    with applied(stack.kubectl, sample("magika-static-int8"), "again") as run:
        run.wait("Ready")
        before = run.get()
        stack.kubectl("-n", TEAM, "apply", "-f", "-", stdin=_applied_before(stack, before))
        wait_until(
            "the operator has looked", lambda: run.status["observedGeneration"] == run.get()["metadata"]["generation"]
        )
        assert run.get()["metadata"]["generation"] == before["metadata"]["generation"]
        assert run.status["run"] == before["status"]["run"]


def _applied_before(stack: Stack, resource: dict[str, object]) -> str:
    annotations = dict(resource["metadata"]["annotations"])  # type: ignore[index]
    return str(annotations["kubectl.kubernetes.io/last-applied-configuration"])


def _history(states: list[dict[str, object]]) -> list[dict[str, str]]:
    """The conditions of each state that differ from the last, without those before the operator has looked."""
    history: list[dict[str, str]] = []
    for state in states:
        conditions = {c["type"]: c["status"] for c in state.get("status", {}).get("conditions", [])}  # type: ignore[attr-defined]
        if conditions and (not history or history[-1] != conditions):
            history.append(conditions)
    return history


def _digest_in_store(stack: Stack, uri: str) -> str:
    """SHA-256 of the engine's file that a folder's manifest or the URI itself names."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return "sha256:" + hashlib.sha256(stack.read(bucket, key)).hexdigest()


def _metrics_tell_of_it(stack: Stack, folder: Path) -> None:
    pods = stack.kubectl.get("-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=strop")["items"]
    if stack.platform.owned:
        address = f"{pods[0]['status']['podIP']}:8080"
    else:
        pytest.fail("metrics are scraped by pod address; run this on a cluster that the tests own")
    with scraping(address, folder) as prometheus:
        found = wait_until(
            "runs are counted", lambda: prometheus.query('strop_runs_total{outcome="Published"} >= 1'), 30
        )
    print(json.dumps(found))
