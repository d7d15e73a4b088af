"""What a run came to stays said of it, whatever is asked for in between, and by whichever release."""

import json
from dataclasses import replace
from typing import Any

import pytest
from cluster_parts import POLICY, SPEC, result
from facts_parts import EVERYTHING_LOOKED_AT, NOW, RUN, UID, job, pod, resource, seen, spec, status

from strop_api.checks import CATALOGUE
from strop_api.findings import Severity
from strop_api.grants import Grant
from strop_api.identity import run_id, spec_hash
from strop_api.reasons import Reason
from strop_api.status import GateVerdict, ModelOptimizationStatus
from strop_operator.build import LEAST_SECONDS, build_job
from strop_operator.cache import Cache
from strop_operator.decide import MAX_LOST, decide
from strop_operator.decision import Action, Decision
from strop_operator.events import remarks
from strop_operator.facts import JobFact, PodFact, PolicyFact, job_fact, packed, unpacked
from strop_operator.observe import Spent, observe
from strop_operator.status import compose, dump

UNSUPPORTED = {"targets": [{"name": "cpu", "runtime": "OpenVINO", "cpu": {"arch": "amd64"}}]}
UNKNOWN_FIELD = {"ofALaterRelease": True}
KILLED = {"phase": "Failed", "exit_code": 137, "exit_reason": "Error"}


