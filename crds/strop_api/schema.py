"""From pydantic's JSON schema to the structural schema Kubernetes takes: inlined, bounded, without unions."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from pydantic import BaseModel

Node = dict[str, Any]

_DROPPED = ("title", "propertyNames", "$defs", "const")


def structural(model: type[BaseModel], *, defaults: bool = True) -> Node:
    """The structural schema of a model.

    Defaults are kept for scalars, and as `{}` for an object that holds such a scalar; never for a member that is
    absent by default. Without `defaults` (status, which users never write) there are none.
    """
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}), defaults)


def _convert(node: Node, definitions: dict[str, Node], defaults: bool) -> Node:
    node = _resolved(node, definitions)
    if node.keys() <= {"description", "default", "title"}:
        return _described(node, {"x-kubernetes-preserve-unknown-fields": True, "nullable": True})
    if "anyOf" in node:
        return _int_or_string(node)
    out = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        out["enum"] = [node["const"]]
    if out["type"] == "object":
        out = _object(out, definitions, defaults)
    elif out["type"] == "array":
        out["items"] = _convert(out["items"], definitions, defaults)
        out.setdefault("x-kubernetes-list-type", "atomic")
    elif out["type"] == "integer":
        out["format"] = "int64"
    if out.get("minItems") == 0:
        del out["minItems"]
    return _defaulted(out, defaults)


def _resolved(node: Node, definitions: dict[str, Node]) -> Node:
    """References inlined, and `X | None` as X: an absent field is how the API says None. What stands beside wins."""
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        beside = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return {**_resolved(options[0], definitions), **beside}
    if "$ref" not in node:
        return dict(node)
    target = definitions[node["$ref"].rpartition("/")[2]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _described(node: Node, out: Node) -> Node:
    return {"description": node["description"], **out} if "description" in node else out


def _int_or_string(node: Node) -> Node:
    """`int | str`: both sides' bounds stand side by side, each applies to its own type."""
    sides = {option["type"]: option for option in node["anyOf"]}
    bounds = {key: value for side in sides.values() for key, value in side.items() if key not in ("type", "title")}
    return _described(node, {"x-kubernetes-int-or-string": True, **bounds})


def _object(out: Node, definitions: dict[str, Node], defaults: bool) -> Node:
    if "properties" in out:
        out.pop("additionalProperties", None)
        out["properties"] = {name: _convert(child, definitions, defaults) for name, child in out["properties"].items()}
        return out
    out["additionalProperties"] = _convert(out["additionalProperties"], definitions, defaults)
    return out


def _defaulted(out: Node, defaults: bool) -> Node:
    """Keep the default of a scalar; give an object `{}` when a default waits inside; drop every other."""
    default = out.pop("default", None)
    if not defaults or default is None or default in ([], {}):
        return out
    if "properties" not in out:
        return {**out, "default": deepcopy(default)}
    if any("default" in child for child in out["properties"].values()):
        return {**out, "default": {}}
    return out


def walk(node: Node, path: str = "spec") -> Iterator[tuple[str, Node]]:
    """Every place of a schema with its path: `spec.steps[].name`, `spec.worker.labels{}`."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from walk(node["additionalProperties"], path + "{}")


def place(root: Node, path: str) -> Node:
    """The place at a path such as `spec.steps[].quantize`; StopIteration where there is none."""
    return next(node for at, node in walk(root) if at == path)
