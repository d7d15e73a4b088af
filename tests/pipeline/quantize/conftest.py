"""Real models and real data for the quantizer: magika, files of this environment as its input, and small graphs."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

Arrays = dict[str, np.ndarray]
SAMPLES = 256
RTX = {"runtime": "TensorRTRTX", "tensorRTRTX": {"computeCapabilities": ["8.9"]}}
"""A target built ahead of time: no device is needed, here or for what is quantized for it."""


def site_package(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture(scope="session")
def magika_model() -> Path:
    return site_package("magika") / "models" / "standard_v3_3" / "model.onnx"


@pytest.fixture(scope="session")
def magika_bytes() -> np.ndarray:
    """[SAMPLES, 2048] int32: the first and the last 1,024 bytes of files, as magika reads them.

    They are those of pinned packages, so that what else is installed, or was compiled, changes nothing.
    """
    named = (file for package in ("numpy", "onnx") for file in distribution(package).files or ())
    paths = (Path(str(file.locate())) for file in named if file.suffix != ".pyc" and ".." not in file.parts)
    files = sorted(path for path in paths if path.is_file() and path.stat().st_size > 64)
    chosen = np.random.default_rng(0).permutation(len(files))[:SAMPLES]
    return np.stack([_features(files[i].read_bytes()) for i in chosen])


def _features(content: bytes) -> np.ndarray:
    first, last = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    row = np.full(2048, 256, np.int32)
    row[: len(first)] = np.frombuffer(first, np.uint8)
    row[2048 - len(last) :] = np.frombuffer(last, np.uint8)
    return row


@pytest.fixture(scope="session")
def magika_data(magika_model: Path, magika_bytes: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`calibration.npz` and `evaluation.npz`; labels are the original's answers, one in ten made wrong."""
    folder = tmp_path_factory.mktemp("magika")
    session = ort.InferenceSession(str(magika_model), providers=["CPUExecutionProvider"])
    rows = [magika_bytes[i : i + 32] for i in range(0, SAMPLES, 32)]
    labels = np.concatenate([session.run(None, {"bytes": row})[0].argmax(axis=1) for row in rows])
    labels[::10] = (labels[::10] + 1) % 214
    np.savez(folder / "calibration.npz", bytes=magika_bytes[:64])
    np.savez(folder / "evaluation.npz", bytes=magika_bytes[64:], label=labels[64:])
    return folder


@pytest.fixture
def magika_spec() -> dict[str, Any]:
    return {
        "model": {
            "uri": "s3://models/magika/model.onnx",
            "format": "Onnx",
            "inputs": [{"name": "bytes", "dtype": "int32", "shape": ["batch", 2048]}],
            "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 16}],
        },
        "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
        "data": {
            "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
            "evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"},
        },
        "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Dynamic"}}],
        "targets": [{"name": "cpu", "runtime": "ONNXRuntime"}],
        "output": {"uri": "s3://engines/magika"},
    }


@dataclass
class Bench:
    """Runs stages one by one on the disk, as the pipeline does, and keeps what they yield."""

    folder: Path
    spec: ModelOptimizationSpec
    made: dict[str, Artifact] = field(default_factory=dict)
    told: list[tuple[float, str]] = field(default_factory=list)

    def give(self, name: str, kind: ArtifactKind, path: Path) -> Artifact:
        """An input that no stage of this bench makes."""
        self.made[name] = Artifact(kind, path.parent, (path.name,))
        return self.made[name]

    def run(self, stage: Stage, **instead: Artifact) -> Artifact:
        """The stage's artifact. `instead` replaces needs by name, `_` standing for `-`."""
        folder = self.folder / f"{stage.name}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        swapped = {name.replace("_", "-"): artifact for name, artifact in instead.items()}
        inputs = {name: swapped.get(name) or self.made[name] for name in stage.needs}
        tell: Callable[[float, str], None] = lambda share, message: self.told.append((share, message))  # noqa: E731
        self.made[stage.name] = stage.run(StageContext(self._request(), folder, inputs, tell))
        return self.made[stage.name]

    def _request(self) -> RunRequest:
        return RunRequest(
            namespace="default",
            name="bench",
            uid="0",
            run_id="0",
            target=self.spec.targets[0].name,
            spec=self.spec,
            image="none",
            store={"endpoint": "http://localhost", "region": "local", "recordsUri": "s3://records"},
        )


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[Mapping[str, Any]], Bench]:
    def make(spec: Mapping[str, Any]) -> Bench:
        folder = tmp_path / "stages"
        folder.mkdir(exist_ok=True)
        return Bench(folder, ModelOptimizationSpec.model_validate(spec))

    return make