class Desk:
    """One resource, judged again and again as the operator would: its status is what was last composed."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.cache.policies["team"] = PolicyFact("team", "default", "policy", 1, packed(POLICY))
        self.cache.put_resource(resource())

    def asks(self, **changes: Any) -> None:
        """A new generation of the spec."""
        fact = self.cache.resources["team", "digits"]
        self.change(generation=fact.generation + 1, spec=packed(SPEC | changes))

    def change(self, **changes: Any) -> None:
        fact = self.cache.resources["team", "digits"]
        self.cache.put_resource(replace(fact, version=fact.version + 1, **changes))

    def judge(self) -> Decision:
        """One reconcile, with everything looked at; a launched Job is put where the API server would put it."""
        observed = observe(self.cache, ("team", "digits"), "strop-system", NOW)
        assert observed is not None
        observed = replace(observed, looked=EVERYTHING_LOOKED_AT)
        decision, known = decide(observed), observed.job
        if decision.action is Action.LAUNCH:
            assert observed.spec is not None
            assert isinstance(observed.grant, Grant)
            made = (observed.spec, observed.spec_hash, observed.run_id, observed.attempt + 1, observed.grant)
            known = self.put(build_job(observed.fact, *made, observed.spent))
        after = compose(observed, decision, known, progress_due=True)
        self.change(status=packed(dump(after)))
        if decision.action is Action.STOP and decision.job is not None:
            self.cache.drop_job(decision.job.uid)
            for gone in self.cache.pods.of(UID):
                self.cache.drop_pod(gone.uid)
        return decision

    def put(self, manifest: dict[str, Any]) -> JobFact:
        meta = manifest["metadata"] | {"uid": f"job-{self.status.run is not None}", "resourceVersion": "1"}
        fact = replace(job_fact(manifest | {"metadata": meta}), created_at=NOW)
        self.cache.put_job(fact)
        return fact

    def ends(self, *pods: PodFact, seconds: int = 60, **how: Any) -> None:
        """The newest Job ends, with these pods."""
        (newest,) = self.cache.jobs.of(UID)
        self.cache.put_job(replace(newest, started_at=NOW - seconds, ended_at=NOW, **how))
        for number, ended in enumerate(pods):
            self.cache.put_pod(replace(ended, uid=f"{newest.uid}-{number}", job_uid=newest.uid))

    @property
    def status(self) -> ModelOptimizationStatus:
        return ModelOptimizationStatus.model_validate_json(unpacked(self.cache.resources["team", "digits"].status))

    def publish(self) -> ModelOptimizationStatus:
        """The run that is asked for, from its launch to its end."""
        assert self.judge().action is Action.LAUNCH
        run = self.cache.jobs.of(UID)[0].run_id
        self.ends(pod(phase="Succeeded", exit_code=0, termination=result(run)), ended="Complete")
        assert self.judge().reason is Reason.PUBLISHED
        assert self.judge().action is Action.STOP
        return self.status


def test_what_was_published_is_ready_again_when_a_refused_change_is_taken_back() -> None:
    """A run that is recorded as published must not be judged by what was said of a later spec."""
    desk = Desk()
    published = desk.publish()
    desk.asks(**UNSUPPORTED)
    assert desk.judge().reason is Reason.UNSUPPORTED
    assert desk.status.conditions[0].status == "False"
    desk.asks()
    assert desk.judge().action is Action.WAIT
    again = desk.status
    assert (again.conditions[0].reason, again.conditions[0].status) == (Reason.PUBLISHED, "True")
    assert again.conditions[0].message == published.conditions[0].message
    assert (again.targets, again.report) == (published.targets, published.report)
    assert again.observed_generation == 3


def test_a_refused_change_does_not_rewrite_the_history_of_the_run_before_it() -> None:
    """The history says how each run ended, not what Ready said when the next one began."""
    desk = Desk()
    desk.publish()
    desk.asks(**UNSUPPORTED)
    desk.judge()
    desk.asks(seed=5)
    desk.publish()
    assert [past.reason for past in desk.status.runs] == [Reason.PUBLISHED]


def test_what_an_earlier_release_recorded_without_an_outcome_is_still_settled() -> None:
    """An upgrade must not launch every published resource again."""
    before = status("Published", finished=True)
    assert before.run is not None
    plain = before.model_copy(update={"run": before.run.model_copy(update={"reason": None, "message": ""})})
    decision = decide(seen(status=plain))
    assert (decision.action, decision.reason, decision.message) == (Action.WAIT, Reason.PUBLISHED, "as it was")


BUILT = {"uri": "s3://strop-records/r/plan", "digest": "sha256:" + "b" * 64, "sizeBytes": 4096}


def test_an_engine_that_was_built_and_not_measured_is_told_of_and_never_ready() -> None:
    """Ready would promise a speed and a quality that nobody has seen; running again would not show them either."""
    desk = Desk()
    desk.judge()
    target = {"name": "cpu", "verdict": "NotMeasured", "built": BUILT, "realisedPrecision": "not inspected"}
    said = result(RUN, "NotMeasured", target=target, message="built for 8.9, not measured")
    desk.ends(pod(phase="Failed", exit_code=15, termination=said), ended="Failed", end_reason="PodFailurePolicy")
    decision = desk.judge()
    assert (decision.action, decision.reason) == (Action.SETTLE, Reason.NOT_MEASURED)
    told = {condition.type: condition for condition in desk.status.conditions}
    assert (told["Ready"].status, told["Stalled"].status) == ("False", "True")
    assert told["Ready"].message == "built for 8.9, not measured"
    assert "Reconciling" not in told
    (known,) = desk.status.targets
    assert (known.artifact, known.verdict) == (None, "NotMeasured")
    assert known.built is not None
    assert known.built.uri == BUILT["uri"]
    assert desk.status.phase == "Failed"
    assert desk.judge().action is Action.WAIT
    assert desk.status.run is not None
    assert desk.status.run.attempt == 1


def test_an_engine_that_was_not_measured_is_not_believed_to_be_published() -> None:
    """A worker that says both contradicts itself: what it claims of its target is left out."""
    desk = Desk()
    desk.judge()
    target = {"name": "cpu", "verdict": "NotMeasured", "artifact": BUILT}
    said = result(RUN, "NotMeasured", target=target)
    desk.ends(pod(phase="Failed", exit_code=15, termination=said), ended="Failed", end_reason="PodFailurePolicy")
    assert desk.judge().reason is Reason.NOT_MEASURED
    assert desk.status.targets == []


def test_a_run_that_a_later_release_recorded_is_not_asked_again() -> None:
    """After an operator is rolled back, the figures that it does not know must not cost the run anew."""
    desk = Desk()
    desk.publish()
    known = json.loads(unpacked(desk.cache.resources["team", "digits"].status))
    known["targets"][0] |= {"energy": {"joules": "3"}}
    known["targets"][0]["gates"][0] |= {"look": 2}
    known["run"] |= {"shape": "done"}
    known["conditions"][0] |= {"severity": "none"}
    desk.change(status=packed(known | {"drift": {}}))
    decision = desk.judge()
    assert (decision.action, decision.reason) == (Action.WAIT, Reason.PUBLISHED)
    assert desk.status.conditions[0].status == "True"


def test_the_result_of_a_later_worker_is_read() -> None:
    """The policy's images are upgraded by admins, the operator by others: neither waits for the other."""
    desk = Desk()
    desk.judge()
    said = json.loads(result(RUN)) | {"energy": {"joules": "3"}}
    said["target"] |= {"energy": {"joules": "3"}}
    desk.ends(pod(phase="Succeeded", exit_code=0, termination=json.dumps(said)), ended="Complete")
    assert desk.judge().reason is Reason.PUBLISHED
    assert desk.status.targets[0].artifact is not None


