"""What was published is looked at now and then: the look never disturbs a run, and its end is told truthfully."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from cluster_parts import POLICY, Kubelet, Namespace, Operator, condition, conditions, eventually, result, run_of
from facts_parts import NOW, RUN, UID, grant, job, pod, resource, seen, spec, status

from strop_api.errands import ErrandKind, ErrandRequest, ErrandResult
from strop_api.reasons import Reason
from strop_api.result import REQUEST_ANNOTATION
from strop_api.status import ModelOptimizationStatus
from strop_operator.cache import Cache
from strop_operator.decide import decide
from strop_operator.decision import Action, Checked, Decision
from strop_operator.drift import AT_ONCE, FAILED_LAST_SECONDS, next_look, next_moment
from strop_operator.events import remarks
from strop_operator.facts import timestamp
from strop_operator.observe import Observed
from strop_operator.status import compose

DAY = 86_400
REF = POLICY["images"][0]["ref"]
NEWER = {"images": [POLICY["images"][0] | {"ref": "registry.example.com/strop-worker@sha256:" + "2" * 64}]}
SOURCE = {"reason": "SourceChanged", "message": "sha256:aa was read, sha256:bb lies there now"}
RUNTIME = {"reason": "RuntimeChanged", "message": "onnxruntime 1.32 measured, 1.33 in the image"}
Node = dict[str, Any]


def published(**changes: Any) -> ModelOptimizationStatus:
    """The status of a resource that has published something, long ago."""
    base = status("Published", finished=True)
    document = base.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["run"]["image"] = REF
    document["targets"] = json.loads(result(RUN))["target"]
    document["targets"] = [document["targets"]]
    return ModelOptimizationStatus.model_validate(document | changes)


def resting(every: int = DAY, **changes: Any) -> Observed:
    """A resource at rest, under a policy that wants looks."""
    known: Node = {"status": published(), "grant": grant(driftChecks={"everySeconds": every})}
    return seen(**known | changes)


def look(**changes: Any) -> Any:
    """The Job of a look."""
    return job(name="digits-drift", uid="look", run_id=RUN, errand="Drift", **changes)


def answered(said: str, **changes: Any) -> Observed:
    """A resource whose look has ended with these words."""
    ended = look(ended="Complete", ended_at=NOW - 1)
    spoke = pod(job_uid="look", phase="Succeeded", exit_code=0, termination=said, errand="Drift")
    return resting(errands=(ended,), errand_pods=(spoke,), **changes)


def said(*changes: Node, done: bool = True, **more: Any) -> str:
    return json.dumps({"errand": "Drift", "done": done, "changes": list(changes)} | more)


def after(observed: Observed, decision: Decision) -> ModelOptimizationStatus:
    return compose(observed, decision, None, progress_due=True)


# --- when ---


def test_without_a_policy_that_asks_nobody_looks() -> None:
    """5,000 published resources must cost nothing at rest."""
    assert decide(seen(status=published())).again_after is None
    assert next_look(seen(status=published())) is None


def test_thousands_that_are_due_together_are_spread_over_the_period() -> None:
    """A policy that asks for looks for the first time would otherwise start 5,000 Jobs at once."""
    moments = [next_moment(NOW, str(UUID(int=number * 7919)), DAY) for number in range(5000)]
    assert all(NOW < moment <= NOW + DAY for moment in moments)
    tenths = Counter(int((moment - NOW) / DAY * 10) for moment in moments)
    assert max(tenths.values()) < 1.25 * 500


@pytest.mark.parametrize("late", [0, 1, DAY // 2, DAY - 1])
def test_a_look_that_comes_late_moves_none_of_those_that_follow(late: int) -> None:
    """A crowd would otherwise stay a crowd for ever."""
    first = next_moment(NOW, UID, DAY)
    assert next_moment(first + late, UID, DAY) == pytest.approx(first + DAY)


def test_a_restart_of_the_operator_neither_brings_looks_forward_nor_together() -> None:
    """Every moment that passed while it was away would otherwise be made up for at once."""
    due = next_look(resting(policy_since=NOW))
    assert due is not None
    assert due > NOW
    decision = decide(resting(policy_since=NOW))
    assert (decision.action, decision.again_after) == (Action.WAIT, pytest.approx(due - NOW))


def test_a_look_is_sent_when_it_is_due_and_there_is_room() -> None:
    """All together must not take the cluster's processors from the runs."""
    due = resting(now=NOW + 2 * DAY)
    decision = decide(due)
    assert (decision.action, decision.errand, decision.reason) == (Action.ERRAND, ErrandKind.DRIFT, Reason.PUBLISHED)
    crowded = decide(replace(due, checks=AT_ONCE))
    assert crowded.action is Action.WAIT
    assert crowded.again_after is not None
    assert 30 < crowded.again_after < 300


