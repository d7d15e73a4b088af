"""What a rule is: one condition, said once for the API server (CEL) and once for Python, at one place of the schema."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, and what would mend it."""

    path: str
    """Such as `spec.steps[0].quantize.method`."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Rule:
    """What must hold at every place that `scope` names."""

    name: str
    scope: str
    """Where `self` is: `spec`, `spec.steps[]`, `spec.worker.labels`."""
    cel: str
    """True when all is well. The API server has filled in the defaults."""
    holds: Callable[[Any], bool]
    """The same verdict in Python, given the model (or value) at the place."""
    message: str
    """What is wrong and what mends it."""
    field: str = ""
    """The field to blame, below the scope, such as `.data.calibration`."""
    cluster_only: bool = False
    """Does not hold on the command line."""

    def validation(self) -> dict[str, Any]:
        """An entry of `x-kubernetes-validations`."""
        where = {"fieldPath": self.field} if self.field else {}
        return {"rule": self.cel, "message": self.message, **where}

    def problems(self, found: Iterable[tuple[str, Any]]) -> Iterator[Problem]:
        """Each of the scope's places in a parsed spec where the rule does not hold."""
        for path, value in found:
            if not self.holds(value):
                yield Problem(path + self.field, self.message)


def places(root: Any, scope: str) -> Iterator[tuple[str, Any]]:
    """Every value that a scope such as `spec.steps[].quantize` names, with its path; absent members are skipped."""
    yield from Places(root)[scope]


class Places(dict[str, tuple[tuple[str, Any], ...]]):
    """What each scope names in one spec, with its path; what scopes share is looked up once."""

    def __init__(self, root: Any) -> None:
        super().__init__()
        self._root = root

    def __missing__(self, scope: str) -> tuple[tuple[str, Any], ...]:
        above, _, name = scope.rpartition(".")
        if above:
            found = tuple(pair for path, value in self[above] for pair in _below(path, value, name))
        else:
            found = ((scope, self._root),)
        self[scope] = found
        return found


def _below(path: str, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    plain = name.removesuffix("[]")
    child = member(value, plain)
    if child is None:
        return
    if name == plain:
        yield f"{path}.{plain}", child
        return
    for index, item in enumerate(child):
        yield f"{path}.{plain}[{index}]", item


def member(value: Any, name: str) -> Any:
    """The member with this name on the wire."""
    if isinstance(value, Mapping):
        return value.get(name)
    model: type[BaseModel] = type(value)
    return getattr(value, _attributes(model)[name])


@cache
def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """The attribute for each name on the wire."""
    return {field.alias: key for key, field in model.model_fields.items() if field.alias is not None}


def member_names(model: type[BaseModel]) -> list[str]:
    """The members of a model by their names on the wire."""
    return list(_attributes(model))


def quoted(values: Any) -> str:
    """A CEL list of strings."""
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def words(values: Any) -> str:
    """`a, b or c`."""
    *most, last = [str(value) for value in values]
    return f"{', '.join(most)} or {last}" if most else last