@pytest.fixture
def magika(
    bench: Callable[[Mapping[str, Any]], Bench], magika_spec: dict[str, Any], magika_model: Path, magika_data: Path
) -> Callable[..., Bench]:
    """A bench with magika exported and its data resolved; keywords set the quantize step."""

    def make(*, target: Mapping[str, Any] | None = None, **quantize: Any) -> Bench:
        spec = {**magika_spec, "targets": [{"name": "cpu", "runtime": "ONNXRuntime", **(target or {})}]}
        step = {"precision": "int8", "method": "Dynamic", **quantize}
        spec["steps"] = [{"name": "int8", "type": "Quantize", "quantize": step}]
        ready = bench(spec)
        ready.give("export", ArtifactKind.ONNX_GRAPH, magika_model)
        ready.give("resolve-calibration", ArtifactKind.DATA, magika_data / "calibration.npz")
        ready.give("resolve-evaluation", ArtifactKind.DATA, magika_data / "evaluation.npz")
        return ready

    return make


def small_cnn(seed: int = 0) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu, a pool and a Gemm: [batch, 3, 16, 16] to [batch, 5]."""
    random = np.random.default_rng(seed)

    def weight(name: str, *shape: int, positive: bool = False) -> TensorProto:
        values = random.standard_normal(shape).astype(np.float32)
        return numpy_helper.from_array(np.abs(values) + 0.5 if positive else values, name)

    weights = [
        weight("w", 16, 3, 3, 3), weight("b", 16), weight("gamma", 16), weight("beta", 16), weight("mean", 16),
        weight("var", 16, positive=True), weight("fc", 16, 5), weight("fb", 5),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["conv"], name="stem/conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", "gamma", "beta", "mean", "var"], ["normal"], name="stem/norm"),
        helper.make_node("Relu", ["normal"], ["active"], name="stem/relu"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc", "fb"], ["scores"], name="head/fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 5])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


CNN_SPEC: dict[str, Any] = {
    "model": {
        "uri": "s3://models/cnn.onnx",
        "format": "Onnx",
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 16, 16]}],
        "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 9}],
    },
    "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
    "data": {
        "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
        "evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"},
    },
    "targets": [{"name": "cpu", "runtime": "ONNXRuntime"}],
    "output": {"uri": "s3://engines/cnn"},
}


@pytest.fixture
def cnn(bench: Callable[[Mapping[str, Any]], Bench], tmp_path: Path) -> Callable[..., Bench]:
    """A bench with a small CNN, or the model given, and random images."""

    def make(
        model: onnx.ModelProto | None = None,
        images: np.ndarray | None = None,
        target: Mapping[str, Any] | None = None,
        **quantize: Any,
    ) -> Bench:
        step = {"precision": "int8", "method": "Static", **quantize}
        steps = [{"name": "int8", "type": "Quantize", "quantize": step}]
        targets = [{"name": "cpu", "runtime": "ONNXRuntime", **(target or {})}]
        ready = bench({**CNN_SPEC, "steps": steps, "targets": targets})
        random = np.random.default_rng(1)
        images = random.standard_normal((40, 3, 16, 16)).astype(np.float32) if images is None else images
        labels = random.integers(0, 5, len(images))
        onnx.save(model or small_cnn(), tmp_path / "model.onnx")
        np.savez(tmp_path / "calibration.npz", image=images)
        np.savez(tmp_path / "evaluation.npz", image=images, label=labels)
        ready.give("export", ArtifactKind.ONNX_GRAPH, tmp_path / "model.onnx")
        ready.give("resolve-calibration", ArtifactKind.DATA, tmp_path / "calibration.npz")
        ready.give("resolve-evaluation", ArtifactKind.DATA, tmp_path / "evaluation.npz")
        return ready

    return make
