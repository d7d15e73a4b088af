"""The judgement, check by check: what is seen on the left, what is decided on the right."""

from dataclasses import replace
from typing import Any

import pytest
from cluster_parts import result
from facts_parts import NOW, RUN, grant, job, pod, resource, seen, spec, status

from strop_api.failures import TABLE, Failure, PolicyAction
from strop_api.grants import Refusal
from strop_api.reasons import Reason
from strop_operator.decide import (
    CHECKS,
    KEEP_FAILED_SECONDS,
    MAX_EVICTIONS,
    MAX_LOST,
    REPLACED_SECONDS,
    Action,
    decide,
)
from strop_operator.facts import packed
from strop_operator.observe import Look, Observed
from strop_operator.pods import explain
from strop_operator.status import QUIET, RECONCILING, STALE, STALLED, compose, conditions

OTHER = job(uid="other-uid", name="digits-other", run_id="0000000000")
DONE = job(ended="Complete", ended_at=NOW - 5)
FAILED = job(ended="Failed", end_reason="PodFailurePolicy", ended_at=NOW - 5)
GOOD = pod(phase="Succeeded", exit_code=0, termination=result(RUN))
POD_AT_WORK = pod(phase="Running", scheduled=True)
OUTGROWN = pod(phase="Failed", reason="Evicted", message="EmptyDir exceeds its limit", exit_code=42)
REFUSED = Refusal(Reason.NOT_ALLOWED, "spec.worker.queueName: no")
NO_POLICY = Refusal(Reason.NO_POLICY, "none")
LAUNCH, STOP, WAIT, SETTLE, LOOK = Action.LAUNCH, Action.STOP, Action.WAIT, Action.SETTLE, Action.LOOK
ROW = tuple[dict[str, Any], Action, Reason | None]

