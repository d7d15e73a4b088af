"""What admission takes and refuses: each case is judged by the real API server and by Python, and must agree."""

from copy import deepcopy

import pytest
from tests.contract.cases import ACCEPTED
from tests.contract.documents import MINIMAL, POLICY, Document
from tests.contract.edits import Edit, put
from tests.contract.refused import REFUSED
from tests.contract.server import Server

from strop_api.rules import POLICY_RULES, RULES, InvalidSpec, validate, validate_policy

UNKNOWN = {
    "at the top": "spec.prune",
    "in the model": "spec.model.url",
    "in a step": "spec.steps[0].quantise",
    "in an input": "spec.model.inputs[0].type",
    "in a gate": "spec.gates.accuracy",
}


MESSAGES = frozenset(rule.message for rule in RULES)
"""Whoever reads a rule's refusal, by the API server or by `strop run`, finds the same mend."""


def problems(document: Document) -> dict[str, str]:
    """What Python says: message by field."""
    judge = validate if document["kind"] == "ModelOptimization" else lambda d, cluster: validate_policy(d)
    try:
        judge(document, cluster=True)
    except InvalidSpec as refused:
        return {problem.path: problem.message for problem in refused.problems}
    return {}


@pytest.mark.apiserver
@pytest.mark.parametrize("case", ACCEPTED)
def test_what_makes_sense_is_accepted_by_both(case: str, server: Server, minimal: Document) -> None:
    """A rule that refuses what the worker can do would stand in a user's way."""
    for edit in ACCEPTED[case]:
        edit(minimal)
    refusal = server.judge(minimal)
    assert refusal is None, refusal
    assert problems(minimal) == {}


@pytest.mark.apiserver
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_by_both_at_the_same_field(case: str, server: Server, minimal: Document) -> None:
    """A spec that cannot work must not wait for a pod to say so, and the words must lead to the field to change."""
    edits, field, words = REFUSED[case]
    for edit in edits:
        edit(minimal)
    refusal = server.judge(minimal)
    assert refusal is not None
    assert refusal.status == 422
    assert field in refusal.fields, refusal
    assert words in refusal.fields[field]
    found = problems(minimal)
    assert field in found, found
    if found[field] in MESSAGES:
        assert found[field] in refusal.fields[field]


@pytest.mark.apiserver
@pytest.mark.parametrize("case", UNKNOWN)
def test_a_misspelt_field_is_never_dropped_in_silence(case: str, server: Server, minimal: Document) -> None:
    """An unknown field that vanished would be a wish that nobody fulfils."""
    put(UNKNOWN[case], {})(minimal)
    refusal = server.judge(minimal)
    assert refusal is not None
    assert f'unknown field "{UNKNOWN[case]}"' in refusal.message
    assert problems(minimal) == {UNKNOWN[case]: problems(minimal)[UNKNOWN[case]]}
    assert "not a field of this release" in problems(minimal)[UNKNOWN[case]]


POLICIES: dict[str, tuple[Edit, str]] = {
    "another name": (put("metadata.name", "mine"), "metadata.name"),
    "no store": (put("spec.stores", []), "spec.stores"),
    "an image by tag": (put("spec.images[0].ref", "example.org/strop:latest"), "spec.images[0].ref"),
    "a GPU runtime in a CPU image": (put("spec.images[0].runtimes", ["TensorRT"]), "spec.images[0].gpu"),
    "certificates for plain http": (
        lambda d: d["spec"]["stores"][0].update(endpoint="http://m", caBundle="-----BEGIN CERTIFICATE-----"),
        "spec.stores[0].caBundle",
    ),
    "certificates in base64": (put("spec.stores[0].caBundle", "LS0t"), "spec.stores[0].caBundle"),
    "records in a registry": (put("spec.stores[0].recordsUri", "oci://x/y"), "spec.stores[0].recordsUri"),
    "outputs in a file": (put("spec.stores[0].outputPrefixes", ["file:///x"]), "spec.stores[0].outputPrefixes[0]"),
    "inputs in a file": (put("spec.stores[0].inputPrefixes", ["file:///x"]), "spec.stores[0].inputPrefixes[0]"),
    "inputs in a volume": (put("spec.stores[0].inputPrefixes", ["pvc://x/y"]), "spec.stores[0].inputPrefixes[0]"),
    "a star in the middle": (
        put("spec.allow.acceleratorResources", ["nvidia.com/*-gpu"]),
        "spec.allow.acceleratorResources[0]",
    ),
    "a store twice": (lambda d: d["spec"]["stores"].append(d["spec"]["stores"][0]), "spec.stores[1]"),
    "a queue twice": (put("spec.allow.queues", ["a", "a"]), "spec.allow.queues[1]"),
}


@pytest.mark.apiserver
def test_a_policy_is_accepted(server: Server, policy: Document) -> None:
    """Without a policy nothing runs."""
    assert server.judge(policy) is None
    assert problems(policy) == {}


@pytest.mark.apiserver
@pytest.mark.parametrize("case", POLICIES)
def test_a_wrong_policy_is_refused_at_the_same_field(case: str, server: Server, policy: Document) -> None:
    """A policy that cannot work would fail every resource of its namespace."""
    edit, field = POLICIES[case]
    edit(policy)
    refusal = server.judge(policy)
    assert refusal is not None
    assert set(refusal.fields) - {"<nil>"} == {field}
    assert list(problems(policy)) == [field]


def test_every_rule_refuses_something() -> None:
    """A rule that no case breaks may be wrong in both languages."""
    broken: set[str] = set()
    for edits, _, _ in REFUSED.values():
        document = deepcopy(MINIMAL)
        for edit in edits:
            edit(document)
        broken |= set(problems(document).values())
    for edit, _ in POLICIES.values():
        document = deepcopy(POLICY)
        edit(document)
        broken |= set(problems(document).values())
    assert [rule.name for rule in (*RULES, *POLICY_RULES) if rule.message not in broken] == []


def test_a_local_file_works_on_the_command_line(minimal: Document) -> None:
    """`strop run` takes a file from the disk; only a cluster has no such disk."""
    put("spec.model.uri", "file:///models/digits.onnx")(minimal)
    assert validate(minimal, cluster=False).model.uri == "file:///models/digits.onnx"


@pytest.mark.parametrize("field", ["apiVersion", "kind", "spec"])
def test_a_document_of_another_kind_is_named(field: str, minimal: Document) -> None:
    """A Deployment given by mistake must not be read as a model."""
    minimal[field] = "other"
    with pytest.raises(InvalidSpec) as refused:
        validate(minimal, cluster=False)
    assert [problem.path for problem in refused.value.problems] == [field]