def test_a_look_lives_beside_the_finished_job_that_is_kept() -> None:
    """Somebody who keeps Jobs for a week would otherwise get no look in that week."""
    kept = resting(
        now=NOW + 2 * DAY, spec=spec(ttlSecondsAfterFinished=10 * DAY), jobs=(job(ended="Complete", ended_at=NOW),)
    )
    assert decide(kept).action is Action.ERRAND
    assert decide(replace(kept, now=NOW)).again_after is not None


@pytest.mark.parametrize("alive", [True, False])
def test_there_is_never_a_second_look_beside_one(alive: bool) -> None:
    """They would race for the status."""
    there = look() if alive else look(deleting=True)
    decision = decide(resting(now=NOW + 2 * DAY, errands=(there,)))
    assert (decision.action, decision.again_after) == (Action.WAIT, None)


def test_looks_that_come_to_nothing_follow_ever_later() -> None:
    """A store that is away for a day must not be asked a thousand times, and not forgotten either."""
    pauses = []
    for failures in range(1, 14):
        before = published(checkedAt=timestamp(NOW), checkFailures=failures)
        due = next_look(resting(300, status=before))
        assert due is not None
        pauses.append(due - NOW)
    assert 300 <= pauses[0] <= 375
    assert all(late >= soon for soon, late in pairwise(pauses))
    assert FAILED_LAST_SECONDS <= pauses[-1] <= 1.25 * FAILED_LAST_SECONDS


def test_what_is_suspended_or_was_never_published_is_not_looked_at() -> None:
    """There is nothing that could be overtaken, or nobody wants a pod."""
    assert next_look(resting(spec=spec(suspend=True))) is None
    assert next_look(resting(status=status("GateMissed", finished=True))) is None


# --- what came of it ---


def test_the_worst_change_is_the_reason_and_ready_stays() -> None:
    """A newer source makes the artifact old, not unpublished."""
    observed = answered(said(RUNTIME, SOURCE))
    decision = decide(observed)
    assert (decision.action, decision.reason) == (Action.STOP, Reason.PUBLISHED)
    told = after(observed, decision)
    stale = next(c for c in told.conditions if c.type == "Stale")
    assert (stale.status, stale.reason) == ("True", "SourceChanged")
    assert "sha256:bb" in stale.message
    assert "onnxruntime" in stale.message
    assert next(c.status for c in told.conditions if c.type == "Ready") == "True"
    assert (told.checked_at, told.check_failures) == (timestamp(NOW - 1), None)


def test_a_look_that_finds_nothing_takes_stale_back() -> None:
    """A source that was put back is the one that was optimized."""
    first = answered(said(SOURCE))
    stale = after(first, decide(first))
    again = answered(said(), status=stale.model_copy(update={"checked_at": timestamp(NOW - DAY)}))
    assert {c.type for c in after(again, decide(again)).conditions} == {"Ready"}


@pytest.mark.parametrize(
    "words",
    ["", "{", said(SOURCE, done=False), said(SOURCE) + "x" * 9, json.dumps({"errand": "CleanUp", "done": True})],
)
def test_an_answer_that_is_no_answer_changes_nothing_but_is_counted(words: str) -> None:
    """Neither `Stale` nor its absence was seen."""
    first = answered(said(SOURCE))
    before = after(first, decide(first)).model_copy(update={"checked_at": timestamp(NOW - DAY)})
    observed = answered(words, status=before)
    told = after(observed, decide(observed))
    assert [c.reason for c in told.conditions if c.type == "Stale"] == ["SourceChanged"]
    assert (told.checked_at, told.check_failures) == (timestamp(NOW - 1), 1)


def test_a_look_speaks_only_of_what_it_may() -> None:
    """A worker that lies could otherwise set any reason, the operator's own and those of a later release too."""
    lies = ({"reason": "Published", "message": "x"}, {"reason": "ImageChanged", "message": "x"}, {"reason": "New"})
    observed = answered(said(*lies))
    assert {c.type for c in after(observed, decide(observed)).conditions} == {"Ready"}


