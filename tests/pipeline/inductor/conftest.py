"""A small CNN and a tiny encoder on their way through Inductor: exported, quantized, compiled, each once a session."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext
from strop_job.steps.compile import compile_stage
from strop_job.steps.export import SOURCE_STAGE, export_stage
from strop_job.steps.quantize import CALIBRATION, quantize_stage

os.environ.setdefault("OMP_NUM_THREADS", "2")

ENCODER = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
           "intermediate_size": 64, "max_position_embeddings": 64}  # fmt: skip
SPECS: dict[str, dict[str, Any]] = {
    "cnn": {
        "uri": "s3://models/model.safetensors",
        "format": "Safetensors",
        "architecture": {"callable": "strop_job.zoo.cnn:classifier", "arguments": {"width": 8}},
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
        "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 20}],
    },
    "encoder": {
        "uri": "s3://models/model.safetensors",
        "format": "Safetensors",
        "architecture": {"callable": "strop_job.zoo.bert:sentence_encoder", "arguments": ENCODER},
        "inputs": [
            {"name": name, "dtype": "int64", "shape": ["batch", "sequence"]} for name in ("input_ids", "attention_mask")
        ],
        "dimensions": [
            {"name": "batch", "min": 1, "opt": 2, "max": 8},
            {"name": "sequence", "min": 2, "opt": 16, "max": 64},
        ],
    },
}
INT8 = {"precision": "int8", "method": "Static"}
BF16 = {"precision": "bf16", "method": "Cast"}
TARGET = {"name": "cpu", "runtime": "Inductor", "cpu": {"threads": 1}}


@dataclass
class Line:
    """One model's stages, run one by one as the pipeline does."""

    folder: Path
    model: str
    made: dict[str, Artifact] = field(default_factory=dict)

    def spec(self, quantize: Mapping[str, Any] = INT8, target: Mapping[str, Any] = TARGET) -> ModelOptimizationSpec:
        """A spec that is complete, whether or not it would be admitted."""
        return ModelOptimizationSpec.model_validate(
            {
                "model": SPECS[self.model],
                "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
                "data": {
                    "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
                    "evaluation": {"uri": "s3://data/calibration.npz", "format": "Npz"},
                },
                "steps": [{"name": "short", "type": "Quantize", "quantize": dict(quantize)}],
                "targets": [dict(target)],
                "output": {"uri": "s3://engines/m"},
            }
        )

    def run(self, stage: Stage, spec: ModelOptimizationSpec, **instead: Artifact) -> Artifact:
        """The stage's artifact; `instead` replaces needs by name."""
        folder = self.folder / f"{stage.name}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        inputs = {name: instead.get(name) or self.made[name] for name in stage.needs}
        request = RunRequest(
            namespace="default", name="m", uid="0", run_id="0", target="cpu", spec=spec, image="none",
            store={"endpoint": "http://localhost", "region": "local", "recordsUri": "s3://records"},
        )  # fmt: skip
        return stage.run(StageContext(request, folder, inputs, lambda _share, _message: None))

    def quantize(self, options: Mapping[str, Any], target: Mapping[str, Any] = TARGET) -> Artifact:
        """The exported program after the step `short`."""
        spec = self.spec(options, target)
        return self.run(quantize_stage(spec.steps[0], "export", spec, spec.targets[0]), spec)

    def compile(self, program: Artifact, target: Mapping[str, Any] = TARGET) -> Artifact:
        """The program's engine."""
        spec = self.spec(target=target)
        return self.run(compile_stage("compile", "program", spec, spec.targets[0]), spec, program=program)


def _line(folder: Path, model: str, data: Mapping[str, np.ndarray]) -> Line:
    import torch
    from safetensors.torch import save_file

    from strop_job.zoo import bert, cnn

    torch.manual_seed(0)
    module = cnn.classifier(width=8) if model == "cnn" else bert.sentence_encoder(**ENCODER)
    save_file(module.state_dict(), folder / "model.safetensors")
    np.savez(folder / "calibration.npz", **data)
    stages = folder / "stages"
    stages.mkdir()
    line = Line(stages, model)
    line.made[SOURCE_STAGE] = Artifact(ArtifactKind.SOURCE, folder, ("model.safetensors",))
    line.made[CALIBRATION] = Artifact(ArtifactKind.DATA, folder, ("calibration.npz",))
    spec = line.spec()
    line.made["export"] = line.run(export_stage(spec, ArtifactKind.EXPORTED_PROGRAM), spec)
    return line


@pytest.fixture(scope="session")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """The small CNN, exported."""
    random = np.random.default_rng(0)
    images = random.standard_normal((24, 1, 8, 8)).astype(np.float32)
    return _line(tmp_path_factory.mktemp("cnn"), "cnn", {"image": images, "label": random.integers(0, 10, 24)})


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """The tiny encoder, exported."""
    random = np.random.default_rng(0)
    ids = random.integers(0, 50, (24, 16))
    data = {"input_ids": ids, "attention_mask": np.ones_like(ids), "label": random.integers(0, 10, 24)}
    return _line(tmp_path_factory.mktemp("encoder"), "encoder", data)


@pytest.fixture(scope="session")
def cnn_int8(cnn: Line) -> Artifact:
    """The CNN in INT8, a program."""
    return cnn.quantize(INT8)


@pytest.fixture(scope="session")
def cnn_engine(cnn: Line, cnn_int8: Artifact) -> Artifact:
    """The CNN in INT8, compiled."""
    return cnn.compile(cnn_int8)


@pytest.fixture(scope="session")
def encoder_int8(encoder: Line) -> Artifact:
    """The encoder in INT8, a program."""
    return encoder.quantize(INT8)


@pytest.fixture(scope="session")
def encoder_engine(encoder: Line, encoder_int8: Artifact) -> Artifact:
    """The encoder in INT8, compiled."""
    return encoder.compile(encoder_int8)


@pytest.fixture
def ids() -> Callable[[int, int], dict[str, np.ndarray]]:
    """Inputs of the encoder at a batch and a sequence; the last half of every text is padding."""

    def make(batch: int, sequence: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng([batch, sequence])
        mask = np.ones((batch, sequence), np.int64)
        mask[:, sequence // 2 + 1 :] = 0
        return {"input_ids": random.integers(0, 50, (batch, sequence)), "attention_mask": mask}

    return make
