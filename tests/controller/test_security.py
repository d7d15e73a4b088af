"""SECURITY.md promises only what a test holds: every row of its table names tests, and every named test exists."""

import ast
import re

from cluster_parts import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
LEAST_ROWS = 20


def rows() -> list[str]:
    """The rows of the threat model's table."""
    text = (ROOT / "SECURITY.md").read_text().partition("## Threats")[2].partition("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def in_file(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_threat_has_a_test_that_exists() -> None:
    """A test that was renamed leaves a promise that nobody keeps."""
    assert len(rows()) >= LEAST_ROWS
    for row in rows():
        named = NAMED.findall(row)
        assert named, row
        for path, name in named:
            assert name in in_file(path), f"{path}::{name}"
