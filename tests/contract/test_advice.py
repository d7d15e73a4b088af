"""What is said before work begins: questionable choices as warnings, what this build lacks as refusals."""

import ast
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from tests.contract.cases import (
    COMPACT,
    FP16,
    GPU,
    IMAGES,
    INDUCTOR,
    INT8,
    MERGE,
    PRUNE,
    QAT,
    RTX,
    TORCH,
    TUNE,
    VINO,
    gate,
    quantize,
    steps,
)
from tests.contract.documents import Document
from tests.contract.edits import Edit, drop, put, step
from tests.contract.server import ROOT

from strop_api.checks import CATALOGUE
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules import check_support, findings, validate
from strop_api.rules.advice import ADVICE
from strop_api.steps import CompactStep, DistilStep, FineTuneStep, PruneStep, Training
from strop_api.support import THIS_BUILD

TUNE_STEPS = steps(TUNE)
INSIDE = {**IMAGES, "uri": f"{IMAGES['uri']}/test"}
BF16 = quantize(precision="bf16", method="Cast")
TWO_FOUR = step("p", "Prune", method="TwoFour")
SPEED = gate("speedup", min="1.5")
SAFE = gate("metricDrop", maxPoints="1.0", confidence="95%")
LATENCY = gate("latency", p50MaxMicroseconds=900)
UNVALIDATED: tuple[Edit, ...] = (*TORCH, drop("spec.data.validation"))


def tuned(**config: Any) -> Edit:
    """One FineTune step."""
    return steps(step("t", "FineTune", **config))


def aware(**config: Any) -> Edit:
    """One Quantize step by QAT."""
    return steps(step("qat", "Quantize", precision="int8", method="QAT", training=config))


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
    "fp16 where the runtime casts back": (
        (steps(FP16), put("spec.targets[0].cpu", {"isa": "avx512_fp16"})),
        "seldom faster on a CPU",
    ),
    "bf16 on a processor that only has integers": (
        (*INDUCTOR, BF16, put("spec.targets[0].cpu", {"isa": "avx512_vnni"})),
        "seldom faster on a CPU",
    ),
    "too few for a confidence": (
        (put("spec.data.evaluation.samples", 100),),
        "evaluate on 385 samples at least, or widen the bound; then",
    ),
    "over FP16 on a CPU": ((put("spec.gates.speedup", {"min": "1.5", "over": "FP16"}),), "flatters"),
    "built and not measured": (RTX, "built, not measured"),
    "Turing in company": (
        (*RTX, put("spec.targets[0].tensorRTRTX.computeCapabilities", ["7.5", "8.9"])),
        "holds the newer devices back",
    ),
    "a wide interval": ((put("spec.data.evaluation.samples", 384),), "at least 385 are needed"),
    "a wide interval for a narrow gate": (
        (put("spec.data.evaluation.samples", 3000), gate("metricDrop", maxPoints="0.1")),
        "at least 3842 are needed",
    ),
    "a wide interval for a relative gate": (
        (put("spec.data.evaluation.samples", 60), gate("metricDrop", maxRelative="5%")),
        "at least 77 are needed",
    ),
    "speed alone is gated": ((SPEED,), "nothing holds accuracy"),
    "a drop of all points": ((gate("metricDrop", maxPoints="100"),), "cannot be exceeded"),
    "a drop of all of it": ((gate("metricDrop", maxRelative="100%"),), "is all of it"),
    "an agreement of nothing": ((gate("fidelity", agreementMin="0%"),), "every model agrees"),
    "a slow-down for a speed-up": ((SAFE, gate("speedup", min="0.9")), "passes a slower model"),
    "over FP32 on a device": ((*GPU, SAFE, gate("speedup", min="1.5", over="Original")), "where FP16 is fast"),
    "latency anywhere": ((SAFE, LATENCY), "spec.targets[0].cpu.isa: unset"),
    "latency on any device": ((*GPU, SAFE, LATENCY), "spec.targets[0].accelerator.product: unset"),
    "throughput anywhere": ((SAFE, gate("throughput", minPerSecond=9)), "spec.gates.throughput bounds"),
    "more threads than the limit": (
        (put("spec.targets[0].cpu", {"threads": 4}), put("spec.worker.resources", {"limits": {"cpu": "2"}})),
        "spec.worker.resources.limits.cpu is 2",
    ),
    "more threads than requested": (
        (put("spec.targets[0].cpu", {"threads": 4}), put("spec.worker.resources", {"requests": {"cpu": "3500m"}})),
        "spec.worker.resources.requests.cpu is 3500m",
    ),
    "throughput of one": (
        (SAFE, gate("throughput", minPerSecond=9), put("spec.model.dimensions[0].opt", 1)),
        "gated at batch=1",
    ),
    "evaluation inside training": (
        (*TORCH, TUNE_STEPS, put("spec.data.training", IMAGES), put("spec.data.evaluation", INSIDE)),
        "spec.data.evaluation.uri: lies inside spec.data.training.uri",
    ),
    "calibration inside evaluation": (
        (put("spec.data.evaluation", IMAGES), put("spec.data.calibration", INSIDE)),
        "spec.data.calibration.uri: lies inside spec.data.evaluation.uri",
    ),
    "a low percentile": (
        (quantize(precision="int8", method="Static", calibrator="Percentile", percentile="98"),),
        "clips 2% of the activations",
    ),
    "zeros on a processor": (
        (*TORCH, SAFE, SPEED, steps(step("p", "Prune", method="Unstructured", amount="40%"), TUNE)),
        "Unstructured zeros cost target cpu",
    ),
    "two of four on a processor": ((*TORCH, SAFE, SPEED, steps(TWO_FOUR, TUNE)), "TwoFour zeros cost target cpu"),
    "two of four not used": ((*TORCH, *GPU, SAFE, SPEED, steps(TWO_FOUR, TUNE)), "TwoFour zeros cost target cpu"),
    "half pruned, once trained": (
        (*TORCH, steps(step("p", "Prune", method="Structured"), step("t", "FineTune", epochs=1))),
        "50% pruned and one epoch",
    ),
    "trained anew": ((*TORCH, tuned(learningRate="0.01")), "spec.steps[0].fineTune.learningRate: 0.01, above 0.001"),
    "distilled anew": (
        (*TORCH, steps(step("d", "Distil", learningRate="5e-2"))),
        "spec.steps[0].distil.learningRate: 5e-2",
    ),
    "aware training at a high rate": ((*TORCH, aware(learningRate="0.0005")), "training.learningRate: 0.0005, above"),
    "a rate that moves nothing": ((*TORCH, aware(learningRate="0")), "weights hardly change"),
    "aware training for long": ((*TORCH, aware(learningRate="1e-5", epochs=60)), "more than 30 are seldom needed"),
    "fine-tuning for very long": ((*TORCH, tuned(epochs=200)), "more than 90 are seldom needed"),
    "long and not stopped": ((*TORCH, tuned(epochs=20)), "earlyStoppingEpochs: unset, with 20 epochs"),
    "aware training unwatched": ((*UNVALIDATED, steps(QAT)), "nothing watches step qat"),
    "fine-tuning unwatched": ((*UNVALIDATED, steps(TUNE)), "nothing watches step recover"),
}