TABLE_OF_DECISIONS: dict[str, ROW] = {
    "nothing stands in the way": ({}, LAUNCH, Reason.LAUNCHED),
    "the resource is being deleted": ({"fact": resource(deleting=True), "jobs": (job(),)}, WAIT, None),
    "settled, nothing left": ({"status": status("Published", finished=True)}, WAIT, Reason.PUBLISHED),
    "published, its Job is left": (
        {"status": status("Published", finished=True), "jobs": (DONE,)}, STOP, Reason.PUBLISHED,
    ),
    "failed, its Job's log may be read": (
        {"status": status("GateMissed", finished=True), "jobs": (FAILED,)}, WAIT, Reason.GATE_MISSED,
    ),
    "failed long ago": (
        {"status": status("GateMissed", finished=True), "jobs": (replace(FAILED, ended_at=NOW - KEEP_FAILED_SECONDS),)},
        STOP, Reason.GATE_MISSED,
    ),
    "settled while its Job still runs": (
        {"status": status("EvictedTooOften", finished=True), "jobs": (job(),)}, STOP, Reason.EVICTED_TOO_OFTEN,
    ),
    "settled, and the policy tightened": (
        {"status": status("Published", finished=True), "grant": REFUSED}, WAIT, Reason.PUBLISHED,
    ),
    "settled, and suspended": (
        {"status": status("Published", finished=True), "spec": spec(suspend=True)}, WAIT, Reason.PUBLISHED,
    ),
    "the spec cannot be carried out": (
        {"problem": Refusal(Reason.INVALID_SPEC, "spec.model: no")}, SETTLE, Reason.INVALID_SPEC,
    ),
    "a newer operator has stricter rules": (
        {"problem": Refusal(Reason.INVALID_SPEC, "no"), "jobs": (job(),), "pods": (POD_AT_WORK,)}, WAIT, Reason.RUNNING,
    ),
    "another run's Job is there": ({"jobs": (OTHER,)}, STOP, Reason.STOPPING),
    "another run's Job is ending": ({"jobs": (replace(OTHER, deleting=True),)}, WAIT, Reason.STOPPING),
    "another run's pod is ending": ({"pods": (pod(job_uid="gone", deleting=True),)}, WAIT, Reason.STOPPING),
    "another run's pod has ended": ({"pods": (pod(job_uid="gone", phase="Failed"),)}, LAUNCH, Reason.LAUNCHED),
    "a former pod, perhaps gone": ({"pods": (pod(job_uid="gone"),), "looked": frozenset()}, LOOK, None),
    "published": ({"jobs": (DONE,), "pods": (GOOD,)}, SETTLE, Reason.PUBLISHED),
    "published at the moment of suspension": (
        {"jobs": (DONE,), "pods": (GOOD,), "spec": spec(suspend=True)}, SETTLE, Reason.PUBLISHED,
    ),
    "complete, the pod not seen yet": ({"jobs": (DONE,), "looked": frozenset()}, LOOK, None),
    "complete, the result lost": ({"jobs": (DONE,)}, STOP, Reason.RESULT_LOST),
    "lost again and again": ({"jobs": (replace(DONE, lost=MAX_LOST - 1),)}, SETTLE, Reason.WORKER_FAILED),
    "killed, not for memory": (
        {"jobs": (FAILED,), "pods": (pod(phase="Failed", exit_code=137, exit_reason="Error"),)}, STOP, Reason.RETRYING,
    ),
    "killed, and the attempts used up": (
        {"jobs": (replace(FAILED, failures=3),), "pods": (pod(phase="Failed", exit_code=137, exit_reason="Error"),)},
        SETTLE, Reason.WORKER_FAILED,
    ),
    "killed, and the time used up": (
        {
            "jobs": (replace(FAILED, spent_seconds=21_600),),
            "pods": (pod(phase="Failed", exit_code=137, exit_reason="Error"),),
        },
        SETTLE, Reason.WORKER_FAILED,
    ),
    "failed, and its pod is gone": ({"jobs": (FAILED,)}, STOP, Reason.RESULT_LOST),
    "failed, its pod not seen yet": ({"jobs": (FAILED,), "looked": frozenset()}, LOOK, None),
    "published, and the figures are gone": (
        {"status": status("Published", finished=True).model_copy(update={"targets": []})}, LAUNCH, Reason.LAUNCHED,
    ),
    "failed and left no pod": (
        {"jobs": (replace(FAILED, end_reason="BackoffLimitExceeded", end_message="too often"),)},
        SETTLE, Reason.WORKER_FAILED,
    ),
    "suspended, nothing runs": ({"spec": spec(suspend=True)}, SETTLE, Reason.SUSPENDED),
    "suspended, the Job runs": (
        {"spec": spec(suspend=True), "jobs": (job(),), "pods": (POD_AT_WORK,)}, STOP, Reason.STOPPING,
    ),
    "suspended, the pod is ending": (
        {"spec": spec(suspend=True), "pods": (pod(job_uid="gone"),)}, WAIT, Reason.STOPPING,
    ),
    "evicted too often": ({"jobs": (job(),), "evictions": MAX_EVICTIONS + 1}, SETTLE, Reason.EVICTED_TOO_OFTEN),
    "evicted often": ({"jobs": (job(),), "pods": (POD_AT_WORK,), "evictions": MAX_EVICTIONS}, WAIT, Reason.RUNNING),
    "in Kueue's queue": ({"jobs": (job(suspended=True),)}, WAIT, Reason.QUEUED),
    "launched a moment ago": ({"jobs": (job(created_at=NOW),)}, WAIT, Reason.LAUNCHED),
    "no pod appears": ({"jobs": (job(),), "looked": frozenset()}, LOOK, None),
    "the pod is refused": ({"jobs": (job(),), "warning": "FailedCreate: quota"}, WAIT, Reason.POD_REFUSED),
    "no pod, and nobody says why": ({"jobs": (job(),)}, WAIT, Reason.LAUNCHED),
    "unschedulable": ({"jobs": (job(),), "pods": (pod(unschedulable="0/3"),)}, WAIT, Reason.UNSCHEDULABLE),
    "image not pulled": ({"jobs": (job(),), "pods": (pod(waiting="ErrImagePull"),)}, WAIT, Reason.IMAGE_PULL_FAILED),
    "a volume does not mount": (
        {"jobs": (job(),), "pods": (pod(scheduled=True),), "looked": frozenset()}, LOOK, None,
    ),
    "starting": ({"jobs": (job(),), "pods": (pod(),)}, WAIT, Reason.LAUNCHED),
    "running": ({"jobs": (job(),), "pods": (POD_AT_WORK,)}, WAIT, Reason.RUNNING),
    "on a node that is lost": (
        {"jobs": (job(),), "pods": (replace(POD_AT_WORK, deleting=True, disrupted="Taint manager: NoExecute taint"),)},
        WAIT, Reason.RETRYING,
    ),
    "running, and the policy is gone": (
        {"jobs": (job(),), "pods": (POD_AT_WORK,), "grant": NO_POLICY}, WAIT, Reason.RUNNING,
    ),
    "the worker ended a moment ago": (
        {"jobs": (job(),), "pods": (replace(GOOD, ended_at=NOW - 1),)}, WAIT, None,
    ),
    "the worker ended, and no Job follows": (
        {"jobs": (job(),), "pods": (replace(GOOD, ended_at=NOW - 6),)}, WAIT, Reason.RUNNING,
    ),
    "the node's clock is ahead": (
        {"jobs": (job(),), "pods": (replace(GOOD, ended_at=NOW + 600),)}, WAIT, Reason.RUNNING,
    ),
    "an attempt failed": (
        {"jobs": (job(),), "pods": (pod(phase="Failed", exit_code=12),)}, WAIT, Reason.RETRYING,
    ),
    "the last attempt failed": (
        {"jobs": (job(),), "pods": (pod(phase="Failed", exit_code=12),), "spec": spec(retries=0)}, WAIT, Reason.RUNNING,
    ),
    "a disruption, no retry left": (
        {"jobs": (job(),), "pods": (pod(phase="Failed", disrupted="drained"),), "spec": spec(retries=0)},
        WAIT, Reason.RETRYING,
    ),
    "outgrew its volumes": ({"jobs": (job(),), "pods": (OUTGROWN,)}, WAIT, Reason.RETRYING),
    "outgrew its volumes for the last time": (
        {"jobs": (job(),), "pods": (OUTGROWN,), "spec": spec(retries=0)}, SETTLE, Reason.DISK_FULL,
    ),
    "killed, the Job does not know yet": (
        {"jobs": (job(),), "pods": (pod(phase="Failed", exit_code=137, exit_reason="Error"),)}, WAIT, Reason.RETRYING,
    ),
    "killed for the last time": (
        {"jobs": (job(failures=3),), "pods": (pod(phase="Failed", exit_code=137, exit_reason="Error"),)},
        WAIT, Reason.RUNNING,
    ),
    "the next attempt runs": (
        {"jobs": (job(),), "pods": (pod(phase="Failed", exit_code=12), replace(POD_AT_WORK, uid="second"))},
        WAIT, Reason.RUNNING,
    ),
    "ended, the Job does not know yet": ({"jobs": (job(),), "pods": (GOOD,)}, WAIT, Reason.RUNNING),
    "not allowed": ({"grant": REFUSED}, SETTLE, Reason.NOT_ALLOWED),
    "no policy known": ({"grant": NO_POLICY, "looked": frozenset()}, LOOK, None),
    "no policy": ({"grant": NO_POLICY}, SETTLE, Reason.NO_POLICY),
    "the policy is perhaps being replaced": ({"grant": NO_POLICY, "policy_gone_at": NOW - 1}, WAIT, None),
    "the policy was not replaced": (
        {"grant": NO_POLICY, "policy_gone_at": NOW - REPLACED_SECONDS}, SETTLE, Reason.NO_POLICY,
    ),
    "a stranger's Job has our name": ({"conflict": "Job x exists"}, SETTLE, Reason.NAME_CONFLICT),
    "no Job known after a restart": ({"status": status(), "looked": frozenset()}, LOOK, None),
    "the Job is gone": ({"status": status("Running")}, LAUNCH, Reason.LAUNCHED),
    "created before this process": ({"looked": frozenset()}, LOOK, None),
    "created just now": ({"looked": frozenset(), "before_start": False}, LAUNCH, Reason.LAUNCHED),
    "no place": ({"occupied": 2, "grant": grant(limits={"concurrentRuns": 2})}, WAIT, Reason.QUEUED),
    "a place, and another waits longer": (
        {"occupied": 1, "ahead": 1, "grant": grant(limits={"concurrentRuns": 2})}, WAIT, Reason.QUEUED,
    ),
    "a place for each that waits": (
        {"occupied": 1, "ahead": 1, "grant": grant(limits={"concurrentRuns": 3})}, LAUNCH, Reason.LAUNCHED,
    ),
    "the last run was overwritten": ({"status": status("InvalidSpec", finished=True)}, LAUNCH, Reason.LAUNCHED),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "action", "reason"), TABLE_OF_DECISIONS.values(), ids=TABLE_OF_DECISIONS.keys())