def test_a_look_whose_end_is_recorded_is_only_removed() -> None:
    """Between the status and the deletion the operator may die: a failure would be counted twice."""
    recorded = published(checkedAt=timestamp(NOW - 1), checkFailures=1)
    decision = decide(answered("", status=recorded))
    assert (decision.action, decision.checked) == (Action.STOP, None)


def test_a_look_at_an_earlier_run_says_nothing_of_this_one() -> None:
    """Its source may be another."""
    observed = resting(errands=(look(ended="Complete", ended_at=NOW),))
    other = replace(observed, errands=(replace(observed.errands[0], run_id="ffffffffff"),))
    decision = decide(other)
    assert (decision.action, decision.checked) == (Action.STOP, None)


def test_a_changed_image_is_seen_without_a_look_and_starts_nothing() -> None:
    """An upgrade at most marks what was made before it."""
    observed = seen(status=published(), grant=grant(**NEWER))
    decision = decide(observed)
    assert decision.action is Action.WAIT
    stale = next(c for c in after(observed, decision).conditions if c.type == "Stale")
    assert stale.reason == "ImageChanged"
    assert REF in stale.message
    back = seen(status=after(observed, decision))
    assert {c.type for c in after(back, decide(back)).conditions} == {"Ready"}


def test_what_a_look_found_outranks_a_changed_image() -> None:
    """There is one reason: the worst."""
    observed = answered(said(RUNTIME), grant=grant(driftChecks={"everySeconds": DAY}, **NEWER))
    told = after(observed, decide(observed))
    assert [c.reason for c in told.conditions if c.type == "Stale"] == ["RuntimeChanged"]


def test_a_failed_look_is_an_event_only_when_it_fails_again() -> None:
    """A store that is away for a minute is no news."""
    for failures, told in ((None, []), (1, ["DriftCheckFailed"])):
        observed = resting(status=published(checkFailures=failures))
        decision = Decision(Action.WAIT, Reason.PUBLISHED, "as it was", checked=Checked(NOW, problem="no store"))
        assert [r for r, _ in remarks(observed.status, decision, after(observed, decision))] == told


def test_an_errand_takes_no_runs_place() -> None:
    """A namespace that may have one run at once would otherwise wait for looks."""
    cache = Cache()
    cache.put_resource(resource())
    cache.put_job(look())
    assert cache.occupied("team", ("team", "other")) == 0
    assert cache.live_checks == 1
    cache.put_job(look(ended="Complete", version=99))
    assert cache.live_checks == 0
    cache.put_job(replace(look(ended="Complete"), version=100))
    cache.drop_job("look")
    assert cache.live_checks == 0


# --- on a real API server ---


def hasten(namespace: Namespace) -> None:
    """Have a look become due: the last came to nothing, long ago."""
    due = {"checkedAt": "2026-01-01T00:00:00Z", "checkFailures": 1}
    namespace.api.merge(f"{namespace.resources}/digits/status", {"status": due})


def errand(namespace: Namespace) -> Node:
    def ask() -> Node | None:
        return next((p for p in namespace.pod_list() if "strop.dev/errand" in p["metadata"]["labels"]), None)

    return eventually("a look", ask)


def publish(namespace: Namespace, kubelet: Kubelet, **policy: Any) -> Node:
    namespace.set_policy(driftChecks={"everySeconds": 31_536_000}, **policy)
    namespace.create()
    worker = namespace.pod()
    kubelet.ends(worker, 0, result(run_of(worker)))
    status_ = namespace.reason("Published")
    eventually("the run's Job is gone", lambda: not namespace.job_list())
    return status_


