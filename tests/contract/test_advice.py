"""What is said before work begins: questionable choices as warnings, what this build lacks as refusals."""

import pytest
from tests.contract.cases import COMPACT, FP16, INT8, MERGE, PRUNE, TORCH, TUNE, steps
from tests.contract.documents import Document
from tests.contract.edits import Edit, drop, put, step

from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules import check_support, validate, warnings
from strop_api.rules.advice import CHECKS
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
    "a wide interval": ((put("spec.data.evaluation.samples", 50),), "wide interval"),
}

LACKING: dict[str, tuple[tuple[Edit, ...], str]] = {
    "runtime": ((put("spec.targets[0].runtime", "OpenVINO"),), "spec.targets[0].runtime"),
    "two targets": ((put("spec.targets[1]", {"name": "b", "runtime": "ONNXRuntime"}),), "spec.targets"),
    "step": ((*TORCH, steps(PRUNE, TUNE)), "spec.steps[0].type"),
    "method": (
        (put("spec.steps[0].quantize", {"precision": "int4", "method": "WeightOnly"}),),
        "spec.steps[0].quantize.method",
    ),
    "calibrator": ((put("spec.steps[0].quantize.calibrator", "MSE"),), "spec.steps[0].quantize.calibrator"),
    "SmoothQuant": ((put("spec.steps[0].quantize.smoothQuant", "0.5"),), "spec.steps[0].quantize.smoothQuant"),
    "task": ((put("spec.task", {"type": "Detection", "metric": "map", "labels": "y"}),), "spec.task.type"),
    "format": ((put("spec.output.formats", ["Triton"]),), "spec.output.formats"),
    "gate": ((put("spec.gates.throughput", {"minPerSecond": 5}),), "spec.gates.throughput"),
    "hub": ((put("spec.model.uri", "hf://owner/name"),), "spec.model.uri"),
    "code": (
        (
            *TORCH,
            put("spec.model.architecture.source", {"uri": "s3://code/a.py", "digest": "sha256:" + "a" * 64}),
        ),
        "spec.model.architecture.source",
    ),
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
