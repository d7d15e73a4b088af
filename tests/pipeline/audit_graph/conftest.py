"""Models with planted traps and honest ones, as torch exports them; graphs that ONNX Runtime quantized."""

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

Exporter = Callable[..., Path]
BATCH, LENGTH, WIDTH = 8, 16, 12


@pytest.fixture
def export(tmp_path: Path) -> Exporter:
    """Exports a module by tracing, as programs did for years: what Python computes is baked in.

    `dynamic` names the axes of `x` that are to be dynamic; the example is [8, 16, 12] unless `shape` says otherwise.
    """
    import torch

    def traced(
        module: torch.nn.Module,
        dynamic: Mapping[int, str],
        shape: tuple[int, ...] = (BATCH, LENGTH, WIDTH),
        **options: Any,
    ) -> Path:
        path = tmp_path / f"{type(module).__name__}.onnx"
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module if options.get("training") else module.eval(), (torch.randn(shape),), path, dynamo=False,
                input_names=["x"], output_names=["y"], opset_version=17,
                do_constant_folding=not options.get("training"),
                dynamic_axes={"x": dict(dynamic), "y": {0: dynamic.get(0, "rows")}}, **options,
            )  # fmt: skip
        return path

    return traced


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports a module with torch.export, dynamic axes and all, as it is done today."""
    import torch

    folder = tmp_path_factory.mktemp("exported")

    def honest(module: torch.nn.Module, example: tuple[Any, ...], axes: tuple[Mapping[int, str], ...]) -> Path:
        path = folder / f"{type(module).__name__}-{len(list(folder.iterdir()))}.onnx"
        dims = tuple({at: torch.export.Dim(name, min=1, max=512) for at, name in one.items()} for one in axes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(), example, path, dynamo=True, external_data=False, verbose=False,
                dynamic_shapes=dims,
            )  # fmt: skip
        return path

    return honest


@pytest.fixture(scope="session")
def magika_model() -> Path:
    spec = importlib.util.find_spec("magika")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "models" / "standard_v3_3" / "model.onnx"


def chain(kinds: str, seed: int = 0) -> onnx.ModelProto:
    """A chain of operators on [batch, 8, 8, 8]: c is a convolution, r a Relu, a adds t0, h a HardSwish."""
    random = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for at, kind in enumerate(kinds):
        out = f"t{at}"
        if kind == "c":
            weights.append(
                numpy_helper.from_array(random.standard_normal((8, 8, 3, 3)).astype(np.float32) / 8, f"w{at}")
            )
            nodes.append(helper.make_node("Conv", [last, f"w{at}"], [out], name=f"conv{at}", pads=[1, 1, 1, 1]))
        else:
            operator = {"r": "Relu", "a": "Add", "h": "HardSwish", "s": "Sigmoid", "m": "Mul"}[kind]
            weights += [numpy_helper.from_array(np.array(0.5, np.float32), f"half{at}")] if kind == "m" else []
            inputs = [last, *{"a": ["t0"], "m": [f"half{at}"]}.get(kind, [])]
            nodes.append(helper.make_node(operator, inputs, [out], name=f"{operator.lower()}{at}"))
        last = out
    nodes[-1].output[0] = "y"
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", value[:1], value[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def make_chain() -> Callable[..., onnx.ModelProto]:
    return chain


@pytest.fixture
def quantized(tmp_path: Path) -> Callable[..., onnx.ModelProto]:
    """A graph quantized by ONNX Runtime's own static quantizer."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, shape: tuple[int, ...]) -> None:
            random = np.random.default_rng(0)
            self.batches = iter([{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(4)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    def quantize(model: onnx.ModelProto, *, operator: bool = False, **options: Any) -> onnx.ModelProto:
        source, made = tmp_path / "float.onnx", tmp_path / "int8.onnx"
        onnx.save(model, source)
        shape = [d.dim_value or 4 for d in model.graph.input[0].type.tensor_type.shape.dim]
        form = QuantFormat.QOperator if operator else QuantFormat.QDQ
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_static(source, made, Reader(tuple(shape)), quant_format=form, **options)
        return onnx.load(made)

    return quantize


def stage_spec(**changes: Any) -> dict[str, Any]:
    """A spec for a graph that takes `x`, [batch, 8, 8, 8]."""
    return {
        "model": {
            "uri": "s3://models/m.onnx",
            "format": "Onnx",
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 8, 8, 8]}],
            "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 9}],
        },
        "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
        "data": {
            "calibration": {"uri": "s3://data/c.npz", "format": "Npz"},
            "evaluation": {"uri": "s3://data/e.npz", "format": "Npz"},
        },
        "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}],
        "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 1}}],
        "output": {"uri": "s3://engines/m"},
        **changes,
    }


@pytest.fixture
def run_stage(tmp_path: Path) -> Callable[..., Artifact]:
    """Runs one stage on given artifacts, as the pipeline does."""

    def run(make: Callable[[ModelOptimizationSpec], Stage], spec: Mapping[str, Any], **inputs: Artifact) -> Artifact:
        parsed = ModelOptimizationSpec.model_validate(spec)
        stage = make(parsed)
        folder = tmp_path / stage.name
        folder.mkdir()
        request = RunRequest(
            namespace="default", name="m", uid="0", run_id="0", target=parsed.targets[0].name, spec=parsed,
            image="none",
            store={"endpoint": "http://localhost", "region": "local", "recordsUri": "s3://records"},
        )  # fmt: skip
        given = {name: inputs[name.replace("-", "_")] for name in stage.needs}
        return stage.run(StageContext(request, folder, given, lambda _share, _words: None))

    return run


@pytest.fixture
def spec_with() -> Callable[..., dict[str, Any]]:
    return stage_spec


@pytest.fixture
def graph_artifact(tmp_path: Path) -> Callable[[onnx.ModelProto], Artifact]:
    def write(model: onnx.ModelProto) -> Artifact:
        folder = tmp_path / f"graph-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        onnx.save(model, folder / "model.onnx")
        return Artifact(ArtifactKind.ONNX_GRAPH, folder, ("model.onnx",))

    return write
