"""Deep real graphs, compiled by the real backend, with one layer altered on purpose."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

WIDTH, LAYERS = 32, 40

SPEC: dict[str, Any] = {
    "model": {
        "uri": "s3://models/chain.onnx",
        "format": "Onnx",
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", WIDTH]}],
        "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 16}],
    },
    "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
    "data": {
        "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
        "evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"},
    },
    "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 1}}],
    "output": {"uri": "s3://engines/chain"},
    "benchmark": {"calls": 50, "maxSeconds": 20},
}


def deep(layers: int = LAYERS) -> onnx.ModelProto:
    """Blocks of MatMul, Add and Relu, each with a residual path: `block7/matmul` and so on."""
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i in range(layers):
        values = {f"w{i}": random.normal(0, 0.15, (WIDTH, WIDTH)), f"b{i}": random.normal(0, 0.1, WIDTH)}
        weights += [numpy_helper.from_array(array.astype(np.float32), name) for name, array in values.items()]
        nodes += [
            helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"], name=f"block{i}/matmul"),
            helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"], name=f"block{i}/bias"),
            helper.make_node("Tanh", [f"a{i}"], [f"t{i}"], name=f"block{i}/tanh"),
            helper.make_node("Add", [f"t{i}", last], [f"r{i}"], name=f"block{i}/residual"),
        ]
        last = f"r{i}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "deep",
        [value("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [value(last, TensorProto.FLOAT, ["batch", WIDTH])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def altered(model: onnx.ModelProto, weight: str, factor: float = 2) -> onnx.ModelProto:
    """The same with a third of one weight changed: times `factor`, or of integers halved with the other sign."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    (found,) = [w for w in changed.graph.initializer if w.name == weight]
    values = numpy_helper.to_array(found).copy()
    values[:, ::3] = -(values[:, ::3] // 2) if values.dtype.kind in "iu" else values[:, ::3] * factor
    found.CopyFrom(numpy_helper.from_array(values, weight))
    return changed


@dataclass
class Bench:
    """Runs stages one by one on the disk, as the pipeline does, and keeps what they yield."""

    folder: Path
    spec: ModelOptimizationSpec
    made: dict[str, Artifact] = field(default_factory=dict)

    def run(self, stage: Stage, **instead: Artifact) -> Artifact:
        """The stage's artifact. `instead` replaces needs by name, `_` standing for `-`."""
        swapped = {name.replace("_", "-"): artifact for name, artifact in instead.items()}
        inputs = {name: swapped.get(name) or self.made[name] for name in stage.needs}
        self.made[stage.name] = stage.run(self.context(inputs, stage.name))
        return self.made[stage.name]

    def context(self, inputs: dict[str, Artifact], name: str = "stage") -> StageContext:
        """What a stage would get, with an empty folder of its own."""
        folder = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        request = RunRequest.model_validate(
            {
                "namespace": "default", "name": "deep", "uid": "u", "run_id": "0123456789", "target": "cpu",
                "spec": self.spec, "image": "none",
                "store": {"endpoint": "none", "region": "none", "records_uri": "s3://records/r"},
            }
        )  # fmt: skip
        return StageContext(request, folder, inputs, lambda share, message: None)

    def save(self, name: str, model: onnx.ModelProto) -> Artifact:
        """A graph as a stage would have left it."""
        folder = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        onnx.save(model, folder / "model.onnx")
        self.made[name] = Artifact(ArtifactKind.ONNX_GRAPH, folder, ("model.onnx",))
        return self.made[name]


MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench(tmp_path: Path) -> MakeBench:
    """A bench with the deep graph exported and random data; keywords replace top-level fields of the spec."""

    def make(model: onnx.ModelProto | None = None, **changes: Any) -> Bench:
        folder = tmp_path / f"stages-{len(list(tmp_path.glob('stages-*')))}"
        folder.mkdir()
        bench = Bench(folder, ModelOptimizationSpec.model_validate({**SPEC, **changes}))
        bench.save("export", model or deep())
        random = np.random.default_rng(1)
        for role in ("calibration", "evaluation"):
            x = random.normal(size=(64, WIDTH)).astype(np.float32)
            np.savez(tmp_path / f"{role}.npz", x=x, label=random.integers(0, WIDTH, 64))
            bench.made[f"resolve-{role}"] = Artifact(ArtifactKind.DATA, tmp_path, (f"{role}.npz",))
        return bench

    return make
