"""How words become labels, and what is counted once however often it is looked at."""

from dataclasses import replace
from typing import Any

import pytest
from facts_parts import NOW, job, pod, seen, spec, status

from strop_api.reasons import Reason
from strop_api.status import GateStatus, GateVerdict
from strop_api.steps import RESERVED
from strop_operator.apply import Applied
from strop_operator.decision import Action, Decision
from strop_operator.metrics import Metrics
from strop_operator.observe import Observed
from strop_operator.tally import Tally, cause, gate_name, precision, stage_kind

KEY = ("team", "digits")


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def applied(observed: Observed, action: Action, reason: Reason | None = None, **more: Any) -> Applied:
    return Applied(Decision(action, reason, **more), False, observed.status)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_every_stage_of_every_run_has_a_kind(name: str) -> None:
    """A kind `other` tells nobody where the time goes."""
    assert stage_kind(name, spec()) in name


def test_a_stage_is_known_by_its_kind_and_never_by_a_users_word() -> None:
    """Steps have names that users choose: as labels they would grow without end."""
    kinds = {name: stage_kind(name, spec()) for name in ("int8", "benchmark-3", "resolve-model", "bundle-oci", "mine")}
    assert kinds == {
        "int8": "quantize", "benchmark-3": "benchmark", "resolve-model": "resolve", "bundle-oci": "bundle",
        "mine": "other",
    }  # fmt: skip


def test_a_gate_is_known_by_its_field() -> None:
    """A later worker may have gates that this operator has not heard of."""
    names = ("latency.p99MaxMicroseconds", "metricDrop", "ofALaterRelease")
    found = [gate_name(GateStatus(gate=name, verdict=GateVerdict.PASSED)) for name in names]
    assert found == ["latency", "metricDrop", "other"]


def test_the_precision_is_what_was_asked_for() -> None:
    """Several make a mixture, and none is a word of its own."""
    none = spec().model_copy(update={"steps": []})
    assert (precision(spec()), precision(none)) == ("int8", "none")


@pytest.mark.parametrize(
    ("ended", "label"),
    [
        ({"exit_code": 12}, "StoreFailed"),
        ({"exit_code": 1}, "WorkerFailed"),
        ({"exit_code": 42}, "Disrupted"),
        ({"exit_code": 10}, "other"),
    ],
)
def test_a_failed_attempt_is_known_by_its_cause(ended: dict[str, int], label: str) -> None:
    """The alert on an unreachable store rests on this."""
    observed = seen(jobs=(job(),), pods=(pod(phase="Failed", **ended),))
    assert cause(observed) == label


def test_a_wait_ends_once_when_a_worker_is_seen_at_work() -> None:
    """Hundreds of reconciles lie between; and a wait that ended unseen must not count the run as waiting."""
    metrics = Metrics()
    tally = Tally(metrics)
    waiting = seen(status=status("Launched"))
    for later in (0, 30):
        tally.add(KEY, replace(waiting, now=NOW + later), applied(waiting, Action.WAIT, Reason.QUEUED))
    at_work = replace(seen(jobs=(job(),), pods=(pod(phase="Running"),)), now=NOW + 90)
    for _ in range(2):
        tally.add(KEY, at_work, applied(at_work, Action.WAIT, Reason.RUNNING))
    assert value(metrics, "strop_queue_wait_seconds_count") == 1
    assert value(metrics, "strop_queue_wait_seconds_sum") == 90


def test_a_worker_that_ended_before_it_was_seen_tells_nothing_of_the_wait() -> None:
    """What passed was wait and work together."""
    metrics = Metrics()
    tally = Tally(metrics)
    waiting = seen(status=status("Launched"))
    tally.add(KEY, waiting, applied(waiting, Action.WAIT, Reason.LAUNCHED))
    ended = seen(jobs=(job(),), pods=(pod(phase="Succeeded", exit_code=0),))
    tally.add(KEY, ended, applied(ended, Action.WAIT, Reason.RUNNING))
    assert value(metrics, "strop_queue_wait_seconds_count") == 0


def test_a_resource_is_let_go_once() -> None:
    """Its Jobs' ends ask for a look at it until the watch tells that it has gone."""
    metrics = Metrics()
    tally = Tally(metrics)
    for _ in range(3):
        tally.add(KEY, seen(), applied(seen(), Action.RELEASE, left="was left as it is"))
    assert value(metrics, "strop_errands_total", kind="CleanUp", outcome="Abandoned") == 1
    tally.forget(KEY)
    tally.add(KEY, seen(), applied(seen(), Action.RELEASE, left="was left as it is"))
    assert value(metrics, "strop_errands_total", kind="CleanUp", outcome="Abandoned") == 2
