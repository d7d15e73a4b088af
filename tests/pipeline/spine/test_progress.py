"""Percent and time left, made from weights."""

import pytest

from strop_api.findings import Finding, Severity
from strop_api.result import Outcome, encode
from strop_api.status import GateStatus, GateVerdict, Latency, MetricFigures, Speedup
from strop_job.errors import Evicted
from strop_job.judgement.gates import Judgement
from strop_job.outcome import StageRow, make_result
from strop_job.progress import Event, Tracker
from strop_job.stages import Stage


class Listener:
    def __init__(self):
        self.updates, self.stop = [], False

    def tell(self, update):
        self.updates.append(update)

    def stopping(self):
        return self.stop


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def parts():
    listener, clock = Listener(), Clock()
    stages = [Stage(n, "Toy", 1, None, weight=w) for n, w in (("a", 1.0), ("b", 3.0), ("c", 5.0))]
    return Tracker(stages, listener, clock), listener, clock


def test_percent_follows_the_weights_and_ends_at_a_hundred(parts):
    """The bar would lie."""
    tracker, listener, clock = parts
    for name, weight in (("a", 1.0), ("b", 3.0), ("c", 5.0), ("tail", 1.0)):
        tracker.begin(name, weight)
        clock.now += 1
        tracker.finish()
    assert [u.progress.percent for u in listener.updates if u.event is Event.FINISHED] == [10, 40, 90, 100]


def test_percent_never_falls(parts):
    """A stage that counts anew would move the bar back."""
    tracker, listener, clock = parts
    tracker.begin("b", 3.0)
    for share in (0.9, 0.1, 2.0, -1.0):
        clock.now += 1
        tracker.report(share, "")
    percents = [u.progress.percent for u in listener.updates]
    assert percents == sorted(percents)


def test_time_left_comes_from_the_work_that_was_really_done(parts):
    """Cached stages would make the estimate absurdly small."""
    tracker, listener, clock = parts
    tracker.cached("a", 1.0, 99.0)
    tracker.begin("b", 3.0)
    assert listener.updates[-1].progress.remaining_seconds is None
    clock.now += 30
    tracker.finish()
    assert listener.updates[-1].progress.remaining_seconds == 60


def test_messages_come_seldom_and_seldomer_while_measuring(parts):
    """Every message wakes somebody while latency is measured."""
    tracker, listener, clock = parts
    tracker.begin("c", 5.0, measuring=True)
    for _ in range(100):
        clock.now += 0.1
        tracker.report(0.5, "x")
    assert sum(u.event is Event.WORKING for u in listener.updates) <= 4


def test_a_stop_is_raised_by_the_next_report(parts):
    """SIGTERM would be noticed at the end of a stage of hours."""
    tracker, listener, _ = parts
    tracker.begin("a", 1.0)
    listener.stop = True
    with pytest.raises(Evicted):
        tracker.report(0.5, "")


def test_a_result_with_everything_in_it_fits_the_termination_message(spine):
    """The kubelet would cut it, and the run's end be lost."""
    gates = [GateStatus(gate="g" * 64, verdict=GateVerdict.MISSED, message="é" * 256) for _ in range(16)]
    judgement = Judgement(
        gates,
        False,
        MetricFigures(name="accuracy", original="0.9", optimized="0.8", drop_points="10", samples=5),
        Latency(p50_microseconds=1, calls=1),
        Speedup(ratio="1", low="1", high="1", over="Original"),
    )
    result = make_result(
        spine.make_request(),
        Outcome.GATE_MISSED,
        message="é" * 4000,
        judgement=judgement,
        rows=[StageRow("s" * 80, 1.0, False, "")] * 64,
        findings=[Finding(check="c" * 64, severity=Severity.HIGH, message="é" * 256, mend="é" * 160)] * 20,
    )
    assert len(encode(result)) <= 4096
