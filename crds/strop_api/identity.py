"""What a run is: which fields decide its outcome, how they are hashed, how a run and its Job are named."""

import hashlib
import json
from typing import Any

from strop_api.optimization import ModelOptimizationSpec

HASH_VERSION = 1
RERUN_ANNOTATION = "strop.dev/rerun"

_OUTSIDE: dict[str, Any] = {
    "suspend": True,
    "retries": True,
    "active_deadline_seconds": True,
    "ttl_seconds_after_finished": True,
    "runs_history_limit": True,
    "output": {"on_delete": True},
    "worker": {
        "node_selector", "tolerations", "priority_class_name", "runtime_class_name", "service_account_name",
        "queue_name", "scratch", "shared_memory", "labels",
    },
}  # fmt: skip
"""Fields that say how a run is carried out, not what comes out."""


def spec_hash(spec: ModelOptimizationSpec) -> str:
    """`sha256:…` of the fields that decide the outcome.

    Values equal to their defaults are left out, so that a field or default added by a later release
    never starts a run by itself.
    """
    document = spec.model_dump(mode="json", by_alias=True, exclude=_OUTSIDE, exclude_defaults=True)
    if not document.get("worker"):
        document.pop("worker", None)  # all that was said of the worker is outside
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def run_id(uid: str, hash_: str, rerun: str = "") -> str:
    """Ten hexadecimal digits from the resource, what was asked and the re-run token: asking again is the same run."""
    return hashlib.sha256("\0".join((uid, hash_, rerun)).encode()).hexdigest()[:10]


def job_name(name: str, uid: str, run: str) -> str:
    """At most 63 characters: as much of the name as fits, then the resource's and the run's identity."""
    suffix = hashlib.sha256(f"{uid}\0{run}".encode()).hexdigest()[:10]
    return f"{name[:52].rstrip('-.').replace('.', '-')}-{suffix}"
