"""Statuses as the operator writes them."""

from typing import Any

from strop_api.identity import HASH_VERSION, spec_hash
from strop_api.optimization import ModelOptimizationSpec

Node = dict[str, Any]
SECRET_KEY = "never-to-be-shown"
RUN = "0123456789"
IMAGE = "registry.example.com/strop-worker@sha256:" + "1" * 64


def target(**changes: Any) -> Node:
    """A published target."""
    return {
        "name": "cpu",
        "verdict": "Published",
        "artifact": {"uri": f"s3://engines/digits/{RUN}/model.onnx", "digest": "sha256:" + "a" * 64, "sizeBytes": 4096},
        "metric": {
            "name": "accuracy", "original": "0.97", "optimized": "0.965", "dropPoints": "0.5", "low": "0.1",
            "high": "0.9", "samples": 360,
        },
        "latency": {"p50Microseconds": 740, "p99Microseconds": 910, "calls": 400},
        "speedup": {"ratio": "2.31", "low": "2.2", "high": "2.4", "over": "BestUnquantized"},
        "gates": [{"gate": "metricDrop", "verdict": "Passed", "measured": "0.5", "bound": "1.0", "message": "within"}],
    } | changes  # fmt: skip


def status(document: Node, reason: str, *, message: str = "", **changes: Any) -> Node:
    """As the operator writes it of this resource."""
    metadata, now = document["metadata"], "2026-01-01T00:00:00Z"
    generation = metadata["generation"]
    kinds = {"Ready": "True" if reason == "Published" else "False"}
    if reason in ("Running", "Launched", "Queued", "Unschedulable", "Retrying"):
        kinds["Reconciling"] = "True"
    elif reason not in ("Published", "Suspended"):
        kinds["Stalled"] = "True"
    conditions = [
        {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": now,
         "observedGeneration": generation}
        for kind, value in kinds.items()
    ]  # fmt: skip
    run = {
        "id": RUN, "specHash": spec_hash(ModelOptimizationSpec.model_validate(document["spec"])),
        "hashVersion": HASH_VERSION, "image": IMAGE, "rerun": "", "attempt": 1, "job": "digits-job", "startedAt": now,
    }  # fmt: skip
    if "Reconciling" not in kinds:
        run |= {"finishedAt": "2026-01-01T00:05:00Z", "reason": reason, "message": message}
    published = {
        "targets": [target()],
        "stages": [{"name": "export", "seconds": "1.50"}, {"name": "compile", "seconds": "30", "cached": True}],
        "report": f"s3://strop-records/team/reports/{RUN}/report.html",
        "summary": {"speedup": "2.31x", "drop": "0.50"},
    }
    made = {"observedGeneration": generation, "conditions": conditions, "phase": "Running", "run": run}
    return made | (published if reason == "Published" else {}) | changes
