"""The failure table: complete, unambiguous, and the same for whoever exits and whoever reads."""

import signal

from strop_api.failures import OUTCOME_EXIT_CODES, TABLE, ExitCode, PolicyAction
from strop_api.reasons import Reason
from strop_api.result import Outcome


def test_every_outcome_has_an_exit_code_of_its_own() -> None:
    """Two outcomes with one code would be treated alike by the Job."""
    assert OUTCOME_EXIT_CODES.keys() == set(Outcome)
    assert len(set(OUTCOME_EXIT_CODES.values())) == len(Outcome)


def test_exit_codes_are_told_from_signals_and_shells() -> None:
    """126 and more belong to the shell and to signals; 137 is a kill for memory."""
    assert len({int(code) for code in ExitCode}) == len(ExitCode)
    assert all(0 <= code < 126 for code in ExitCode if code is not ExitCode.OUT_OF_MEMORY)
    assert ExitCode.OUT_OF_MEMORY == 128 + signal.SIGKILL


def test_each_row_shows_in_exactly_one_way() -> None:
    """A row that shows in two ways would make two rules of the Job's policy."""
    for row in TABLE:
        ways = (row.exit_code, row.pod_condition, row.terminated_reason, row.pod_reason, row.job_reason)
        assert sum(way is not None for way in ways) == 1, row.cause


def test_every_failing_exit_code_has_a_row() -> None:
    """A code without a row would be retried for ever, or never."""
    rows = [row.exit_code for row in TABLE if row.exit_code is not None]
    assert len(rows) == len(set(rows))
    killed = {ExitCode.OUT_OF_MEMORY for row in TABLE if row.terminated_reason == "OOMKilled"}
    assert set(rows) | killed == set(ExitCode) - {ExitCode.PUBLISHED, ExitCode.USAGE}


def test_what_running_again_cannot_change_ends_the_job() -> None:
    """Retrying a missed gate burns accelerators for the same answer."""
    ends = {row.reason for row in TABLE if row.action is PolicyAction.FAIL_JOB}
    assert {Reason.GATE_MISSED, Reason.NOT_MEASURED, Reason.INVALID_INPUT, Reason.UNSUPPORTED} <= ends
    assert Reason.OUT_OF_MEMORY in ends
    assert Reason.STORE_FAILED not in ends


def test_a_reason_is_its_outcome_by_the_same_word() -> None:
    """People compare the worker's log with the status."""
    by_code = {row.exit_code: row for row in TABLE}
    by_code[ExitCode.OUT_OF_MEMORY] = next(row for row in TABLE if row.terminated_reason == "OOMKilled")
    own = {Outcome.EVICTED: Reason.RETRYING, Outcome.FAILED: Reason.WORKER_FAILED}
    for outcome, code in OUTCOME_EXIT_CODES.items():
        if outcome is not Outcome.PUBLISHED:
            assert by_code[code].reason == (own.get(outcome) or Reason(outcome.value))
