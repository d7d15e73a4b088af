"""Random documents near a sensible one: values of the schema and beyond it, put where the document has a place."""

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from tests.contract.documents import MINIMAL, Document
from tests.contract.edits import Edit

from strop_api.optimization import ModelOptimizationSpec
from strop_api.schema import Node, structural

SCHEMA = structural(ModelOptimizationSpec)

# Pieces that the rules speak about, so that random documents reach them; the rest comes from the schema.
STRINGS = (
    *("batch", "length", "image", "a", "A", "-", "a" * 63, "a" * 64, "", " ", "é", "\u0000", "int8"),
    *("s3://data/evaluation.npz", "s3://data/training.npz", "s3://b/../k", "s3://b/..", "file:///x", "hf://a/b"),
    *("oci://h/x", "s3://" + "k" * 507, "s3://" + "k" * 508, "s3://b/é", "s3://b k"),
    *("sha256:" + "a" * 64, "sha256:" + "a" * 63, "zoo.m:f", "zoo.m", "0%", "50%", "99.9%", "100%", "100.0%", "49.9%"),
    *("0", "0.5", "1", "1.0", "1.5", "2", "99.99", "99.9", "50", "-1", "1e-4", "1e5", "0.0", "100Mi", "20Gi", "1m"),
    *("STROP_X", "PATH", "nvidia.com/gpu", "8.9", "NVIDIA-L4", "avx512_vnni", "strop.dev/x", "example.org/x", "x/y/z"),
)
NUMBERS = (-(2**63), -1, 0, 1, 2, 8, 9, 49, 50, 128, 299, 300, 1024, 2**31 - 1, 2**31, 2**63 - 1)


def scalars(node: Node) -> st.SearchStrategy[Any]:
    """Mostly of the right type, at its bounds and past them."""
    if "enum" in node:
        return st.sampled_from([*node["enum"], *node["enum"], "None"])
    if node.get("type") == "boolean":
        return st.booleans()
    if node.get("type") == "integer":
        bounds = [node[key] + by for key in ("minimum", "maximum") if key in node for by in (-1, 0, 1)]
        return st.sampled_from([*NUMBERS, *bounds])
    if node.get("x-kubernetes-int-or-string"):
        return st.sampled_from([*NUMBERS, *STRINGS])
    return st.sampled_from(STRINGS)


def values(node: Node, depth: int = 3) -> st.SearchStrategy[Any]:
    """A value for this place of the schema."""
    if "properties" in node and depth:
        required = set(node.get("required", ()))
        parts = {name: values(child, depth - 1) for name, child in node["properties"].items()}
        must = {name: part for name, part in parts.items() if name in required}
        return st.fixed_dictionaries(must, optional={n: p for n, p in parts.items() if n not in required})
    if node.get("type") == "array" and depth:
        return st.lists(values(node["items"], depth - 1), max_size=3)
    if "additionalProperties" in node:
        return st.dictionaries(
            st.sampled_from(STRINGS[:8] + STRINGS[-6:]), st.sampled_from([*STRINGS, None]), max_size=3
        )
    if node.get("type") in ("object", "array"):
        return st.just([] if node["type"] == "array" else {})
    return scalars(node)


def objects(value: Any, node: Node) -> list[tuple[Document, Node]]:
    """Every object of the document with its place in the schema."""
    found: list[tuple[Document, Node]] = []
    if isinstance(value, dict) and "properties" in node:
        found.append((value, node))
        for name, child in value.items():
            found += objects(child, node["properties"].get(name, {}))
    elif isinstance(value, list):
        for item in value:
            found += objects(item, node.get("items", {}))
    return found


@st.composite
def documents(draw: st.DrawFn, edits: list[list[Edit]]) -> Document:
    """The minimal document after some sensible edits and up to three random ones."""
    document = deepcopy(MINIMAL)
    for group in draw(st.lists(st.sampled_from(edits), max_size=3)):
        for edit in group:
            try:
                edit(document)
            except (KeyError, IndexError, TypeError, AttributeError):
                continue  # an edit before it took its place away
    for _ in range(draw(st.integers(0, 3))):
        _mutate(draw, document)
    return deepcopy(document)


def _mutate(draw: st.DrawFn, document: Document) -> None:
    at, node = draw(st.sampled_from(objects(document["spec"], SCHEMA)))
    name = draw(st.sampled_from(sorted(node["properties"])))
    what = draw(st.sampled_from(["value", "value", "value", "value", "drop", "null", "unknown", "type"]))
    if what == "value":
        at[name] = draw(values(node["properties"][name]))
    elif what == "drop":
        at.pop(name, None)
    elif what == "null":
        at[name] = None
    elif what == "unknown":
        at["unknown"] = draw(st.sampled_from([None, 1, {}]))
    else:
        at[name] = draw(st.sampled_from([True, 1, "1", [], {}, [None], [1], ["a"], [{}]]))
