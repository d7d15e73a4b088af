"""What comes next for a resource whose artifacts go with it, judged from what is known of it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from cluster_parts import SPEC
from facts_parts import NOW, RUN, UID, job, pod, resource, seen, spec

from strop_api.errands import ErrandKind
from strop_api.grants import Refusal, resolve_clean_up
from strop_api.reasons import Reason
from strop_operator.client import ApiError
from strop_operator.decide import decide
from strop_operator.decision import Action
from strop_operator.errands import errand_name
from strop_operator.facts import JobFact, job_fact
from strop_operator.observe import Look, Observed

DONE = json.dumps({"errand": "CleanUp", "done": True})
GOING = spec(output=SPEC["output"] | {"onDelete": "Delete"})


def going(**changes: Any) -> Observed:
    """A resource that is being deleted and waits for us."""
    fact = resource(deleting=True, finalizers=("other.example.com/x", "strop.dev/artifacts"))
    return seen(**{"fact": fact, "spec": GOING} | changes)


def attempt(number: int = 1, **changes: Any) -> JobFact:
    return job(uid=f"clean-{number}", name=f"clean-{number}", run_id="", errand="CleanUp", attempt=number, **changes)


def spoke(said: str, number: int = 1) -> Any:
    return pod(job_uid=f"clean-{number}", phase="Succeeded", exit_code=0, termination=said, errand="CleanUp")


def test_the_steps_are_taken_in_order() -> None:
    """Each rests on the one before it."""
    ending = pod(job_uid="run-job", phase="Running", deleting=True)
    run = job(uid="run-job")
    steps = [
        (going(jobs=(run,), pods=(ending,)), Action.STOP),
        (going(jobs=(replace(run, deleting=True),), pods=(ending,)), Action.WAIT),
        (going(pods=(ending,)), Action.WAIT),
        (going(), Action.ERRAND),
        (going(errands=(attempt(),)), Action.WAIT),
        (going(errands=(attempt(ended="Complete", ended_at=NOW),), errand_pods=(spoke(DONE),)), Action.RELEASE),
    ]
    for observed, action in steps:
        assert decide(observed).action is action
    assert decide(steps[3][0]).errand is ErrandKind.CLEAN_UP


def test_nothing_is_cleaned_up_before_the_api_server_was_asked_for_pods() -> None:
    """A pod that the watch has not told of may be about to publish."""
    decision = decide(going(looked=frozenset()))
    assert (decision.action, decision.look) == (Action.LOOK, Look.JOBS)


@pytest.mark.parametrize(
    "said", ["", json.dumps({"errand": "CleanUp", "done": False}), json.dumps({"errand": "Drift", "done": True})]
)
def test_only_a_clean_up_that_says_so_has_cleaned_up(said: str) -> None:
    """Exit code 0 alone is what a wrong image gives too."""
    observed = going(errands=(attempt(ended="Complete", ended_at=NOW),), errand_pods=(spoke(said),))
    decision = decide(observed)
    assert (decision.action, decision.reason) == (Action.WAIT, Reason.CLEAN_UP_FAILED)
    assert "strop.dev/abandon-artifacts" in decision.message


def test_a_failed_clean_up_is_tried_again_ever_later_and_for_ever() -> None:
    """Without end, for what is left behind is paid for; ever later, for a store may be away for long."""
    pauses = []
    for number in range(1, 9):
        observed = going(errands=(attempt(number, ended="Failed", ended_at=NOW),))
        pause = decide(observed).again_after
        assert pause is not None
        pauses.append(pause)
        again = decide(replace(observed, now=NOW + pause))
        assert (again.action, again.attempt) == (Action.ERRAND, number + 1)
        assert again.reason is None, "the status goes on telling of the failure"
    assert pauses[:3] == [60, 120, 240]
    assert pauses[-1] == 3600


def test_each_attempt_has_a_job_of_its_own_and_each_resource_its_own_names() -> None:
    """A name that is taken by the attempt before would never be free again; a namesake's is another's."""
    other = resource(uid="another")
    names = {errand_name(fact, ErrandKind.CLEAN_UP, n) for fact in (resource(), other) for n in range(1, 4)}
    assert len(names) == 6
    assert all(len(name) <= 63 for name in names)


def test_a_clean_up_is_known_by_its_labels_and_a_look_by_its_owner() -> None:
    """The clean-up has no owner; for all else a label proves nothing."""
    labels = {"strop.dev/errand": "CleanUp", "strop.dev/optimization-uid": UID, "strop.dev/run": RUN}
    body = {"metadata": {"namespace": "team", "name": "j", "uid": "u", "resourceVersion": "1", "labels": labels}}
    assert job_fact(body | {"spec": {}}).owner_uid == UID
    labels["strop.dev/errand"] = "Drift"
    assert job_fact(body | {"spec": {}}).owner_uid == ""


def test_a_policy_that_tightens_lets_clean_up_what_lies_where_it_still_allows() -> None:
    """Limits and allowlists are about runs; the folder is what matters here."""
    observed = going()
    assert not isinstance(observed.grant, Refusal)
    policy = observed.grant.policy
    limits = policy.limits.model_copy(update={"active_deadline_seconds": 1})
    tight = policy.model_copy(
        update={"limits": limits, "images": [policy.images[0].model_copy(update={"runtimes": []})]}
    )
    assert not isinstance(resolve_clean_up(GOING, tight, "team"), Refusal)
    elsewhere = tight.stores[0].model_copy(update={"output_prefixes": ["s3://others"]})
    assert isinstance(resolve_clean_up(GOING, tight.model_copy(update={"stores": [elsewhere]}), "team"), Refusal)


def test_a_resource_whose_spec_nobody_understands_waits_and_says_so() -> None:
    """During a rolled back upgrade; to let it go would leave what it has published."""
    decision = decide(going(spec=None, problem=Refusal(Reason.INVALID_SPEC, "spec.x: unknown")))
    assert (decision.action, decision.reason) == (Action.WAIT, Reason.CLEAN_UP_FAILED)
    assert "spec.x" in decision.message


def test_another_refusal_is_not_taken_for_a_namespace_that_ends() -> None:
    """A quota passes; the artifacts would stay for good."""
    assert ApiError(403, "Forbidden", "x", ("NamespaceTerminating",)).in_ending_namespace
    assert not ApiError(403, "Forbidden", "exceeded quota, in namespace being terminated").in_ending_namespace


def test_a_resource_of_others_finalizers_is_not_held_by_us() -> None:
    """Their wait is no business of ours."""
    decision = decide(going(fact=resource(deleting=True, finalizers=("other.example.com/x",))))
    assert (decision.action, decision.again_after) == (Action.WAIT, None)
