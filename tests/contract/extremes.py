"""The largest value that a schema allows, in bytes of JSON."""

import json
import re
from typing import Any

from strop_api.schema import Node

WORST_CHARACTERS = ("\u0001", "\U0001f525", "\\", "é", "~", "a", "9")
"""Six bytes as JSON, four as UTF-8, two, two, one."""


def _longest(node: Node) -> str:
    """The value of this string that takes the most bytes. Patterns are tried, not understood."""
    limit, pattern = node["maxLength"], node.get("pattern", "")
    prefixes = ("", "s3://", "file://", "sha256:", "-", "2026-01-01T", "-0.", "-0e-")
    texts = (
        (prefix + character * (limit - len(prefix) - len(suffix)) + suffix)[:limit]
        for prefix in prefixes
        for character in WORST_CHARACTERS
        for suffix in ("", "Z")
    )
    longest: str = max((text for text in texts if re.search(pattern, text)), key=lambda text: len(json.dumps(text)))
    return longest


def largest(node: Node) -> Any:
    """The value of this place that takes the most bytes."""
    if "properties" in node:
        return {name: largest(child) for name, child in node["properties"].items()}
    if node["type"] == "array":
        count = 1 if node["x-kubernetes-list-type"] == "map" else node["maxItems"]
        return [largest(node["items"])] * count
    if node["type"] == "boolean":
        return False
    if node["type"] == "integer":
        return node.get("maximum", 2**53 - 1)
    return max(node["enum"], key=len) if "enum" in node else _longest(node)
