"""Evidence of a run that is sound, to be spoilt one part at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from strop_api.optimization import ModelOptimizationSpec
from strop_job.judgement.evidence import Capacity, Evidence, MetricEvidence

CLASSES, SAMPLES = 10, 4000
Answers = np.ndarray
MakeSpec = Callable[..., ModelOptimizationSpec]
MakeEvidence = Callable[..., Evidence]


@pytest.fixture
def random() -> np.random.Generator:
    """Seeded."""
    return np.random.default_rng(0)


@pytest.fixture
def make_spec() -> MakeSpec:
    """INT8 by calibration, classification; some top-level fields replaced."""

    def make(**changes: Any) -> ModelOptimizationSpec:
        return ModelOptimizationSpec.model_validate(
            {
                "model": {
                    "uri": "s3://models/m.onnx",
                    "format": "Onnx",
                    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 8]}],
                },
                "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
                "data": {
                    "calibration": {"uri": "s3://data/c.npz", "format": "Npz"},
                    "evaluation": {"uri": "s3://data/e.npz", "format": "Npz"},
                },
                "steps": [{"name": "q", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}],
                "targets": [{"name": "cpu", "runtime": "ONNXRuntime"}],
                "output": {"uri": "s3://engines/m"},
                **changes,
            }
        )

    return make


@pytest.fixture
def labels(random: np.random.Generator) -> Answers:
    """Ten classes about equally often."""
    return random.integers(0, CLASSES, SAMPLES)


@pytest.fixture
def noisy(random: np.random.Generator) -> Callable[[Answers, float], Answers]:
    """Answers of which a share is replaced by another class."""

    def make(answers: Answers, share: float) -> Answers:
        wrong = random.random(len(answers)) < share
        return np.where(wrong, (answers + random.integers(1, CLASSES, len(answers))) % CLASSES, answers)

    return make


@pytest.fixture
def classified() -> Callable[[Answers, Answers, Answers], MetricEvidence]:
    """The accuracy of two models on the same labels."""

    def make(labels: Answers, original: Answers, optimized: Answers) -> MetricEvidence:
        right = [(labels == answers).astype(np.float64) for answers in (original, optimized)]
        return MetricEvidence(
            name="accuracy",
            original=float(right[0].mean()),
            optimized=float(right[1].mean()),
            higher_is_better=True,
            samples=len(labels),
            per_sample=(right[0], right[1]),
            predictions=(labels, original, optimized),
        )

    return make


@pytest.fixture
def make_evidence() -> MakeEvidence:
    """All that was measured, with some of it replaced."""

    def make(metric: MetricEvidence | None, **changes: Any) -> Evidence:
        whole: dict[str, Any] = {
            "metric": metric,
            "fidelity": {},
            "parity": None,
            "latencies": {},
            "engine_size_bytes": 1_000_000,
            "capacity": Capacity(1, 1, 100_000_000, None),
            "inspection": {"macs": 100, "macsByFormat": {"int8": 95, "fp32": 5}},
        }
        return Evidence(**{**whole, **changes})

    return make
