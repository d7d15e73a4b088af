"""Facts for tests of judgement: a resource, its Job, its pod, as the caches would hold them."""

from dataclasses import replace
from typing import Any

from cluster_parts import POLICY, SPEC

from strop_api.grants import Grant, resolve
from strop_api.identity import run_id, spec_hash
from strop_api.optimization import ModelOptimizationSpec
from strop_api.policy import OptimizationPolicySpec
from strop_api.status import ModelOptimizationStatus
from strop_operator.decide import OUTCOMES
from strop_operator.facts import JobFact, PodFact, ResourceFact, packed, timestamp
from strop_operator.observe import Look, Observed

NOW = 1_800_000_000.0
UID = "0b7c4a52-6f0e-4a39-9df5-3a0d5f1f1c11"
SPEC_MODEL = ModelOptimizationSpec.model_validate(SPEC)
HASH = spec_hash(SPEC_MODEL)
RUN = run_id(UID, HASH)
EVERYTHING_LOOKED_AT = frozenset(Look)


def spec(**changes: Any) -> ModelOptimizationSpec:
    return ModelOptimizationSpec.model_validate(SPEC | changes)


def grant(model: ModelOptimizationSpec = SPEC_MODEL, **changes: Any) -> Grant:
    answer = resolve(model, OptimizationPolicySpec.model_validate(POLICY | changes), "team")
    assert isinstance(answer, Grant), answer
    return answer


def resource(**changes: Any) -> ResourceFact:
    fact = ResourceFact("team", "digits", UID, 10, 1, NOW - 100, False, "", packed(SPEC), packed({}))
    return replace(fact, **changes)


def job(**changes: Any) -> JobFact:
    fact = JobFact("team", "digits-0123456789", "job-uid", 11, UID, RUN, 1, "image@sha256:1", NOW - 60)
    return replace(fact, **changes)


def pod(**changes: Any) -> PodFact:
    fact = PodFact("team", "digits-0123456789-abcde", "pod-uid", 12, "job-uid", UID, NOW - 50, memory_limit="4Gi")
    return replace(fact, **changes)


def status(reason: str = "Launched", *, finished: bool = False, run: str = RUN) -> ModelOptimizationStatus:
    condition = {
        "type": "Ready",
        "status": "True" if reason == "Published" else "False",
        "reason": reason,
        "message": "as it was",
        "lastTransitionTime": timestamp(NOW - 60),
        "observedGeneration": 1,
    }
    told: dict[str, Any] = {
        "id": run,
        "specHash": HASH,
        "hashVersion": 1,
        "image": "image@sha256:1",
        "job": "digits-0123456789",
        "startedAt": timestamp(NOW - 60),
    }
    if finished:
        told["finishedAt"] = timestamp(NOW - 10)
    if finished and reason in OUTCOMES:
        told |= {"reason": reason, "message": "as it was"}
    targets = [{"name": "cpu", "verdict": "Published"}] if told.get("reason") == "Published" else []
    document = {"observedGeneration": 1, "conditions": [condition], "run": told, "targets": targets}
    return ModelOptimizationStatus.model_validate(document)


def seen(**changes: Any) -> Observed:
    base = Observed(
        fact=resource(),
        status=ModelOptimizationStatus(),
        now=NOW,
        spec=SPEC_MODEL,
        spec_hash=HASH,
        run_id=RUN,
        grant=grant(),
        looked=EVERYTHING_LOOKED_AT,
    )
    return replace(base, **changes)