def test_words_of_a_later_release_do_not_make_a_status_unreadable() -> None:
    """A release that is rolled back would run every resource again that a later one has finished."""
    desk = Desk()
    published = desk.publish()
    known = json.loads(unpacked(desk.cache.resources["team", "digits"].status))
    known["phase"] = "Celebrating"
    known["targets"][0]["gates"].append({"gate": "energy", "verdict": "Waived"})
    known["conditions"].append(known["conditions"][0] | {"type": "Verified"})
    known["conditions"].append(known["conditions"][0] | {"type": "Stale", "reason": "PriceChanged"})
    known["findings"] = [{"check": "later", "severity": "Fatal", "message": "a trap"}]
    desk.change(status=packed(known))
    decision = desk.judge()
    assert (decision.action, decision.reason) == (Action.WAIT, Reason.PUBLISHED)
    assert desk.status.run == published.run
    assert desk.status.targets[0].gates[-1].verdict is GateVerdict.NOT_MEASURED
    assert {c.type for c in desk.status.conditions} == {"Ready"}
    assert desk.status.findings[0].severity is Severity.HIGH


def test_a_run_that_ended_for_a_reason_of_a_later_release_is_not_asked_again() -> None:
    """It has ended, whatever the word for it: and it must not look published."""
    desk = Desk()
    desk.publish()
    known = json.loads(unpacked(desk.cache.resources["team", "digits"].status))
    known["run"]["reason"] = known["conditions"][0]["reason"] = "PublishedElsewhere"
    desk.change(status=packed(known))
    decision = desk.judge()
    assert (decision.action, decision.reason) == (Action.WAIT, Reason.WORKER_FAILED)
    assert desk.status.conditions[0].status == "False"


@pytest.mark.parametrize("verdict", ["Inconclusive", "Waived"])
def test_a_gate_with_a_verdict_that_is_not_passed_publishes_nothing(verdict: str) -> None:
    """Whatever a worker of a later release means by its word, this one has not seen the gate pass."""
    desk = Desk()
    desk.judge()
    said = json.loads(result(RUN))
    said["target"]["gates"][0]["verdict"] = verdict
    desk.ends(pod(phase="Succeeded", exit_code=0, termination=json.dumps(said)), ended="Complete")
    decision = desk.judge()
    assert (decision.action, decision.reason) == (Action.SETTLE, Reason.WORKER_FAILED)
    assert "metricDrop" in decision.message


def test_an_outcome_of_a_later_worker_fails_with_the_workers_own_words() -> None:
    """The words say what is wrong, even where the outcome has no name here."""
    desk = Desk()
    desk.asks(retries=0)
    desk.judge()
    said = result(RUN, "LicenceMissing", target=None, message="spec.model.uri: its licence forbids this")
    desk.ends(pod(phase="Failed", exit_code=16, termination=said), ended="Failed", end_reason="BackoffLimitExceeded")
    decision = desk.judge()
    assert (decision.reason, decision.message) == (Reason.WORKER_FAILED, "spec.model.uri: its licence forbids this")


def test_a_retry_tells_in_the_workers_words_what_it_is_for() -> None:
    """A worker that stood still, or found no store, knows more than its exit code says."""
    desk = Desk()
    desk.judge()
    said = result(RUN, "Failed", message="no progress in stage compile for 900 s, at most 900 s were expected")
    desk.cache.put_pod(pod(job_uid="job-False", phase="Failed", exit_code=1, termination=said, ended_at=NOW))
    decision = desk.judge()
    assert decision.reason is Reason.RETRYING
    assert "no progress in stage compile" in decision.message


