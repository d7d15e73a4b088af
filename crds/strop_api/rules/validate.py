"""From a document to a spec, as the API server would judge it: types and bounds first, then keys, then the rules."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from strop_api import API_VERSION
from strop_api.optimization import KIND, ModelOptimizationSpec
from strop_api.policy import POLICY_KIND, POLICY_NAME, OptimizationPolicySpec
from strop_api.rules.catalogue import POLICY_RULES, RULES
from strop_api.rules.rule import Places, Problem, Rule

Spec = TypeVar("Spec", bound=BaseModel)

_TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "status")


class InvalidSpec(Exception):  # noqa: N818 - the name of the Reason that it becomes
    """A document that cannot be understood, or contradicts itself. `problems` is never empty."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def validate(document: Mapping[str, Any], *, cluster: bool) -> ModelOptimizationSpec:
    """The spec of a ModelOptimization document; on the command line (`cluster=False`) file:// is allowed.

    Raises InvalidSpec.
    """
    return _validated(document, KIND, ModelOptimizationSpec, RULES, cluster)


def validate_policy(document: Mapping[str, Any]) -> OptimizationPolicySpec:
    """The spec of an OptimizationPolicy document. Raises InvalidSpec."""
    spec = _validated(document, POLICY_KIND, OptimizationPolicySpec, POLICY_RULES, True)
    if document.get("metadata", {}).get("name") != POLICY_NAME:
        raise InvalidSpec([Problem("metadata.name", f"the policy of a namespace is the one named {POLICY_NAME}")])
    return spec


def _validated(
    document: Mapping[str, Any], kind: str, model: type[Spec], rules: tuple[Rule, ...], cluster: bool
) -> Spec:
    if problems := list(_envelope(document, kind)):
        raise InvalidSpec(problems)
    spec = _parsed(document["spec"], model)
    applied = (rule for rule in rules if cluster or not rule.cluster_only)
    found = Places(spec)
    broken = (problem for rule in applied for problem in rule.problems(found[rule.scope]))
    problems = [*_duplicates(spec, "spec"), *broken]
    if problems:
        raise InvalidSpec(problems)
    return spec


def _envelope(document: Mapping[str, Any], kind: str) -> Iterator[Problem]:
    for field, wanted in (("apiVersion", API_VERSION), ("kind", kind)):
        if document.get(field) != wanted:
            yield Problem(field, f"must be {wanted}")
    if not isinstance(document.get("spec"), Mapping):
        yield Problem("spec", "is missing")
    for field in document:
        if field not in _TOP_LEVEL:
            yield Problem(str(field), _UNKNOWN)


_UNKNOWN = "is not a field of this release: remove it, or correct its spelling"


def _parsed(document: Mapping[str, Any], model: type[Spec]) -> Spec:
    """Strictly, as JSON: `"5"` is no number. An explicit null is an absent field, as for the API server."""
    text = json.dumps(document, default=str)
    if "null" in text:
        text = json.dumps(without_nulls(document, model), default=str)
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        messages: dict[str, list[str]] = {}
        details = error.errors(include_url=False, include_context=False)
        # A retired name is a rule's matter, and rules are not asked about what cannot be read.
        for detail in [detail for detail in details if detail["type"] != "retired"] or details:
            path = _path(detail["loc"], document)
            message = _UNKNOWN if detail["type"] == "extra_forbidden" else detail["msg"]
            messages.setdefault(path, []).append(message)
        raise InvalidSpec(Problem(path, " or ".join(dict.fromkeys(m))) for path, m in messages.items()) from None


def without_nulls(value: Any, annotation: Any) -> Any:
    """The document with null members left out, as the API server reads it; unknown ones stay, to be refused."""
    model = _model(annotation)
    if model is None:
        return value
    if isinstance(value, list):
        return [without_nulls(item, model) for item in value]
    if not isinstance(value, Mapping):
        return value
    fields = {field.alias: field.annotation for field in model.model_fields.values()}
    known = {name: child for name, child in value.items() if child is not None or name not in fields}
    return {name: without_nulls(child, fields.get(name)) for name, child in known.items()}


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model in `Model`, `Model | None` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model(part)) is not None), None)


def _path(location: Iterable[int | str], document: Any) -> str:
    """`spec.model.inputs[0].shape[1]`; what pydantic says of unions and keys below a value is left out."""
    path, value = "spec", document
    for part in location:
        if isinstance(value, list) and isinstance(part, int):
            path, value = f"{path}[{part}]", value[part]
        elif isinstance(value, Mapping) and isinstance(part, str):
            path, value = f"{path}.{part}", value.get(part)
        else:
            break
    return path


def _duplicates(value: Any, path: str) -> Iterator[Problem]:
    """Entries that share the key of their list, or occur twice in a set."""
    if not isinstance(value, BaseModel):
        return
    model: type[BaseModel] = type(value)
    for name, alias, extra in _members(model):
        child, at = getattr(value, name), f"{path}.{alias}"
        if isinstance(child, list):
            yield from _repeated(child, extra, at)
            for index, item in enumerate(child):
                yield from _duplicates(item, f"{at}[{index}]")
        else:
            yield from _duplicates(child, at)


@cache
def _members(model: type[BaseModel]) -> tuple[tuple[str, str | None, Mapping[str, Any]], ...]:
    """Each member's attribute, name on the wire, and what its schema has beyond the types."""
    fields = ((name, field.alias, field.json_schema_extra) for name, field in model.model_fields.items())
    return tuple((name, alias, extra if isinstance(extra, dict) else {}) for name, alias, extra in fields)


def _repeated(items: list[Any], extra: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Where a key occurs for the second time, as the API server reports it."""
    if "x-kubernetes-list-type" not in extra:
        return
    names = extra.get("x-kubernetes-list-map-keys", ())
    times: Counter[Any] = Counter()
    for index, item in enumerate(items):
        key = tuple(getattr(item, name) for name in names) if names else item
        times[key] += 1
        if times[key] == 2:
            yield Problem(f"{path}[{index}]", f"duplicate: each {names[0] if names else 'entry'} occurs once")
