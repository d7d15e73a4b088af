"""SARIF for code review: structure, places and rules as the standard (2.1.0) asks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from strop_api.checks import CATALOGUE

Doctor = Callable[..., Result]


@pytest.fixture
def log(doctor: Doctor, trap: Path, removed: Path) -> dict[str, Any]:
    """The log of a run over two programs."""
    return json.loads(doctor("trap.py", removed, "missing.py", "--format", "sarif").stdout)


def test_the_log_is_as_the_standard_asks(log: dict[str, Any]) -> None:
    """A review tool would refuse the upload as a whole."""
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    for result in run["results"]:
        assert set(result) <= {"ruleId", "ruleIndex", "level", "message", "locations", "properties"}
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        (location,) = result["locations"]
        region = location["physicalLocation"]["region"]
        assert 1 <= region["startLine"] <= region["endLine"]
        assert region["startColumn"] >= 1


def test_each_result_points_to_its_rule_and_each_rule_explains(log: dict[str, Any]) -> None:
    """A reviewer would see a name, and nothing of why."""
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(CATALOGUE)
    assert all(rule["help"]["text"] and rule["shortDescription"]["text"] for rule in rules)
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])


def test_places_are_relative_to_where_it_runs(log: dict[str, Any]) -> None:
    """The review tool would not find the file in the repository."""
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in log["runs"][0]["results"]]
    assert uris == ["trap.py", "removed.py", "missing.py"]


def test_what_was_not_read_is_an_error_of_the_run(log: dict[str, Any]) -> None:
    """A review would be green for a file that nobody read."""
    (invocation,) = log["runs"][0]["invocations"]
    assert [note["message"]["text"] for note in invocation["toolExecutionNotifications"]] == ["missing.py was not read"]
