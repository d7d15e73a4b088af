"""Runs as they end: one published, one that missed a gate, one that failed before anything was measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop_api.checks.spec import FEW_CALIBRATION_SAMPLES
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome, RunRequest
from strop_api.status import ArtifactRef
from strop_job.judgement.gates import judge
from strop_job.outcome import StageRow
from strop_job.report import RunReport
from strop_job.stages import Artifact, ArtifactKind

HOSTILE = "<script>alert('x')</script> & $x_1$ \"quoted\" 漢"

SPEC: dict[str, Any] = {
    "model": {
        "uri": "s3://models/minilm/model.safetensors",
        "format": "Safetensors",
        "architecture": {"callable": "zoo.bert:minilm"},
        "inputs": [
            {"name": name, "dtype": "int64", "shape": ["batch", "sequence"]} for name in ("input_ids", "attention_mask")
        ],
        "dimensions": [
            {"name": "batch", "min": 1, "opt": 1, "max": 8},
            {"name": "sequence", "min": 1, "opt": 64, "max": 256},
        ],
    },
    "task": {"type": "Retrieval", "metric": "recall_at_1", "labels": "document"},
    "data": {"evaluation": {"uri": "s3://data/eval.parquet", "format": "Parquet"}},
    "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Dynamic"}}],
    "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 1}}],
    "gates": {
        "metricDrop": {"maxPoints": "2.0", "confidence": "95%"},
        "speedup": {"min": "1.5", "over": "Original"},
        "latency": {"p99MaxMicroseconds": 40000},
        "size": {"max": "40Mi"},
        "fidelity": {"cosineMin": "0.98", "agreementMin": "97%"},
    },
    "output": {"uri": "s3://engines/minilm"},
}

MakeRun = Callable[..., RunReport]


def timed(median: float, seed: int, calls: int = 400) -> np.ndarray:
    """Latencies with a tail, as a shared machine gives them."""
    random = np.random.default_rng(seed)
    return median * (1 + random.gamma(2, 0.012, calls) + (random.random(calls) < 0.03) * random.exponential(0.2, calls))


def verify_artifact(folder: Path, lost: int, gained: int) -> Artifact:
    """As the verify stage leaves it: 2,000 samples, 1,846 found by the original."""
    original = np.zeros(2000)
    original[:1846] = 1
    optimized = original.copy()
    optimized[:lost] = 0
    optimized[1846 : 1846 + gained] = 1
    np.savez(folder / "samples.npz", original=original, optimized=optimized)
    facts: dict[str, Any] = {
        "metric": {
            "name": "recall_at_1",
            "original": original.mean(),
            "optimized": optimized.mean(),
            "higherIsBetter": True,
            "samples": 2000,
        },
        "fidelity": {"cosine": 0.9937, "agreement": 0.981, "sqnrDecibels": 19.4},
        "parity": {"worst": 3.1e-6, "tolerance": 1e-3, "shapes": [[1, 64], [8, 256]]},
        "inspection": {
            "inspected": True,
            "macs": 680_000_000,
            "macsByFormat": {"fp32": 23_000_000, "int8": 657_000_000},
        },
    }
    return Artifact(ArtifactKind.MEASUREMENT, folder, ("samples.npz",), facts)


def benchmark_artifact(folder: Path, optimized_microseconds: float) -> Artifact:
    """As the benchmark stage leaves it: 400 calls of each variant in 40 rounds."""
    samples = {"original": timed(16_400, 1), "optimized": timed(optimized_microseconds, 2)}
    rounds = np.arange(400) // 10
    np.savez(folder / "latencies.npz", **samples, **{f"{name}.rounds": rounds for name in samples})  # type: ignore[arg-type]
    facts: dict[str, Any] = {
        "variants": {name: {"peakMemoryBytes": 190_000_000, "waitingCpuShare": 0.01} for name in samples},
        "threads": 1,
        "spinning": "allowed",
        "order": "random within each round",
        "rounds": 40,
        "callsPerTurn": 10,
        "stoppedEarly": False,
        "inputs": "synthetic, seeded; masks all ones",
        "shapes": {"input_ids": [1, 64], "attention_mask": [1, 64]},
    }
    return Artifact(ArtifactKind.MEASUREMENT, folder, ("latencies.npz",), facts)


def ranges(count: int, prefix: str) -> list[dict[str, Any]]:
    """Calibrated tensors of very different width, some clipped."""
    random = np.random.default_rng(4)
    widths = random.lognormal(0, 1.2, count)
    return [
        {
            "name": f"{prefix}/encoder/layer.{i}/attention/self/MatMul_output_0",
            "minimum": -float(w),
            "maximum": float(w * 1.2),
            "low": -float(w * 0.9),
            "high": float(w * 0.9),
            "clippedShare": float(c),
        }
        for i, (w, c) in enumerate(zip(widths, random.random(count) * 1e-3, strict=True))
    ]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A finished run; `name`, speed and losses may be chosen."""

    def make(*, name: str = "minilm-int8", microseconds: float = 7_100, lost: int = 14, gained: int = 9) -> RunReport:
        spec = ModelOptimizationSpec.model_validate(SPEC)
        verify = verify_artifact(tmp_path, lost, gained)
        benchmark = benchmark_artifact(tmp_path, microseconds)
        judgement = judge(spec, spec.targets[0], verify, benchmark, 23_400_000)
        sizes = {"resolve-model": 90_900_000, "export": 91_200_000, "int8": 23_300_000, "compile-original": 91_300_000}
        names = ("resolve-model", "resolve-evaluation", "export", "int8", "compile", "compile-original", "verify")
        rows = tuple(StageRow(n, 0.3 + 4 * i, i < 3, "sha256:" + f"{i:x}" * 64) for i, n in enumerate(names))
        return RunReport(
            request=request_for(spec, name),
            outcome=judgement.outcome,
            finished_at="2026-11-23T20:27:29Z",
            message=judgement.message,
            judgement=judgement,
            stages=(*rows, StageRow("benchmark", 19.4, False, "sha256:" + "f" * 64)),
            facts={"int8": {"calibration": {"calibrator": "Percentile", "samples": 256, "tensors": ranges(40, name)}}},
            sizes={**sizes, "compile": 23_400_000},
            verify=verify,
            benchmarks=(benchmark,),
            provenance={"hardware": {"cpu_model": "AMD EPYC 9V74", "arch": "amd64"}, "versions": {"onnx": "1.23"}},
            findings=(
                FEW_CALIBRATION_SAMPLES.finding("spec.data.calibration.samples: 8 samples seldom show the range"),
            ),
            artifact=ArtifactRef(
                uri="s3://engines/minilm/0123456789/engine.onnx", digest="sha256:" + "a" * 64, size_bytes=23_400_000
            )
            if judgement.outcome is Outcome.PUBLISHED
            else None,
        )

    return make


def request_for(spec: ModelOptimizationSpec, name: str = "minilm-int8") -> RunRequest:
    """The request of a run."""
    return RunRequest.model_validate(
        {
            "namespace": "research",
            "name": name,
            "uid": "u-1",
            "run_id": "3f9a0c12de",
            "target": "cpu",
            "spec": spec,
            "image": "registry.example/strop-cpu@sha256:" + "b" * 64,
            "store": {"endpoint": "none", "region": "none", "records_uri": "s3://records/r"},
        }
    )


@pytest.fixture
def early_run() -> RunReport:
    """A run that ended before anything was measured, with a message from outside."""
    spec = ModelOptimizationSpec.model_validate(SPEC)
    message = f"spec.data.evaluation: column {HOSTILE} is missing"
    return RunReport(request_for(spec), Outcome.INVALID_INPUT, "2026-11-23T20:27:29Z", message)