SENSIBLE: dict[str, tuple[Edit, ...]] = {
    "the smallest": (),
    "bf16 on a processor that multiplies in it": (
        *INDUCTOR, BF16, drop("spec.data.calibration"), put("spec.targets[0].cpu", {"isa": "avx512_bf16"}),
    ),
    "fp16 on an arm that multiplies in it": (
        *VINO, steps(FP16), drop("spec.data.calibration"),
        put("spec.targets[0].cpu", {"arch": "arm64", "isa": "asimdhp"}),
    ),
    "enough evaluation samples": (put("spec.data.evaluation.samples", 385),),
    "few samples held against the interval": (put("spec.data.evaluation.samples", 50), SAFE),
    "few samples of an error without a scale": (
        put("spec.task", {"type": "Regression", "metric": "mse", "labels": "y"}),
        put("spec.data.evaluation.samples", 50),
    ),
    "speed and the metric": (SAFE, SPEED),
    "speed and closeness": (SPEED, gate("fidelity", agreementMin="99%")),
    "an error may double": (
        put("spec.task", {"type": "Regression", "metric": "mse", "labels": "y"}),
        gate("metricDrop", maxRelative="100%"),
    ),
    "over the original on a processor": (SAFE, gate("speedup", min="1.5", over="Original")),
    "over FP32 with nothing quantized": (
        *GPU, drop("spec.steps"), drop("spec.data.calibration"), SAFE, gate("speedup", min="1.0", over="Original"),
    ),
    "latency on one product": (
        *GPU, put("spec.targets[0].accelerator", {"product": "NVIDIA-L4"}), SAFE, LATENCY,
    ),
    "latency on one instruction set": (put("spec.targets[0].cpu", {"isa": "avx512_vnni"}), SAFE, LATENCY),
    "latency on selected nodes": (
        put("spec.worker.nodeSelector", {"node.kubernetes.io/instance-type": "c7i.large"}), SAFE, LATENCY,
    ),
    "as many threads as cores": (
        put("spec.targets[0].cpu", {"threads": 4}), put("spec.worker.resources", {"limits": {"cpu": "4"}}),
    ),
    "threads within the limit, above the request": (
        put("spec.targets[0].cpu", {"threads": 4}),
        put("spec.worker.resources", {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}),
    ),
    "throughput of one, as all there is": (
        put("spec.model.dimensions[0]", {"name": "batch", "min": 1, "opt": 1, "max": 1}),
        put("spec.targets[0].cpu", {"isa": "avx2"}), SAFE, gate("throughput", minPerSecond=9),
    ),
    "folders whose names begin alike": (
        put("spec.data.evaluation", {**IMAGES, "uri": "s3://data/images"}),
        put("spec.data.calibration", {**IMAGES, "uri": "s3://data/images-calibration"}),
    ),
    "a usual percentile": (quantize(precision="int8", method="Static", calibrator="Percentile", percentile="99.9"),),
    "two of four where it is skipped": (
        *TORCH, *GPU, put("spec.targets[0].tensorRT", {"sparseWeights": True}), SAFE, SPEED, steps(TWO_FOUR, TUNE),
        drop("spec.data.calibration"),
    ),
    "zeros for the size": (
        *TORCH, SAFE, gate("size", max="1Mi"), steps(step("p", "Prune", method="Unstructured", amount="40%"), TUNE),
        drop("spec.data.calibration"),
    ),
    "half pruned, much trained": (
        *TORCH, steps(step("p", "Prune", method="Structured"), TUNE), drop("spec.data.calibration"),
    ),
    "aware training as recommended": (
        *TORCH, aware(learningRate="0.00001", epochs=5), drop("spec.data.calibration"),
    ),
    "aware training with its defaults": (*TORCH, steps(QAT), drop("spec.data.calibration")),
    "long and stopped in time": (
        *TORCH, tuned(epochs=200, earlyStoppingEpochs=3), drop("spec.data.calibration"),
    ),
}  # fmt: skip

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
    "optional target": ((put("spec.targets[0].optional", True),), "spec.targets[0].optional"),
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