def test_what_is_seen_leads_to_what_is_decided(changes: dict[str, Any], action: Action, reason: Reason | None) -> None:
    """Each row is a promise of the design."""
    decision = decide(seen(**changes))
    assert (decision.action, decision.reason) == (action, reason)


def matching(row: Failure) -> dict[str, Any]:
    """How a pod looks that this row explains."""
    if row.pod_condition is not None:
        return {"disrupted": "drained", "exit_code": 137}
    if row.terminated_reason is not None:
        return {"exit_code": 137, "exit_reason": row.terminated_reason}
    if row.pod_reason is not None:
        return {"reason": row.pod_reason, "exit_code": 137, "exit_reason": "Error"}
    return {"exit_code": None if row.exit_code is None else int(row.exit_code)}


@pytest.mark.parametrize("row", TABLE, ids=[row.cause for row in TABLE])
def test_each_row_of_the_failure_table_explains_its_pod_and_ends_or_retries_as_it_says(row: Failure) -> None:
    """The table is data: a row that no code reads would promise what nobody keeps."""
    ended = pod(phase="Failed", **matching(row))
    if row.job_reason is not None:
        over = replace(FAILED, end_reason=row.job_reason, end_message="too long")
        assert decide(seen(jobs=(over,), pods=(ended,))).reason is row.reason
        return
    assert explain(ended) is row
    before_the_job_knows = decide(seen(jobs=(job(),), pods=(ended,)))
    if row.action is PolicyAction.FAIL_JOB:
        assert before_the_job_knows.reason is Reason.RUNNING
        assert before_the_job_knows.message == "the worker has ended; waiting for the Job"
    else:
        assert before_the_job_knows.reason is Reason.RETRYING
    if row.action is not PolicyAction.IGNORE:
        used_up = replace(FAILED, end_reason="BackoffLimitExceeded", attempt=9)
        decision = decide(seen(jobs=(used_up,), pods=(ended,)))
        assert (decision.action, decision.reason) == (Action.SETTLE, row.reason)


