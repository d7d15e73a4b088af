"""Small real models: a CNN and an encoder with seeded weights, as safetensors, ONNX and .pt2."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop_api.model import ModelSource
from strop_api.result import RunRequest
from strop_job.stages import Artifact, ArtifactKind, StageContext
from strop_job.steps.export import CODE_STAGE, SOURCE_STAGE, export_stage

os.environ.setdefault("OMP_NUM_THREADS", "2")

CNN: dict[str, Any] = {
    "uri": "s3://models/cnn/model.safetensors",
    "format": "Safetensors",
    "architecture": {"callable": "strop_job.zoo.cnn:classifier", "arguments": {"width": 4}},
    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
    "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 32}],
}
ENCODER: dict[str, Any] = {
    "uri": "s3://models/bert/model.safetensors",
    "format": "Safetensors",
    "architecture": {
        "callable": "strop_job.zoo.bert:sentence_encoder",
        "arguments": {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "intermediate_size": 32, "max_position_embeddings": 64},
    },
    "inputs": [{"name": n, "dtype": "int64", "shape": ["batch", "sequence"]} for n in ("input_ids", "attention_mask")],
    "dimensions": [
        {"name": "batch", "min": 1, "opt": 2, "max": 8},
        {"name": "sequence", "min": 1, "opt": 16, "max": 64},
    ],
}  # fmt: skip


def model(base: dict[str, Any], **changes: Any) -> ModelSource:
    """A model's spec with some fields changed."""
    return ModelSource.model_validate({**base, **changes})


def source(path: Path, *others: str) -> Artifact:
    """A file as the resolve stage would hand it over."""
    return Artifact(ArtifactKind.SOURCE, path.parent, (path.name, *others))


def request(spec: ModelSource, *, allow_code: bool = False) -> RunRequest:
    """A run for this model; everything else is the least there can be."""
    document = {
        "namespace": "team", "name": "m", "uid": "u", "runId": "r1", "target": "cpu", "image": "worker",
        "store": {"endpoint": "http://localhost", "region": "r", "recordsUri": "s3://records"}, "allowCode": allow_code,
        "spec": {
            "model": spec.model_dump(mode="json", by_alias=True),
            "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
            "data": {"evaluation": {"uri": "s3://data/e.npz", "format": "Npz"}},
            "targets": [{"name": "cpu", "runtime": "ONNXRuntime"}],
            "output": {"uri": "s3://engines/m"},
        },
    }  # fmt: skip
    return RunRequest.model_validate(document)


def run_export(
    spec: ModelSource, given: Artifact, folder: Path, *, allow_code: bool = False, code: Artifact | None = None
) -> Artifact:
    """The stage `export`, run below a folder."""
    asked = request(spec, allow_code=allow_code)
    yielded = folder / "stage"
    yielded.mkdir()
    inputs = {SOURCE_STAGE: given} | ({CODE_STAGE: code} if code else {})
    stage = export_stage(asked.spec)
    assert set(stage.needs) <= set(inputs)
    return stage.run(StageContext(asked, yielded, inputs, lambda _share, _message: None))


Export = Callable[..., Artifact]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Runs the export stage into a fresh folder."""

    return lambda spec, given, **options: run_export(spec, given, tmp_path, **options)


@pytest.fixture(scope="session")
def cnn_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights of the small CNN, as safetensors."""
    import torch
    from safetensors.torch import save_file

    from strop_job.zoo.cnn import classifier

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("cnn") / "model.safetensors"
    save_file(classifier(width=4).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def encoder_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights of a tiny sentence encoder, as safetensors."""
    import torch
    from safetensors.torch import save_file

    from strop_job.zoo.bert import sentence_encoder

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bert") / "model.safetensors"
    save_file(sentence_encoder(**ENCODER["architecture"]["arguments"]).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def cnn_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small CNN as a `.pt2` with a dynamic batch."""
    import torch

    from strop_job.zoo.cnn import classifier

    torch.manual_seed(0)
    module = classifier(width=4).eval()
    dims = {"image": {0: torch.export.Dim("batch", min=1, max=32)}}
    program = torch.export.export(module, (torch.randn(4, 1, 8, 8),), dynamic_shapes=dims)
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    torch.export.save(program, path)
    return path
