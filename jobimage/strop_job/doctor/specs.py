"""Examines YAML: each resource of ours in a file, as the API server, the worker and the advice would judge it."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from strop_api import API_VERSION
from strop_api.checks.source import SPEC_INVALID, SPEC_UNSUPPORTED
from strop_api.findings import Finding, Severity
from strop_api.optimization import KIND, ModelOptimizationSpec
from strop_api.policy import POLICY_KIND
from strop_api.rules import InvalidSpec, check_support, findings, validate, validate_policy
from strop_api.support import THIS_BUILD
from strop_job.audit.source.located import Located

PATH = re.compile(r"^(?:spec|metadata|apiVersion|kind)\b[A-Za-z0-9_.\[\]-]*")
"""A field's path where a message opens with one."""
PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
GROUP = API_VERSION.partition("/")[0]
PIECE = 1 << 20
"""Bytes that are searched at once."""


class NotYaml(Exception):  # noqa: N818 - says what the file is not
    """The file cannot be parsed; carries where, in words."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line, self.column = line, column


def examine(text: str) -> list[Located] | None:
    """What is wrong with the resources of a file; None if it holds none of ours. Raises NotYaml."""
    found: list[Located] = []
    known = False
    for root, document in _documents(text):
        if isinstance(document, Mapping) and _is_ours(document):
            known = True
            found += [_placed(finding, root) for finding in _findings(document)]
    return found if known else None


def speaks_of_ours(text: str) -> bool:
    """Whether a file that cannot be parsed, such as a template, may be meant to hold a resource of ours.

    A label or a rule of another resource that names our group makes it none of ours.
    """
    return re.search(rf"\bapiVersion['\"]?\s*:\s*['\"]?{re.escape(GROUP)}\b", text) is not None


def is_of_others(path: Path) -> bool:
    """Whether a file, of any size and encoding, names neither our group nor a kind of ours. False if not readable."""
    ours = [word.encode() for word in (GROUP, KIND, POLICY_KIND)]
    try:
        with path.open("rb") as file:
            before = b""
            while part := file.read(PIECE):
                if any(word in before + part for word in ours):
                    return False
                before = part[-max(map(len, ours)) :]
    except OSError:
        return False
    return True


def _documents(text: str) -> list[tuple[yaml.Node, Any]]:
    try:
        loader = yaml.SafeLoader(text)
        found = []
        while loader.check_node():
            node = loader.get_node()
            found.append((node, loader.construct_document(node)))
        return [(node, value) for node, value in found if node is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or str(error).splitlines()[0]
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise NotYaml(words, line, column) from None
    except (RecursionError, ValueError) as error:
        raise NotYaml(f"{type(error).__name__} while it was parsed", 1, 1) from None


def _is_ours(document: Mapping[str, Any]) -> bool:
    version = document.get("apiVersion")
    return document.get("kind") in (KIND, POLICY_KIND) or (
        isinstance(version, str) and version.partition("/")[0] == GROUP
    )


def _findings(document: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        if document.get("kind") == POLICY_KIND:
            validate_policy(document)
        elif document.get("kind") == KIND:
            yield from _of_spec(validate(document, cluster=False))
        else:
            yield _unknown_kind(document.get("kind"))
    except InvalidSpec as invalid:
        yield from (SPEC_INVALID.finding(str(problem)) for problem in invalid.problems)


def _unknown_kind(kind: object) -> Finding:
    """A kind that our group does not have, and which of ours is written nearly so."""
    near = get_close_matches(str(kind), (KIND, POLICY_KIND), n=1)
    means = f"did you mean {near[0]}?" if near else f"ours are {KIND} and {POLICY_KIND}"
    mend = f"Write kind: {near[0]}" if near else None
    return SPEC_INVALID.finding(f"kind: {kind!r} is no kind of {GROUP}; {means}", severity=Severity.HIGH, mend=mend)


def _of_spec(spec: ModelOptimizationSpec) -> Iterator[Finding]:
    """What the plan refuses, without the machinery that the plan needs for the rest; then what is questionable."""
    yield from (SPEC_UNSUPPORTED.finding(str(problem)) for problem in check_support(spec, THIS_BUILD))
    yield from findings(spec)


def _placed(finding: Finding, root: yaml.Node) -> Located:
    """The finding, where the field stands that its message opens with; else where the document starts."""
    match = PATH.match(finding.message)
    node = _node(root, match[0] if match else "")
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    return Located(finding, line, column, line)


def _node(root: yaml.Node, path: str) -> yaml.Node:
    """The key of the deepest part of the path that is written down."""
    shown = node = root
    for name, index in PART.findall(path):
        if index and isinstance(node, yaml.SequenceNode) and int(index) < len(node.value):
            shown = node = node.value[int(index)]
        elif name and isinstance(node, yaml.MappingNode):
            entry = next((pair for pair in node.value if pair[0].value == name), None)
            if entry is None:
                return shown
            shown, node = entry
        else:
            return shown
    return shown
