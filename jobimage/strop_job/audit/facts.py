"""Findings as part of a stage's facts: kept with its record, so that a cached stage says what it said at first."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue

from strop_api.findings import Finding

KEY = "findings"


def as_facts(findings: Iterable[Finding]) -> dict[str, JsonValue]:
    """What a stage adds to its facts."""
    return {KEY: [found.model_dump(mode="json", by_alias=True) for found in findings]}


def read(facts: Mapping[str, Any]) -> list[Finding]:
    """What a stage found; nothing where it did not look."""
    return [Finding.model_validate(found) for found in facts.get(KEY) or []]
