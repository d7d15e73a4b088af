"""`strop status` against a real API server: one look, following, and exit codes that say the outcome."""

import pytest
from cluster_parts import eventually


@pytest.mark.parametrize(
    ("reason", "code"),
    [("Published", 0), ("GateMissed", 10), ("InvalidInput", 11), ("InvalidSpec", 11), ("StoreFailed", 12),
     ("NotAllowed", 13), ("DiskFull", 14), ("NotMeasured", 15), ("OutOfMemory", 137), ("WorkerFailed", 1)],
)  # fmt: skip
def test_the_exit_code_is_that_of_a_run_here(strop, tell, reason, code):
    """Broken, a pipeline would deploy what missed a gate."""
    tell(reason)
    assert strop("status", "digits").code == code


def test_the_tree_shows_run_stages_figures_gates_and_report(strop, tell):
    """Broken, people would have to read YAML."""
    tell("Published", findings=[{"check": "calibration-range", "severity": "High", "message": "too narrow"}])
    out = strop("status", "digits", "--no-watch").out
    for words in (
        "digits  Published", "run 0123456789  attempt 1  took 5 min 0 s", "✓ export  1.5 s",
        "= compile  cached, had cost 30 s", "target cpu  Published", "speed-up 2.31x (95%: 2.2 to 2.4)",
        "0.5 points lost (95%: 0.1 to 0.9)", "Passed  metricDrop  within", "High calibration-range: too narrow",
        "report s3://strop-records/",
    ):  # fmt: skip
        assert words in out


def test_one_look_at_a_run_that_goes_on_has_no_outcome(strop, tell):
    """Broken, code 0 would say that it was published."""
    tell("Running", progress={"stage": "quantize", "percent": 40, "remainingSeconds": 90})
    answer = strop("status", "digits", "--no-watch")
    assert answer.code == 3
    assert "40 %  quantize" in answer.out
    assert "about 1 min 30 s left" in answer.out


def test_it_follows_changes_to_the_outcome(strop, tell, namespace):
    """Broken, the command would poll, or end too early, or never."""
    tell("Launched")
    going = strop.begin("status", "digits", "--timeout", "60s")
    eventually("the first line", lambda: "Launched" in going.out.getvalue())
    tell("Running", progress={"stage": "export", "percent": 5})
    eventually("the second line", lambda: "5 %  export" in going.out.getvalue())
    tell("Running", progress={"stage": "quantize", "percent": 50})
    eventually("the third line", lambda: "50 %  quantize" in going.out.getvalue())
    tell("Published", progress=None)
    assert going.end() == 0
    assert "target cpu  Published" in going.out.getvalue()


def test_a_server_that_restarts_meanwhile_is_waited_for(strop, tell, plane):
    """Broken, an upgrade of the control plane would end every pipeline that waits for a run."""
    tell("Running")
    going = strop.begin("status", "digits")
    eventually("the first line", lambda: "Running" in going.out.getvalue())
    plane.processes.restart("apiserver", "KILL")
    eventually("the server is back", lambda: plane.api.ready(), 60)
    eventually("it is told", lambda: tell("Published"), 60)
    assert going.end(60) == 0, going.out.getvalue()


def test_time_that_is_up_is_no_outcome(strop, tell):
    """Broken, a pipeline would wait for ever, or take a run that goes on for a failed one."""
    tell("Running")
    answer = strop("status", "digits", "--timeout", "1s")
    assert answer.code == 3
    assert "no outcome after 1 s" in answer.err


def test_an_outcome_of_an_earlier_spec_is_not_taken_for_the_new_ones(strop, tell, namespace):
    """Broken, right after `kubectl apply` the old result would be reported as the new one."""
    tell("Published")
    namespace.change(seed=7)
    answer = strop("status", "digits", "--timeout", "1s")
    assert answer.code == 3
    assert "of an earlier request" in answer.out


def test_an_outcome_before_a_retry_is_not_taken_for_the_new_ones(strop, tell, namespace):
    """Broken, `strop retry && strop status` would report the run that was to be repeated."""
    tell("StoreFailed")
    strop("retry", "digits")
    assert strop("status", "digits", "--timeout", "1s").code == 3


def test_a_resource_that_is_deleted_meanwhile_ends_it(strop, tell, namespace):
    """Broken, the command would hang on a resource that is gone."""
    tell("Running")
    going = strop.begin("status", "digits")
    eventually("the first line", lambda: "Running" in going.out.getvalue())
    namespace.delete(f"{namespace.resources}/digits")
    assert going.end() == 3


def test_a_suspended_resource_has_no_outcome(strop, tell):
    """Broken, following one would never end."""
    tell("Suspended")
    assert strop("status", "digits").code == 3


def test_json_is_the_status(strop, tell):
    """Broken, scripts would have nothing to read."""
    tell("GateMissed")
    answer = strop("status", "digits", "-o", "json")
    assert answer.code == 10
    assert answer.document()["run"]["reason"] == "GateMissed"