@pytest.mark.parametrize("case", SENSIBLE)
def test_a_sensible_spec_is_not_nagged_at(case: str, minimal: Document) -> None:
    """A warning on everything is read by nobody."""
    assert findings(_spec(minimal, SENSIBLE[case])) == []


@pytest.mark.parametrize("case", QUESTIONABLE)
def test_a_questionable_choice_is_allowed_and_said(case: str, minimal: Document) -> None:
    """The user may know better, but must have been told why not."""
    edits, words = QUESTIONABLE[case]
    said = findings(_spec(minimal, edits))
    assert any(words in f"{found.message}; {found.mend}" for found in said), said


def test_every_advice_is_tried(minimal: Document) -> None:
    """A check that never speaks is no check."""
    silent = set(ADVICE)
    for edits, _ in QUESTIONABLE.values():
        spec = _spec(deepcopy(minimal), edits)
        silent -= {advice for advice in silent if list(advice(spec))}
    assert not silent


def test_what_is_said_names_a_field_of_the_spec_and_a_check_of_the_catalogue(minimal: Document) -> None:
    """A reader must find the line to change, and the page that explains it."""
    for edits, _ in QUESTIONABLE.values():
        for found in findings(_spec(deepcopy(minimal), edits)):
            assert found.message.startswith("spec.")
            assert found.check in CATALOGUE
            assert found.mend


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
    """Every attribute that the operator, what it asks of a policy, or the worker looks at."""
    sources = [
        path for part in ("operator/strop_operator", "jobimage/strop_job") for path in (ROOT / part).rglob("*.py")
    ]
    sources.append(ROOT / "crds" / "strop_api" / "grants.py")
    trees = (ast.walk(ast.parse(path.read_text())) for path in sources)
    return {node.attr for nodes in trees for node in nodes if isinstance(node, ast.Attribute)}


NOT_IN_THIS_BUILD = (PruneStep, CompactStep, FineTuneStep, DistilStep, Training)
"""Members that are refused whole."""

READ_BY_NOBODY = {
    "Step.prune", "Step.compact", "Step.fine_tune", "QuantizeStep.smooth_quant",
    "QuantizeStep.keep_high", "QuantizeStep.training", "DataSpec.training", "Target.optional",
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
