"""What users copy: every resource shown in the documentation, and every sample, passes the rules of this release."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.contract.documents import Document
from tests.contract.server import ROOT

from strop_api import API_VERSION
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules import check_support, validate, validate_policy
from strop_api.support import THIS_BUILD

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SAMPLES = sorted((ROOT / "crds" / "samples").glob("*.yaml"))
WHOLE = ROOT / "crds" / "samples" / "minilm-openvino-int8.yaml"
"""A torch model with calibration data and a static INT8 step, which every runtime takes."""
FIELDS = {field.alias or name for name, field in ModelOptimizationSpec.model_fields.items()}
FENCE = re.compile(r"^(?P<indent> *)```ya?ml\b[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)


def shown(page: str) -> Iterator[tuple[int, Document]]:
    """Our resources in a page's YAML blocks, each with the line its block begins at."""
    for line, text in blocks(page):
        if f"apiVersion: {API_VERSION.partition('/')[0]}" in text:
            yield from ((line, document) for document in yaml.safe_load_all(text) if _ours(document))


def parts(page: str) -> Iterator[tuple[int, Document]]:
    """Blocks that hold a part of a spec, each put into a sample; one of several targets is one for each."""
    for line, text in blocks(page):
        found = yaml.safe_load(text) if "apiVersion:" not in text else None
        if not isinstance(found, dict) or not found.keys() <= FIELDS:
            continue
        for target in found.get("targets", [None]):
            part = found | ({"targets": [target]} if target else {})
            whole: Document = yaml.safe_load(WHOLE.read_text())
            whole["spec"] |= part
            yield line, whole


def blocks(page: str) -> Iterator[tuple[int, str]]:
    """The text of each YAML block, and the line it begins at."""
    for block in FENCE.finditer(page):
        text = re.sub(rf"^{block['indent']}", "", block["text"], flags=re.MULTILINE)
        yield page.count("\n", 0, block.start()) + 1, text


def _ours(document: object) -> bool:
    return isinstance(document, dict) and str(document.get("apiVersion")).startswith(API_VERSION.partition("/")[0])


def check(document: Document) -> None:
    """Raises what the rules or this build have against it."""
    if document["kind"] == "OptimizationPolicy":
        validate_policy(document)
        return
    assert check_support(validate(document, cluster=True), THIS_BUILD) == []


SHOWN = [
    pytest.param(document, id=f"{page.name}:{line}")
    for page in PAGES
    for find in (shown, parts)
    for line, document in find(page.read_text())
]


@pytest.mark.parametrize("document", SHOWN)
def test_a_resource_in_the_documentation_is_one_that_works(document: Document) -> None:
    """A reader's first attempt is a copy of it."""
    check(document)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_one_that_works(path: Path) -> None:
    """`kubectl apply -f crds/samples` is the second attempt."""
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    assert documents
    for document in documents:
        check(document)


def test_a_faulty_part_would_be_found() -> None:
    """A part is shown without the resource around it, and would be overlooked."""
    page = "text\n\n```yaml\ntargets:\n  - {name: a, runtime: OpenVINO}\n  - {name: b, runtime: TensorRT}\n```\n"
    (_, sound), (line, faulty) = parts(page)
    assert line == 3
    check(sound)
    with pytest.raises(Exception, match="TensorRT needs an accelerator"):
        check(faulty)


def test_a_faulty_block_would_be_found() -> None:
    """A search that finds nothing would pass for ever."""
    page = "text\n\n1. do\n   ```yaml\n   apiVersion: strop.dev/v1alpha1\n   kind: OptimizationPolicy\n   ```\n"
    ((line, document),) = shown(page)
    assert line == 4
    with pytest.raises(Exception, match=r"spec.*is missing"):
        check(document)