def test_a_claimed_failure_does_not_speak_for_another_exit_code() -> None:
    """Only what no outcome of this release stands for may be one of a later."""
    desk = Desk()
    desk.judge()
    said = result(RUN, "LicenceMissing", target=None, message="not so")
    desk.ends(pod(phase="Failed", exit_code=10, termination=said), ended="Failed", end_reason="PodFailurePolicy")
    decision = desk.judge()
    assert decision.reason is Reason.GATE_MISSED
    assert "not so" not in decision.message


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://engines/digits-of-another/engine.onnx", Reason.WORKER_FAILED),
        ("s3://engines/digits/../../strop-records/team/blob", Reason.RESULT_LOST),
    ],
)
def test_an_engine_that_lies_elsewhere_is_not_believed(uri: str, reason: Reason) -> None:
    """A worker runs other people's code: it could have another's object, or a record, called verified."""
    desk = Desk()
    desk.judge()
    said = json.loads(result(RUN))
    said["target"]["artifact"]["uri"] = uri
    desk.ends(pod(phase="Succeeded", exit_code=0, termination=json.dumps(said)), ended="Complete")
    assert desk.judge().reason is reason
    assert desk.status.targets == []


FOUND = [
    {"check": "half-precision-on-cpu", "severity": "Medium", "message": "slow"},
    {"check": "calibration-range", "severity": "Critical", "message": "image: 40% is\u001b[31m clipped"},
    {"check": "of-a-later-release", "severity": "High", "message": "odd", "mend": "look"},
]


def test_findings_are_told_worst_first_with_what_mends_them() -> None:
    """The worker leaves the mend out to fit 4,096 bytes: people read the status, not the catalogue."""
    desk = Desk()
    desk.judge()
    said = result(RUN, findings=[*FOUND, FOUND[0]])
    desk.ends(pod(phase="Succeeded", exit_code=0, termination=said), ended="Complete")
    before = desk.status
    decision = desk.judge()
    told = [f for f in desk.status.findings if f.check in {f["check"] for f in FOUND}]
    assert [f.check for f in told] == ["calibration-range", "of-a-later-release", "half-precision-on-cpu"]
    assert (told[1].mend, told[2].mend) == ("look", CATALOGUE["half-precision-on-cpu"].mend)
    assert "\x1b" not in told[0].message
    events = list(remarks(before, decision, desk.status))
    assert [reason for reason, _ in events] == ["Published", "Findings"]
    assert "calibration-range" in events[1][1]
    assert "half-precision" not in events[1][1]


def test_findings_stay_while_the_job_of_a_run_that_ended_is_kept() -> None:
    """A failed run's Job is kept for an hour, and each look at it would replace what the worker found."""
    desk = Desk()
    desk.judge()
    said = result(RUN, "GateMissed", findings=FOUND)
    desk.ends(pod(phase="Failed", exit_code=10, termination=said), ended="Failed", end_reason="PodFailurePolicy")
    assert desk.judge().reason is Reason.GATE_MISSED
    found = desk.status.findings
    assert {f["check"] for f in FOUND} <= {f.check for f in found}
    assert desk.judge().action is Action.WAIT
    assert desk.status.findings == found


def test_a_flood_of_findings_keeps_the_worst() -> None:
    """The status is bounded; the report has all of them."""
    desk = Desk()
    desk.judge()
    flood = [{"check": f"c{n}", "severity": "Low" if n < 15 else "Critical", "message": "x"} for n in range(16)]
    desk.ends(pod(phase="Succeeded", exit_code=0, termination=result(RUN, findings=flood)), ended="Complete")
    desk.judge()
    assert len(desk.status.findings) == 16
    assert desk.status.findings[0].check == "c15"


def test_a_published_resource_stays_ready_under_a_release_that_cannot_read_its_spec() -> None:
    """During a rolled back upgrade the CRD knows fields that the operator does not."""
    desk = Desk()
    desk.asks(**UNKNOWN_FIELD)
    fact = desk.cache.resources["team", "digits"]
    known = status("Published", finished=True, run="aaaaaaaaaa").model_dump(mode="json", by_alias=True)
    known["run"] |= {"observedGeneration": fact.generation}
    desk.change(status=packed(known | {"observedGeneration": fact.generation}))
    decision = desk.judge()
    assert (decision.action, decision.reason) == (Action.WAIT, Reason.PUBLISHED)
    assert desk.status.conditions[0].status == "True"


def test_a_run_goes_on_to_its_end_under_a_release_that_cannot_read_its_spec() -> None:
    """Hours of work would be thrown away by a skew of versions that lasts a minute."""
    desk = Desk()
    desk.judge()
    desk.change(spec=packed(SPEC | UNKNOWN_FIELD))
    (launched,) = desk.cache.jobs.of(UID)
    desk.cache.put_pod(pod(job_uid=launched.uid, phase="Running", scheduled=True))
    decision = desk.judge()
    assert (decision.action, decision.reason) == (Action.WAIT, Reason.RUNNING)
    desk.ends(pod(phase="Succeeded", exit_code=0, termination=result(RUN)), ended="Complete")
    assert desk.judge().reason is Reason.PUBLISHED
    assert desk.status.targets[0].artifact is not None


