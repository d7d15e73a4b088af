"""The termination message: whatever happened, the result fits, and sheds the least useful first."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.extremes import largest

from strop_api.findings import Finding, Severity
from strop_api.result import TERMINATION_LIMIT_BYTES, Result, encode
from strop_api.schema import structural

FINDING = Finding(check="a-check", severity=Severity.HIGH, message="m" * 256, mend="d" * 160)
SCHEMA = structural(Result, defaults=False)


@pytest.fixture(scope="module")
def worst() -> Result:
    """The largest result of all."""
    return Result.model_validate(largest(SCHEMA))


def test_the_largest_result_fits_and_keeps_what_the_status_needs(worst: Result) -> None:
    """A message cut by the kubelet is no JSON: the run's outcome and its artifact would be lost."""
    data = encode(worst)
    assert len(data) <= TERMINATION_LIMIT_BYTES
    kept = Result.model_validate_json(data)
    assert (kept.run_id, kept.outcome, kept.report) == (worst.run_id, worst.outcome, worst.report)
    assert kept.target is not None
    assert worst.target is not None
    assert kept.target.artifact == worst.target.artifact
    assert kept.target.metric == worst.target.metric
    assert kept.target.speedup == worst.target.speedup
    assert kept.target.built is None


def test_the_largest_result_of_a_built_engine_keeps_where_it_lies(worst: Result) -> None:
    """What was built and not measured is told of nowhere else in the status."""
    assert worst.target is not None
    built = worst.model_copy(update={"target": worst.target.model_copy(update={"artifact": None})})
    data = encode(built)
    assert len(data) <= TERMINATION_LIMIT_BYTES
    kept = Result.model_validate_json(data)
    assert kept.target is not None
    assert kept.target.built == worst.target.built
    assert kept.target.throughput == worst.target.throughput
    assert kept.target.peak_memory_bytes == worst.target.peak_memory_bytes


def test_a_usual_result_is_kept_whole() -> None:
    """Shedding what would have fitted hides what was measured."""
    result = Result.model_validate(
        {
            "runId": "0123456789",
            "outcome": "Published",
            "message": "passed every gate",
            "stages": [{"name": name, "seconds": "1.5"} for name in ("export", "int8", "compile", "benchmark")],
            "finishedAt": "2026-01-01T00:00:00Z",
        }
    )
    assert Result.model_validate_json(encode(result)) == result


def test_stages_go_before_findings_and_findings_before_words(worst: Result) -> None:
    """The message says what to change; the stages' times also stand in the report."""
    lean = worst.model_copy(update={"target": None, "message": "m" * 2048, "findings": [FINDING]})
    kept = Result.model_validate_json(encode(lean))
    assert (kept.stages, kept.findings, kept.message) == ([], [FINDING.model_copy(update={"mend": ""})], lean.message)


def test_a_message_is_cut_between_characters(worst: Result) -> None:
    """Half a character would make the message unreadable."""
    result = worst.model_copy(update={"target": None, "message": "🔥" * 2048})
    kept = Result.model_validate_json(encode(result))
    assert kept.message.endswith("…")
    assert set(kept.message[:-1]) == {"🔥"}
    assert len(encode(result)) > TERMINATION_LIMIT_BYTES - 8


@settings(max_examples=60, deadline=None)
@given(message=st.text(max_size=2048), words=st.text(max_size=256), gates=st.integers(0, 16))
def test_any_text_fits(message: str, words: str, gates: int, worst: Result) -> None:
    """Messages quote file names and errors of libraries: any character may occur."""
    assert worst.target is not None
    some = [gate.model_copy(update={"message": words}) for gate in worst.target.gates[:gates]]
    result = worst.model_copy(update={"message": message, "target": worst.target.model_copy(update={"gates": some})})
    data = encode(result)
    assert len(data) <= TERMINATION_LIMIT_BYTES
    assert json.loads(data)["runId"] == worst.run_id
