"""A small classifier of pictures, honest pictures for it, sets of tokens, and a stage's context over files."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_job.audit.calibration import Observed, observe
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

SIDE, CLASSES = 12, 6
BENCH = Path(__file__).parents[2] / "bench"
Arrays = dict[str, np.ndarray]


def network() -> onnx.ModelProto:
    """Convolution, pooling and a classifier whose classes are the places of the brightest spot."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(0, 0.3, (8, 3, 3, 3)), "b": random.normal(0, 0.1, 8),
        "v": random.normal(0, 0.2, (CLASSES, 8 * (SIDE // 2) ** 2)), "c": np.zeros(CLASSES),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w", "b"], ["conv"], pads=[1, 1, 1, 1]),
        node("Relu", ["conv"], ["relu"]),
        node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["pool"], ["flat"]),
        node("Gemm", ["flat", "v", "c"], ["scores"], transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [value("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def pictures(count: int, seed: int) -> np.ndarray:
    """[n, 3, 12, 12] in 0..1: a smooth bright spot somewhere, redder than its ground, with a little grain."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    rows, columns = random.uniform(1, SIDE - 2, (2, count, 1, 1))
    spot = np.exp(-((y - rows) ** 2 + (x - columns) ** 2) / 8)[:, None]
    light = random.uniform(0.8, 1.2, (count, 1, 1, 1))
    tint = np.array([0.8, 0.5, 0.2])[:, None, None]
    return np.clip(light * (0.1 + spot * tint) + random.normal(0, 0.02, (count, 3, SIDE, SIDE)), 0, 1).astype(
        np.float32
    )


@pytest.fixture(scope="session")
def honest() -> Callable[[int, int], np.ndarray]:
    """So many pictures from a seed."""
    return pictures


@pytest.fixture(scope="session")
def seen() -> Callable[..., Observed]:
    """Pictures observed with the network: its convolution's output is watched, its scores name classes."""
    model = network()
    model.graph.output.append(onnx.ValueInfoProto(name="flat"))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(("scores", "flat"), session.run(["scores", "flat"], inputs), strict=True))

    def look(images: np.ndarray) -> Observed:
        return observe(({"image": one[None]} for one in images), run, ("scores",), "scores")

    return look


@pytest.fixture(scope="session")
def tokens() -> Callable[[int, int], Arrays]:
    """Sentences of 24 tokens from a skewed vocabulary: a start, 8 to 20 words, an end, padding; and their mask."""

    def make(count: int, seed: int) -> Arrays:
        random = np.random.default_rng(seed)
        ids = np.zeros((count, 24), np.int64)
        lengths = random.integers(8, 21, count)
        words = np.minimum(random.zipf(1.5, (count, 24)), 500) + 10
        for row, length in enumerate(lengths):
            ids[row, 0], ids[row, 1 : length + 1], ids[row, length + 1] = 1, words[row, :length], 2
        return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}

    return make


SPEC: dict[str, Any] = {
    "model": {
        "uri": "s3://models/small.onnx",
        "format": "Onnx",
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, SIDE, SIDE]}],
        "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 16}],
    },
    "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
    "data": {
        "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
        "evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"},
    },
    "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 1}}],
    "output": {"uri": "s3://engines/small"},
}
MakeArtifact = Callable[..., Artifact]


@pytest.fixture
def audited(tmp_path: Path) -> MakeArtifact:
    """Runs the stage over arrays of pictures by role; keywords `model` and `labels` replace parts of the spec."""
    from strop_job.audit.calibration import audit_calibration_stage

    def audit(
        sets: dict[str, np.ndarray],
        *,
        graph: Artifact | None = None,
        labels: dict[str, np.ndarray] | None = None,
        **spec: Any,
    ) -> Artifact:
        data: dict[str, Any] = {role: {"uri": f"s3://data/{role}.npz", "format": "Npz"} for role in sets}
        full = ModelOptimizationSpec.model_validate({**SPEC, "data": data, **spec})
        stage = audit_calibration_stage(full, full.targets[0])
        inputs = {"export": graph or saved(tmp_path)}
        for role, images in sets.items():
            known = (labels or {}).get(role, np.arange(len(images)) % CLASSES)
            np.savez(tmp_path / f"{role}.npz", image=images, label=known)
            inputs[f"resolve-{role}"] = Artifact(ArtifactKind.DATA, tmp_path, (f"{role}.npz",))
        return stage.run(context(full, stage, inputs, tmp_path))

    return audit


def saved(folder: Path) -> Artifact:
    """The network as the export would have left it."""
    place = folder / "export"
    place.mkdir(exist_ok=True)
    onnx.save(network(), place / "model.onnx")
    return Artifact(ArtifactKind.ONNX_GRAPH, place, ("model.onnx",))


def context(spec: ModelOptimizationSpec, stage: Stage, inputs: dict[str, Artifact], folder: Path) -> StageContext:
    """What a run would give the stage: nothing beyond its needs."""
    place = folder / f"stage-{len(list(folder.iterdir()))}"
    place.mkdir()
    request = RunRequest.model_validate(
        {
            "namespace": "default", "name": "small", "uid": "u", "run_id": "0123456789", "target": spec.targets[0].name,
            "spec": spec, "image": "none",
            "store": {"endpoint": "none", "region": "none", "records_uri": "s3://records/r"},
        }
    )  # fmt: skip
    needed = {name: inputs[name] for name in stage.needs}
    return StageContext(request, place, needed, lambda share, message: None)


@pytest.fixture(scope="session")
def bench() -> Iterator[ModuleType]:
    """The bench's script as a module."""
    sys.path.insert(0, str(BENCH))
    try:
        yield importlib.import_module("bench_calibration_audit")
    finally:
        sys.path.remove(str(BENCH))


@pytest.fixture
def make_spec() -> Callable[..., ModelOptimizationSpec]:
    """The spec; keywords go to its calibration data."""

    def make(**changes: Any) -> ModelOptimizationSpec:
        data = {**SPEC["data"], "calibration": {**SPEC["data"]["calibration"], **changes}}
        return ModelOptimizationSpec.model_validate({**SPEC, "data": data})

    return make


@pytest.fixture
def program(tmp_path: Path) -> tuple[dict[str, Any], Artifact]:
    """The zoo's classifier exported for Inductor, and the model of its spec."""
    import torch
    from safetensors.torch import save_file

    from strop_job.steps.export import export_stage
    from strop_job.zoo.cnn import classifier

    arguments = {"channels": 3, "width": 4, "classes": CLASSES}
    model = {
        **SPEC["model"],
        "format": "Safetensors",
        "architecture": {"callable": "strop_job.zoo.cnn:classifier", "arguments": arguments},
    }
    torch.manual_seed(0)
    (tmp_path / "source").mkdir()
    save_file(classifier(**arguments).state_dict(), tmp_path / "source" / "model.safetensors")
    targets = [{"name": "cpu", "runtime": "Inductor", "cpu": {"threads": 1}}]
    spec = ModelOptimizationSpec.model_validate({**SPEC, "model": model, "targets": targets})
    stage = export_stage(spec, ArtifactKind.EXPORTED_PROGRAM)
    source = Artifact(ArtifactKind.SOURCE, tmp_path / "source", ("model.safetensors",))
    return model, stage.run(context(spec, stage, {"resolve-model": source}, tmp_path))
