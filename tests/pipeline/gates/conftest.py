"""Real ONNX graphs of two sizes, compiled by the real backend, and a spec that asks for them."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_job.backends import Compilation, backend_for
from strop_job.stages import Artifact, ArtifactKind, NoCache, Report, StageContext

WIDTH = 64

MakeSpec = Callable[..., ModelOptimizationSpec]
MakeEngine = Callable[[str, int], Artifact]


def chain(layers: int) -> onnx.ModelProto:
    """`layers` matrix products of 64 by 64 with a ReLU after each."""
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i in range(layers):
        weights.append(numpy_helper.from_array(random.normal(0, 0.1, (WIDTH, WIDTH)).astype(np.float32), f"w{i}"))
        nodes += [
            helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"]),
            helper.make_node("Relu", [f"m{i}"], [f"r{i}"]),
        ]
        last = f"r{i}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [value(last, TensorProto.FLOAT, ["batch", WIDTH])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def document(**changes: Any) -> dict[str, Any]:
    """A valid spec as a document, with top-level fields replaced."""
    return {
        "model": {
            "uri": "s3://models/chain.onnx",
            "format": "Onnx",
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", WIDTH]}],
            "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 8}],
        },
        "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
        "data": {"evaluation": {"uri": "s3://data/eval.npz", "format": "Npz"}},
        "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 1}}],
        "output": {"uri": "s3://engines/chain"},
        "benchmark": {"calls": 80, "maxSeconds": 20},
        **changes,
    }


def quiet(share: float, message: str) -> None:
    """A report that nobody reads."""


@pytest.fixture(scope="session")
def make_spec() -> MakeSpec:
    """A spec with some top-level fields replaced."""
    return lambda **changes: ModelOptimizationSpec.model_validate(document(**changes))


@pytest.fixture
def make_engine(tmp_path: Path, make_spec: MakeSpec) -> MakeEngine:
    """Compiles a chain of so many layers under a name."""

    def make(name: str, layers: int) -> Artifact:
        folder = tmp_path / f"graph-{name}"
        folder.mkdir()
        onnx.save(chain(layers), folder / "model.onnx")
        graph = Artifact(ArtifactKind.ONNX_GRAPH, folder, ("model.onnx",))
        engine = tmp_path / f"engine-{name}"
        engine.mkdir()
        spec = make_spec()
        target = spec.targets[0]
        return backend_for(target.runtime).compile(Compilation(graph, spec.model, target, engine, quiet, NoCache()))

    return make


MakeContext = Callable[..., StageContext]


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """The context a stage would get, with an empty folder of its own."""

    def make(spec: ModelOptimizationSpec, inputs: dict[str, Artifact], report: Report = quiet) -> StageContext:
        folder = tmp_path / "stage"
        folder.mkdir()
        request = RunRequest.model_validate(
            {
                "namespace": "default",
                "name": "chain",
                "uid": "u",
                "run_id": "0123456789",
                "target": "cpu",
                "spec": spec,
                "image": "none",
                "store": {"endpoint": "none", "region": "none", "records_uri": "s3://records/r"},
            }
        )
        return StageContext(request, folder, inputs, report)

    return make


@pytest.fixture(scope="session")
def gate_runs() -> ModuleType:
    """The synthetic runs that the bench of the gates counts, fewer of them."""
    path = Path(__file__).parents[2] / "bench" / "gate_runs.py"
    spec = importlib.util.spec_from_file_location("gate_runs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_runs"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