def test_a_look_is_never_asked_for_twice() -> None:
    """A check that asks for ever would spin."""
    for changes, action, _ in TABLE_OF_DECISIONS.values():
        if action is Action.LOOK:
            again = decide(seen(**changes | {"looked": frozenset(Look)}))
            assert again.action is not Action.LOOK


def test_the_last_check_always_speaks() -> None:
    """A resource about which nobody has anything to say would hang without a word."""
    assert CHECKS[-1](seen()) is not None


def test_every_reason_has_exactly_one_meaning_for_kstatus() -> None:
    """A reason in no class would leave a resource neither done, nor going on, nor stalled."""
    assert frozenset(Reason) == RECONCILING | STALLED | QUIET | STALE
    assert not STALE & (RECONCILING | STALLED | QUIET)
    assert not RECONCILING & STALLED
    assert not (RECONCILING | STALLED) & QUIET


@pytest.mark.parametrize("reason", list(Reason))
def test_conditions_are_what_kstatus_reads(reason: Reason) -> None:
    """Reconciling and Stalled exist only while they are true; Ready always, and True for one reason alone."""
    found = {c.type.value: c.status for c in conditions(seen(), reason, "")}
    assert found.pop("Ready") == ("True" if reason is Reason.PUBLISHED else "False")
    assert set(found.values()) <= {"True"}
    assert len(found) <= 1


def test_a_settled_run_keeps_what_it_said_when_something_else_changes() -> None:
    """Figures and the time of the transition are of the run, not of the last reconcile."""
    before = seen(status=status("Published", finished=True), fact=resource(generation=2))
    after = compose(before, decide(before), None, progress_due=True)
    assert before.status.run is not None
    assert after.run == before.status.run.model_copy(update={"observed_generation": 2})
    assert after.observed_generation == 2
    assert after.conditions[0].message == "as it was"
    assert after.conditions[0].last_transition_time == before.status.conditions[0].last_transition_time


def test_a_run_hashed_by_another_rule_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of the operator never starts a run."""
    from strop_operator import observe as module
    from strop_operator.cache import Cache

    cache, fact = Cache(), resource()
    old = status("Published", finished=True, run="aaaaaaaaaa")
    assert old.run is not None
    old = old.model_copy(update={"run": old.run.model_copy(update={"hash_version": 99})})
    cache.put_resource(replace(fact, status=packed(old.model_dump(mode="json", by_alias=True, exclude_none=True))))
    observed = module.observe(cache, fact.key, "strop-system", NOW)
    assert isinstance(observed, Observed)
    assert decide(observed).reason is Reason.PUBLISHED
    cache.put_resource(replace(cache.resources[fact.key], generation=2, version=fact.version + 1))
    observed = module.observe(cache, fact.key, "strop-system", NOW)
    assert isinstance(observed, Observed)
    assert observed.run_id == RUN
