"""What is said before work begins: questionable choices as warnings, what this build lacks as refusals."""

import ast
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel
from tests.contract.cases import COMPACT, FP16, IMAGES, INT8, MERGE, PRUNE, RTX, TORCH, TUNE, steps
from tests.contract.documents import Document
from tests.contract.edits import Edit, drop, put, step
from tests.contract.server import ROOT

from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules import check_support, validate, warnings
from strop_api.rules.advice import CHECKS
from strop_api.steps import CompactStep, DistilStep, FineTuneStep, PruneStep, Training
from strop_api.support import THIS_BUILD

QUESTIONABLE: dict[str, tuple[tuple[Edit, ...], str]] = {
    "pruned and not recovered": ((*TORCH, steps(PRUNE, INT8)), "nothing recovers"),
    "trained, then pruned": ((*TORCH, steps(TUNE, PRUNE)), "prune first"),
    "merged late": ((*TORCH, steps(TUNE, MERGE)), "merge them before"),
    "pruned hard": (
        (*TORCH, steps(step("p", "Prune", method="Structured", amount="90%"), COMPACT, TUNE)),
        "seldom recovers",
    ),
    "few samples": ((put("spec.data.calibration.samples", 8),), "8 samples"),
    "data for nothing": ((drop("spec.steps"),), "not read"),
    "fp16 on a CPU": ((steps(FP16),), "seldom faster on a CPU"),
    "over FP16 on a CPU": ((put("spec.gates.speedup", {"min": "1.5", "over": "FP16"}),), "flatters"),
    "built and not measured": (RTX, "built, not measured"),
    "Turing in company": (
        (*RTX, put("spec.targets[0].tensorRTRTX.computeCapabilities", ["7.5", "8.9"])),
        "holds the newer devices back",
    ),
    "a wide interval": ((put("spec.data.evaluation.samples", 50),), "wide interval"),
}

LACKING: dict[str, tuple[tuple[Edit, ...], str]] = {
    "an accelerator for OpenVINO": (
        (put("spec.targets[0].runtime", "OpenVINO"), put("spec.targets[0].accelerator", {})),
        "spec.targets[0].accelerator",
    ),
    "two targets": ((put("spec.targets[1]", {"name": "b", "runtime": "ONNXRuntime"}),), "spec.targets"),
    "step": ((*TORCH, steps(PRUNE, TUNE)), "spec.steps[0].type"),
    "method": (
        (
            put("spec.steps[0].quantize", {"precision": "int8", "method": "Auto"}),
            put("spec.data.validation", {"uri": "s3://data/validation.npz", "format": "Npz"}),
        ),
        "spec.steps[0].quantize.method",
    ),
    "calibrator": ((put("spec.steps[0].quantize.calibrator", "MSE"),), "spec.steps[0].quantize.calibrator"),
    "SmoothQuant": ((put("spec.steps[0].quantize.smoothQuant", "0.5"),), "spec.steps[0].quantize.smoothQuant"),
    "task": ((put("spec.task", {"type": "Detection", "metric": "map", "labels": "y"}),), "spec.task.type"),
    "training data": (TORCH, "spec.data.training"),
    "validation data": (TORCH, "spec.data.validation"),
    "optional target": ((put("spec.targets[0].optional", True),), "spec.targets[0].optional"),
    "deletion": ((put("spec.output.onDelete", "Delete"),), "spec.output.onDelete"),
    "normalized pixels": (
        (
            put("spec.model.inputs[0].dtype", "uint8"),
            put("spec.data.evaluation", {**IMAGES, "image": {"resize": 8, "mean": ["0.5"]}}),
        ),
        "spec.data.evaluation.image.mean",
    ),
    "hub": ((put("spec.model.uri", "hf://owner/name"),), "spec.model.uri"),
}


def _spec(document: Document, edits: tuple[Edit, ...]) -> ModelOptimizationSpec:
    for edit in edits:
        edit(document)
    return validate(document, cluster=True)


def test_a_sensible_spec_is_not_nagged_at(minimal: Document) -> None:
    """A warning on everything is read by nobody."""
    assert warnings(_spec(minimal, ())) == []


@pytest.mark.parametrize("case", QUESTIONABLE)
def test_a_questionable_choice_is_allowed_and_said(case: str, minimal: Document) -> None:
    """The user may know better, but must have been told why not."""
    edits, words = QUESTIONABLE[case]
    said = warnings(_spec(minimal, edits))
    assert any(words in warning for warning in said), said
    assert all(len(warning) <= 256 for warning in said)


def test_every_warning_is_tried() -> None:
    """A check that never speaks is no check."""
    assert len(QUESTIONABLE) >= len(CHECKS)


@pytest.mark.parametrize("case", LACKING)
def test_what_this_build_lacks_is_refused_with_its_field(case: str, minimal: Document) -> None:
    """A wish that is valid and cannot be fulfilled must not be skipped in silence."""
    edits, field = LACKING[case]
    found = {problem.path: problem.message for problem in check_support(_spec(minimal, edits), THIS_BUILD)}
    assert field in found, found
    assert "this release" in found[field]


def test_what_this_build_can_do_is_not_refused(minimal: Document) -> None:
    """The smallest spec is the first that a newcomer tries."""
    assert check_support(_spec(minimal, ()), THIS_BUILD) == []


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models in an annotation and in their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models(field.annotation)
    for part in get_args(annotation):
        yield from _models(part)


def _read() -> set[str]:
    """Every attribute that the operator or the worker looks at."""
    sources = [
        path for part in ("operator/strop_operator", "jobimage/strop_job") for path in (ROOT / part).rglob("*.py")
    ]
    trees = (ast.walk(ast.parse(path.read_text())) for path in sources)
    return {node.attr for nodes in trees for node in nodes if isinstance(node, ast.Attribute)}


NOT_IN_THIS_BUILD = (PruneStep, CompactStep, FineTuneStep, DistilStep, Training)
"""Members that are refused whole."""

READ_BY_NOBODY = {
    "Step.prune", "Step.compact", "Step.fine_tune", "QuantizeStep.smooth_quant",
    "QuantizeStep.keep_high", "QuantizeStep.training", "DataSpec.training", "DataSpec.validation", "Target.optional",
    "Output.on_delete",
}  # fmt: skip
"""Refused: by their type, their method, or by name (above)."""

PASSED_ON_WHOLE = {"ResourceAmounts.memory", "ResourceAmounts.ephemeral_storage", "Toleration.effect",
                   "Toleration.toleration_seconds"}  # fmt: skip
"""Kubernetes reads these."""


def test_a_field_that_nobody_reads_is_refused() -> None:
    """A wish that is taken and forgotten is worse than one that is refused. The test knows names only: it is a net."""
    read, unread = _read(), set()
    for model in set(_models(ModelOptimizationSpec)) - set(NOT_IN_THIS_BUILD):
        unread |= {f"{model.__name__}.{name}" for name in model.model_fields if name not in read}
    assert unread <= READ_BY_NOBODY | PASSED_ON_WHOLE