def test_a_changed_spec_that_cannot_be_read_stalls_for_good_and_keeps_what_was_published() -> None:
    """Ready must not speak for a generation that nobody understood, and what is published is no less so."""
    desk = Desk()
    published = desk.publish()
    desk.asks(**UNKNOWN_FIELD)
    for _ in range(3):
        assert desk.judge().reason is Reason.INVALID_SPEC
    assert (desk.status.targets, desk.status.run) == (published.targets, published.run)
    desk.asks()
    desk.judge()
    assert desk.status.conditions[0].reason is Reason.PUBLISHED


def test_a_killed_worker_gets_what_is_left_of_its_retries_and_its_time() -> None:
    """Each new Job would otherwise start with all of them: (retries + 1) squared attempts, and no deadline at all."""
    desk = Desk()
    desk.asks(retries=2, activeDeadlineSeconds=10_000)
    desk.judge()
    desk.ends(
        pod(phase="Failed", exit_code=12), pod(**KILLED), seconds=4000, ended="Failed", end_reason="PodFailurePolicy"
    )
    assert desk.judge().reason is Reason.RETRYING
    assert desk.status.run is not None
    assert (desk.status.run.failures, desk.status.run.spent_seconds) == (2, 4000)
    assert desk.judge().action is Action.LAUNCH
    (second,) = desk.cache.jobs.of(UID)
    assert (second.attempt, second.failures, second.spent_seconds) == (2, 2, 4000)
    desk.ends(pod(**KILLED), ended="Failed", end_reason="PodFailurePolicy")
    decision = desk.judge()
    assert (decision.action, decision.reason) == (Action.SETTLE, Reason.WORKER_FAILED)


def test_lost_results_are_counted_apart_from_retries() -> None:
    """A node that is away must not use up what is meant for a store that is, nor the other way round."""
    desk = Desk()
    desk.asks(retries=0)
    for lost in range(MAX_LOST - 1):
        assert desk.judge().action is Action.LAUNCH
        desk.ends(ended="Complete" if lost % 2 else "Failed", end_reason="PodFailurePolicy")
        assert desk.judge().reason is Reason.RESULT_LOST
    run = desk.status.run
    assert run is not None
    assert (run.lost, run.failures, run.attempt) == (MAX_LOST - 1, 0, MAX_LOST - 1)
    desk.judge()
    desk.ends(ended="Complete")
    assert desk.judge().reason is Reason.WORKER_FAILED


def test_a_stop_that_is_decided_twice_counts_once() -> None:
    """The status is written before the Job is deleted; between the two the operator may die."""
    lost = seen(jobs=(job(ended="Complete", lost=1),), status=status("Running"))
    once = compose(lost, decide(lost), lost.job, progress_due=True)
    twice = compose(replace(lost, status=once), decide(replace(lost, status=once)), lost.job, progress_due=True)
    assert once.run is not None
    assert once.run.lost == 2
    assert once == twice


@pytest.mark.parametrize(
    ("spent", "retries", "seconds"),
    [
        (Spent(), 3, 21_600),
        (Spent(failures=1, seconds=600), 2, 21_000),
        (Spent(failures=9, lost=2, seconds=99_999), 0, LEAST_SECONDS),
    ],
)
def test_a_job_gets_what_its_run_has_not_used_up(spent: Spent, retries: int, seconds: int) -> None:
    """The deadline is the run's, however many Jobs it takes; a lost result can always be asked for."""
    model = spec()
    answer = seen().grant
    assert isinstance(answer, Grant)
    made = build_job(resource(), model, spec_hash(model), run_id(UID, spec_hash(model)), 2, answer, spent)["spec"]
    assert (made["backoffLimit"], made["activeDeadlineSeconds"]) == (retries, seconds)


def test_a_short_deadline_is_not_made_longer() -> None:
    """What is kept for asking again never exceeds what was asked for."""
    model = spec(activeDeadlineSeconds=5)
    answer = seen().grant
    assert isinstance(answer, Grant)
    made = build_job(resource(), model, spec_hash(model), RUN, 2, answer, Spent(seconds=4))
    assert made["spec"]["activeDeadlineSeconds"] == 5
