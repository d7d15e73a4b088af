"""The API server (schema and CEL) and Python judge the same documents, and blame the same fields."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError
from tests.contract.cases import ACCEPTED
from tests.contract.documents import Document
from tests.contract.grammar import documents
from tests.contract.refused import REFUSED
from tests.contract.server import Server

from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules import InvalidSpec, validate
from strop_api.rules.validate import without_nulls

EDITS = [list(edits) for edits in ACCEPTED.values() if edits] + [list(edits) for edits, _, _ in REFUSED.values()]


PERMITTED = """
1. An unknown field is all that the API server names; Python names the other faults with it.
2. After a fault of type or bounds the API server may still name broken rules; Python names the faults alone.
3. Python does not look into a list that is too long, nor below a value of the wrong type.
"""
"""The differences that there are, all in how much is said at once: never in the verdict."""


def _ours(document: Document) -> set[str]:
    try:
        validate(document, cluster=True)
    except InvalidSpec as refused:
        return {problem.path for problem in refused.problems}
    return set()


def _parses(document: Document) -> bool:
    try:
        ModelOptimizationSpec.model_validate_json(
            json.dumps(without_nulls(document["spec"], ModelOptimizationSpec)), strict=True
        )
    except ValidationError:
        return False
    return True


def _theirs(document: Document, server: Server) -> tuple[set[str], set[str]]:
    """Unknown fields (found before all else), and other fields that the API server blames."""
    refusal = server.judge(document)
    if refusal is None:
        return set(), set()
    unknown = set(re.findall(r'unknown field "([^"]+)"', refusal.message))
    return unknown, set(refusal.fields) - {"<nil>", ""} if not unknown else set()


def _below(path: str, blamed: set[str]) -> bool:
    return any(path.startswith((f"{parent}[", f"{parent}.")) for parent in blamed)


@pytest.mark.apiserver
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(document=documents(EDITS))
def test_the_api_server_and_python_blame_the_same_fields(server: Server, document: Document) -> None:
    """A rule that means one thing at admission and another in the worker would let runs fail that were accepted."""
    ours = _ours(document)
    unknown, theirs = _theirs(document, server)
    assert bool(ours) == bool(unknown or theirs)
    if unknown:
        assert all(path in ours or _below(path, ours) for path in unknown)
    elif _parses(document):
        assert ours == theirs
    else:
        assert ours <= theirs
