"""Real engines of a small model, and the stages that hand them over."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.result import RunRequest
from strop_job.backends import Compilation, backend_for
from strop_job.handoff import hand_off
from strop_job.stages import Artifact, ArtifactKind, NoCache, Stage, StageContext

os.environ.setdefault("OMP_NUM_THREADS", "2")

SPEC: dict[str, Any] = {
    "model": {
        "uri": "s3://models/scores/model.onnx",
        "format": "Onnx",
        "inputs": [
            {"name": "image", "dtype": "float32", "shape": ["batch", 3, 16, 16]},
            {"name": "scale", "dtype": "float32", "shape": ["batch", 1]},
        ],
        "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 16}],
    },
    "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
    "data": {"evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"}},
    "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 2}}],
    "output": {"uri": "s3://engines/scores", "formats": ["Engine", "Triton", "KServe", "OCI"]},
}


def network(batch: str | int = "batch") -> onnx.ModelProto:
    """[batch, 3, 16, 16] and [batch, 1] to class scores [batch, 5] and the best class [batch]."""
    random = np.random.default_rng(0)
    weights = {"w": (8, 3, 3, 3), "v": (8, 5)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w"], ["c"], name="stem", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
            helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
            helper.make_node("MatMul", ["f", "v"], ["m"], name="head"),
            helper.make_node("Mul", ["m", "scale"], ["scores"], name="scaled"),
            helper.make_node("ArgMax", ["scores"], ["best"], name="argmax", axis=1, keepdims=0),
        ],
        "scores",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 16, 16]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, [batch, 1]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5]),
            helper.make_tensor_value_info("best", TensorProto.INT64, [batch]),
        ],
        [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def spec_of(**changes: Any) -> dict[str, Any]:
    """The spec with members replaced."""
    return {**deepcopy(SPEC), **changes}


def request_of(spec: Mapping[str, Any], *, name: str = "scores", run_id: str = "0123456789") -> RunRequest:
    """A run of this spec's first target."""
    store = {"endpoint": "http://localhost", "region": "r", "recordsUri": "s3://records"}
    return RunRequest.model_validate(
        {
            "namespace": "team", "name": name, "uid": "u", "runId": run_id, "target": spec["targets"][0]["name"],
            "image": "worker@sha256:0", "spec": spec, "store": store,
        }
    )  # fmt: skip


@dataclass
class Bench:
    """Runs hand-off stages below a folder."""

    folder: Path

    def fresh(self) -> Path:
        path = self.folder / f"{len(list(self.folder.iterdir())):02d}"
        path.mkdir()
        return path

    def engine(self, request: RunRequest, graph: onnx.ModelProto) -> Artifact:
        """The graph, compiled for the request's target by its own backend."""
        folder = self.fresh()
        onnx.save(graph, folder / "model.onnx")
        return self.compiled(request, Artifact(ArtifactKind.ONNX_GRAPH, folder, ("model.onnx",)))

    def compiled(self, request: RunRequest, made: Artifact) -> Artifact:
        """What a stage made, compiled for the request's target by its own backend."""
        target = request.spec.targets[0]
        work = Compilation(made, request.spec.model, target, self.fresh(), lambda _s, _m: None, NoCache())
        return backend_for(target.runtime).compile(work)

    def source(self) -> Artifact:
        """The user's file."""
        folder = self.fresh()
        (folder / "model.onnx").write_bytes(b"the model as it was given")
        return Artifact(ArtifactKind.SOURCE, folder, ("model.onnx",))

    def run(self, stage: Stage, request: RunRequest, **inputs: Artifact) -> Artifact:
        """What the stage yields. Needs are given by name, `_` standing for `-`."""
        given = {name.replace("_", "-"): artifact for name, artifact in inputs.items()}
        assert set(stage.needs) <= set(given)
        return stage.run(StageContext(request, self.fresh(), given, lambda _s, _m: None))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Stages run below the test's own folder."""
    return Bench(tmp_path)


def package_file(package: str, *parts: str) -> Path:
    """A file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: run `make test`, which installs requirements/samples.lock")
    return Path(spec.origin).parent.joinpath(*parts)


@pytest.fixture(scope="session")
def triton_schema() -> ModuleType:
    """Triton's own protobuf schema, compiled by its makers. Its package would import gRPC; this file does not."""
    if "model_config_pb2" in sys.modules:
        return sys.modules["model_config_pb2"]
    path = package_file("tritonclient", "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["model_config_pb2"] = module
    return module


def stages_of(request: RunRequest, **options: Any) -> dict[str, Stage]:
    """The hand-off's stages, by name."""
    names = {"engine": "compile", "graph": "export", "export": "export", "model": "resolve-model"}
    return {stage.name: stage for stage in hand_off(request, request.spec.targets[0], **names, **options).stages}


class Parts:
    """The helpers of this file, for tests that cannot import it."""

    spec_of, request_of, stages_of = staticmethod(spec_of), staticmethod(request_of), staticmethod(stages_of)
    network, package_file = staticmethod(network), staticmethod(package_file)


@pytest.fixture(scope="session")
def parts() -> type[Parts]:
    """The helpers of this file."""
    return Parts


@pytest.fixture
def scores(bench: Bench) -> dict[str, Artifact]:
    """An ONNX Runtime engine and its bundles: `engine`, `triton`, `kserve`, `oci`."""
    request = request_of(SPEC)
    engine, source = bench.engine(request, network()), bench.source()
    made = {
        name.removeprefix("bundle-"): bench.run(stage, request, compile=engine, resolve_model=source)
        for name, stage in stages_of(request).items()
    }
    return {"engine": engine, **made}
