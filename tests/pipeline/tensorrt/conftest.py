"""Small graphs in every precision TensorRT takes, and real builds of TensorRT-RTX, which needs no GPU for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.model import ModelSource
from strop_api.targets import Runtime, Target
from strop_job.backends import Compilation
from strop_job.backends.tensorrt import TensorRTRTXBackend
from strop_job.stages import Artifact, ArtifactKind, NoCache, Report, SharedCache

RANDOM_SEED = 0
WIDTH, HIDDEN = 16, 32
CHANNELS, SIDE, FILTERS, CLASSES = 4, 8, 16, 10
INT8, FP8 = TensorProto.INT8, TensorProto.FLOAT8E4M3FN
LARGEST = {INT8: 127.0, FP8: 448.0}


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(RANDOM_SEED).standard_normal(shape).astype(np.float32)


@dataclass
class Draft:
    """A graph in the making; `quantized` puts Q/DQ pairs before every product."""

    quantized: int | None = None
    element: int = TensorProto.FLOAT
    zero_point: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: np.ndarray, element: int | None = None) -> str:
        kind = self.element if element is None else element
        raw = numpy_helper.from_array(values, name) if kind == TensorProto.FLOAT else None
        self.constants.append(raw or helper.make_tensor(name, kind, values.shape, values.ravel().tolist()))
        return name

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def activation(self, tensor: str, name: str, reach: float = 4.0) -> str:
        """The tensor, through a Q/DQ pair that holds values up to `reach` if the graph is quantized."""
        if self.quantized is None:
            return tensor
        scale = self.constant(f"{name}_scale", np.array(reach / LARGEST[self.quantized], np.float32))
        zero = self.constant(f"{name}_zero", np.array(self.zero_point, np.float32), self.quantized)
        small = self.add("QuantizeLinear", (tensor, scale, zero), f"{name}_q")
        return self.add("DequantizeLinear", (small, scale, zero), f"{name}_dq")

    def weight(self, name: str, values: np.ndarray, axis: int) -> str:
        """A weight, stored narrow with a scale per channel if the graph is quantized."""
        if self.quantized is None:
            return self.constant(name, values)
        others = tuple(at for at in range(values.ndim) if at != axis)
        scale = np.abs(values).max(axis=others) / LARGEST[self.quantized]
        shape = [1] * values.ndim
        shape[axis] = -1
        small = values / scale.reshape(shape)
        small = np.rint(small) if self.quantized == INT8 else small
        stored = self.constant(name, small.astype(np.float32), self.quantized)
        scales = self.constant(f"{name}_scale", scale.astype(np.float32))
        zeros = self.constant(f"{name}_zero", np.zeros(scale.shape, np.float32), self.quantized)
        return self.add("DequantizeLinear", (stored, scales, zeros), f"{name}_dq", axis=axis)

    def model(self, inputs: Any, outputs: Any, *, opset: int = 21, ir: int = 10) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "small", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def encoder(quantized: int | None = None, element: int = TensorProto.FLOAT, **model: Any) -> onnx.ModelProto:
    """x [batch, seq, WIDTH] -> two products with a Relu between them; batch and sequence are dynamic."""
    zero_point = model.pop("zero_point", 0)
    draft = Draft(quantized, element, zero_point)
    x = draft.activation("x", "x")
    hidden = draft.add("MatMul", (x, draft.weight("w1", weights(WIDTH, HIDDEN), 1)), "up")
    hidden = draft.add("Relu", (hidden,), "relu")
    hidden = draft.activation(hidden, "hidden", reach=20.0)
    out = draft.add("MatMul", (hidden, draft.weight("w2", weights(HIDDEN, WIDTH), 1)), "down")
    shape = ["batch", "seq", WIDTH]
    given = [helper.make_tensor_value_info("x", element, shape)]
    return draft.model(given, [helper.make_tensor_value_info(out, element, shape)], **model)


def cnn(quantized: int | None = None, element: int = TensorProto.FLOAT, **model: Any) -> onnx.ModelProto:
    """image [batch, CHANNELS, SIDE, SIDE] -> [batch, CLASSES]; the batch is dynamic."""
    draft = Draft(quantized, element)
    x = draft.activation("image", "image")
    x = draft.add("Conv", (x, draft.weight("kernel", weights(FILTERS, CHANNELS, 3, 3), 0)), "conv", pads=[1] * 4)
    x = draft.add("Relu", (x,), "relu")
    x = draft.add("GlobalAveragePool", (x,), "pool")
    x = draft.add("Flatten", (x,), "flat")
    x = draft.activation(x, "flat")
    out = draft.add("MatMul", (x, draft.weight("head", weights(FILTERS, CLASSES), 1)), "classify")
    given = [helper.make_tensor_value_info("image", element, ["batch", CHANNELS, SIDE, SIDE])]
    return draft.model(given, [helper.make_tensor_value_info(out, element, ["batch", CLASSES])], **model)


PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "int8": {"quantized": INT8},
    "fp8": {"quantized": FP8},
    "fp16": {"element": TensorProto.FLOAT16},
    "int8+fp16": {"quantized": INT8, "element": TensorProto.FLOAT16},
}
"""How to draw a graph in each."""


def narrowed(model: onnx.ModelProto, to: int) -> onnx.ModelProto:
    """The fp32 graph with weights and compute in another float; inputs and outputs stay fp32, cast at the border."""
    graph = model.graph
    given, made = graph.input[0].name, graph.output[0].name
    for at, weight in enumerate(graph.initializer):
        values = numpy_helper.to_array(weight)
        graph.initializer[at].CopyFrom(helper.make_tensor(weight.name, to, values.shape, values.ravel().tolist()))
    for node in graph.node:
        node.input[:] = [f"{given}_narrow" if name == given else name for name in node.input]
        node.output[:] = [f"{made}_narrow" if name == made else name for name in node.output]
    cast_in = helper.make_node("Cast", [given], [f"{given}_narrow"], name="cast_in", to=to)
    cast_out = helper.make_node("Cast", [f"{made}_narrow"], [made], name="cast_out", to=TensorProto.FLOAT)
    nodes = [cast_in, *graph.node, cast_out]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


ENCODER_SOURCE = {
    "uri": "s3://models/encoder.onnx",
    "format": "Onnx",
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", "seq", WIDTH]}],
    "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 8}, {"name": "seq", "min": 1, "opt": 8, "max": 32}],
}
CNN_SOURCE = {
    "uri": "s3://models/cnn.onnx",
    "format": "Onnx",
    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", CHANNELS, SIDE, SIDE]}],
    "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 16}],
}


def rtx_target(*capabilities: str, **options: Any) -> Target:
    given = {"computeCapabilities": list(capabilities or ("8.9",)), **options}
    return Target.model_validate({"name": "rtx", "runtime": "TensorRTRTX", "tensorRTRTX": given})


def trt_target(**options: Any) -> Target:
    accelerator = {"resource": "nvidia.com/gpu"}
    return Target.model_validate({"name": "l4", "runtime": "TensorRT", "accelerator": accelerator, "tensorRT": options})


Work = Callable[..., Compilation]


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A compilation of a graph, each in folders of its own."""

    def make(
        model: onnx.ModelProto | bytes,
        source: dict[str, Any] = ENCODER_SOURCE,
        target: Target | None = None,
        report: Report = lambda share, text: None,
        cache: SharedCache | None = None,
    ) -> Compilation:
        place = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
        (place / "graph").mkdir(parents=True)
        (place / "engine").mkdir()
        content = model if isinstance(model, bytes) else model.SerializeToString()
        (place / "graph/model.onnx").write_bytes(content)
        graph = Artifact(ArtifactKind.ONNX_GRAPH, place / "graph", ("model.onnx",))
        spec = ModelSource.model_validate(source)
        return Compilation(graph, spec, target or rtx_target(), place / "engine", report, cache or NoCache())

    return make


@pytest.fixture(scope="session")
def rtx() -> TensorRTRTXBackend:
    """The real library; it builds on any CPU."""
    backend = TensorRTRTXBackend()
    assert backend.runtime is Runtime.TENSORRT_RTX
    return backend