@pytest.mark.apiserver
def test_a_look_is_sent_answered_recorded_and_removed(
    namespace: Namespace, kubelet: Kubelet, operator: Operator
) -> None:
    """The whole way; and afterwards nothing more is written."""
    first = publish(namespace, kubelet)
    hasten(namespace)
    looking = errand(namespace)
    (sent,) = namespace.job_list()
    assert [o["kind"] for o in sent["metadata"]["ownerReferences"]] == ["ModelOptimization"]
    assert "strop.dev/run" not in sent["metadata"]["labels"]
    told = sent["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    request = ErrandRequest.model_validate_json(told)
    assert (request.errand, request.run_id) == (ErrandKind.DRIFT, first["run"]["id"])
    assert request.artifact is not None
    assert request.artifact.digest == first["targets"][0]["artifact"]["digest"]
    before = int(namespace.get()["metadata"]["resourceVersion"])
    kubelet.runs(looking)
    kubelet.ends(looking, 0, said(SOURCE))
    eventually("removed", lambda: not namespace.job_list())
    status_ = namespace.get()["status"]
    assert conditions(status_) == {"Ready": "True", "Stale": "True"}
    assert condition(status_, "Stale")["reason"] == "SourceChanged"
    assert status_["checkedAt"] > "2026-01-01T00:00:00Z"
    assert "checkFailures" not in status_
    assert status_["run"] == first["run"]
    assert int(namespace.get()["metadata"]["resourceVersion"]) > before
    eventually("an Event", lambda: [e for e in namespace.event_list() if e["reason"] == "SourceChanged"])
    settled = namespace.get()["metadata"]["resourceVersion"]
    namespace.api.merge(f"{namespace.resources}/digits", {"metadata": {"labels": {"touched": "yes"}}})
    eventually("seen", lambda: namespace.get()["metadata"]["resourceVersion"] != settled)
    assert namespace.get()["status"] == status_


@pytest.mark.apiserver
def test_looks_that_keep_failing_are_told_and_leave_ready_alone(
    namespace: Namespace, kubelet: Kubelet, operator: Operator
) -> None:
    """Otherwise a resource looks fresh that nobody has been able to look at for months."""
    publish(namespace, kubelet)
    hasten(namespace)
    kubelet.ends(errand(namespace), 0, said(done=False, message="the store\u001b says no"))
    eventually("counted", lambda: namespace.get()["status"]["checkFailures"] == 2)
    assert conditions(namespace.get()["status"]) == {"Ready": "True"}
    told = eventually("told", lambda: [e for e in namespace.event_list() if e["reason"] == "DriftCheckFailed"])
    assert "the store  says no" in told[0]["message"]
    eventually("removed", lambda: not namespace.job_list())


@pytest.mark.apiserver
def test_a_look_holds_up_no_run(namespace: Namespace, kubelet: Kubelet, operator: Operator) -> None:
    """Even where one run at once is allowed, a look neither takes its place nor is waited for."""
    publish(namespace, kubelet, limits={"concurrentRuns": 1})
    hasten(namespace)
    looking = errand(namespace)
    kubelet.bind(looking)
    kubelet.runs(looking)
    namespace.change(seed=9)
    worker = eventually("a run's pod", lambda: next((p for p in namespace.pod_list() if _runs(p)), None))
    assert "checkFailures" not in namespace.reason("Launched")
    kubelet.ends(worker, 0, result(run_of(worker)))
    namespace.reason("Published")
    eventually("the look at the former run is removed", lambda: not namespace.job_list())
    assert "checkedAt" not in namespace.get()["status"]


def _runs(found: Node) -> bool:
    return "strop.dev/run" in found["metadata"]["labels"]


@pytest.mark.apiserver
def test_a_policy_with_a_newer_image_marks_what_was_made_before(
    namespace: Namespace, kubelet: Kubelet, operator: Operator
) -> None:
    """And starts nothing: an upgrade is no reason to spend GPU hours."""
    publish(namespace, kubelet)
    namespace.api.merge(f"{namespace.policies}/default", {"spec": NEWER})
    eventually("stale", lambda: condition(namespace.get()["status"], "Stale")["reason"] == "ImageChanged")
    assert conditions(namespace.get()["status"]) == {"Ready": "True", "Stale": "True"}
    assert not namespace.job_list()
    namespace.api.merge(f"{namespace.policies}/default", {"spec": {"images": POLICY["images"]}})
    eventually("fresh again", lambda: conditions(namespace.get()["status"]) == {"Ready": "True"})


def test_the_answer_of_a_later_worker_is_read() -> None:
    """A change that this release has no word for must not hide one that it has."""
    text = said({"reason": "PriceChanged", "message": "x"}, SOURCE, energy={"joules": 3})
    assert [c.reason for c in ErrandResult.model_validate_json(text).changes] == [Reason.SOURCE_CHANGED]
