"""Small graphs for OpenVINO: a CNN, attention, an LSTM; and a bench that runs stages one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_api.targets import Runtime, Target
from strop_job.backends import Compilation, backend_for
from strop_job.stages import Artifact, ArtifactKind, NoCache, Stage, StageContext
from strop_job.steps.quantize import quantize_stage

CPU = Target.model_validate({"name": "cpu", "runtime": "OpenVINO", "cpu": {"threads": 1}})
FLOAT = TensorProto.FLOAT


def weight(name: str, *shape: int, seed: int = 0, scale: float = 0.3) -> TensorProto:
    values = np.random.default_rng([seed, *name.encode()]).standard_normal(shape) * scale
    return numpy_helper.from_array(values.astype(np.float32), name)


def graph_of(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, list[Any]],
    outputs: Mapping[str, list[Any]],
    weights: list[TensorProto],
    opset: int = 18,
) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    made = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "small", given, made, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def small_cnn(activation: str = "Relu") -> onnx.ModelProto:
    """Two convolutions, a pool and a Gemm: [batch, 3, 16, 16] to [batch, 5]."""
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="stem/conv", pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["c1"], ["a1"], name="stem/act"),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["c2"], name="body/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["a2"], name="body/act"),
        helper.make_node("GlobalAveragePool", ["a2"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc", "fb"], ["scores"], name="head/fc"),
    ]
    weights = [
        weight("w1", 16, 3, 3, 3), weight("b1", 16), weight("w2", 16, 16, 3, 3, scale=0.1), weight("b2", 16),
        weight("fc", 16, 5), weight("fb", 5),
    ]  # fmt: skip
    return graph_of(nodes, {"image": ["batch", 3, 16, 16]}, {"scores": ["batch", 5]}, weights)


CNN_MACS = 256 * 16 * 27 + 256 * 16 * 144 + 16 * 5
"""Of one image."""


def attention() -> onnx.ModelProto:
    """One head over [batch, tokens, 32], normalised, with a projection on each side."""
    nodes = [
        helper.make_node("LayerNormalization", ["tokens", "gamma", "beta"], ["normal"], name="norm"),
        *(helper.make_node("MatMul", ["normal", f"w{n}"], [n], name=f"proj/{n}") for n in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["logits"], name="scores"),
        helper.make_node("Softmax", ["logits"], ["share"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["share", "v"], ["mixed"], name="mix"),
        helper.make_node("MatMul", ["mixed", "wo"], ["out"], name="proj/o"),
    ]
    ones, zeros = (numpy_helper.from_array(np.full(32, v, np.float32), n) for n, v in (("gamma", 1), ("beta", 0)))
    weights = [ones, zeros, *(weight(f"w{n}", 32, 32) for n in "qkvo")]
    shape = ["batch", "tokens", 32]
    return graph_of(nodes, {"tokens": shape}, {"out": shape}, weights)


SPECS: dict[str, dict[str, Any]] = {
    "image": {
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 16, 16]}],
        "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 9}],
    },
    "tokens": {
        "inputs": [{"name": "tokens", "dtype": "float32", "shape": ["batch", "tokens", 32]}],
        "dimensions": [
            {"name": "batch", "min": 1, "opt": 2, "max": 8},
            {"name": "tokens", "min": 2, "opt": 8, "max": 16},
        ],
    },
}


@dataclass
class Bench:
    """Runs stages on the disk, as the pipeline does, and keeps what they yield and report."""

    folder: Path
    spec: ModelOptimizationSpec
    made: dict[str, Artifact] = field(default_factory=dict)
    told: list[tuple[float, str]] = field(default_factory=list)

    def run(self, stage: Stage) -> Artifact:
        folder = self.folder / f"{stage.name}-{len(self.made)}"
        folder.mkdir()
        inputs = {name: self.made[name] for name in stage.needs}
        request = RunRequest(
            namespace="default", name="bench", uid="0", run_id="0", target="cpu", spec=self.spec, image="none",
            store={"endpoint": "http://localhost", "region": "local", "recordsUri": "s3://records"},
        )  # fmt: skip
        tell: Callable[[float, str], None] = lambda share, message: self.told.append((share, message))  # noqa: E731
        self.made[stage.name] = stage.run(StageContext(request, folder, inputs, tell))
        return self.made[stage.name]

    def quantize(self) -> Artifact:
        """The first step of the spec on the exported graph."""
        return self.run(quantize_stage(self.spec.steps[0], "export", self.spec, self.spec.targets[0]))

    def compile(self, graph: Artifact, target: Target = CPU) -> Artifact:
        """An engine of a graph."""
        folder = self.folder / f"engine-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        work = Compilation(graph, self.spec.model, target, folder, lambda share, message: None, NoCache())
        return backend_for(Runtime.OPENVINO).compile(work)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Input shapes at the tuned sizes."""
        tuned = {d.name: d.opt for d in self.spec.model.dimensions}
        return {t.name: tuple(tuned.get(s, s) for s in t.shape) for t in self.spec.model.inputs}  # type: ignore[misc,arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """A bench with a model and calibration data for its one input, `image` or `tokens`."""

    def make(model: onnx.ModelProto, data: np.ndarray | None = None, **quantize: Any) -> Bench:
        name = model.graph.input[0].name
        step = {"precision": "int8", "method": "Static", **quantize}
        spec = ModelOptimizationSpec.model_validate(
            {
                "model": {"uri": "s3://models/small.onnx", "format": "Onnx", **SPECS[name]},
                "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
                "data": {
                    "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
                    "evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"},
                },
                "steps": [{"name": "int8", "type": "Quantize", "quantize": step}],
                "targets": [CPU.model_dump(mode="json", by_alias=True, exclude_none=True)],
                "output": {"uri": "s3://engines/small"},
            }
        )
        shape = (40, 3, 16, 16) if name == "image" else (40, 8, 32)
        rows = np.random.default_rng(1).standard_normal(shape).astype(np.float32) if data is None else data
        ready = Bench(tmp_path / "bench", spec)
        ready.folder.mkdir()
        onnx.save(model, tmp_path / "model.onnx")
        np.savez(tmp_path / "calibration.npz", **{name: rows})
        ready.made["export"] = Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("model.onnx",))
        ready.made["resolve-calibration"] = Artifact(ArtifactKind.DATA, tmp_path, ("calibration.npz",))
        return ready

    return make
