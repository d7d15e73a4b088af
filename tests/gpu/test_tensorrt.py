"""TensorRT and TensorRT-RTX on a real GPU: what they compute, at every shape of the range, and what they tell of it.

What needs no GPU is tested in tests/pipeline/tensorrt; here is what cannot be known without one.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.model import ModelSource
from strop_api.targets import Runtime, Target
from strop_job.backends import Compilation
from strop_job.backends.tensorrt import TensorRTBackend, TensorRTRTXBackend
from strop_job.baselines import without_sparsity
from strop_job.benchmark.measure import measure
from strop_job.benchmark.protocol import Setup
from strop_job.benchmark.rotation import Schedule
from strop_job.errors import InvalidInput, Unsupported
from strop_job.judgement.headline import sparsity_findings
from strop_job.stages import Artifact, ArtifactKind
from strop_job.store.local import LocalStore
from strop_job.store.shared import StoredCache

pytestmark = pytest.mark.gpu
WIDTH, HIDDEN, TOLERANCE = 64, 128, 2e-2
SHAPES = ((1, 1), (4, 8), (8, 32), (3, 7), (5, 31))
"""min, opt, max and two odd ones."""
BACKENDS = {Runtime.TENSORRT: TensorRTBackend, Runtime.TENSORRT_RTX: TensorRTRTXBackend}
SOURCE = ModelSource.model_validate(
    {
        "uri": "s3://models/m.onnx",
        "format": "Onnx",
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", "seq", WIDTH]}],
        "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 8}, {"name": "seq", "min": 1, "opt": 8, "max": 32}],
    }
)


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Any:
    """Each library that is installed and builds for this GPU."""
    try:
        made = BACKENDS[request.param]()
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed here")
    try:
        made.check(target_of(made))
    except Unsupported as error:
        pytest.skip(error.message)
    return made


def target_of(backend: Any, **options: Any) -> Target:
    key = "tensorRTRTX" if backend.library.rtx else "tensorRT"
    accelerator = {"resource": "nvidia.com/gpu"}
    return Target.model_validate(
        {"name": "gpu", "runtime": backend.runtime.value, "accelerator": accelerator, key: options}
    )


def model(int8: bool) -> onnx.ModelProto:
    """Two products with a Relu between them; with `int8` each reads Q/DQ pairs, symmetric."""
    random = np.random.default_rng(0)
    nodes, constants = [], []

    def constant(name: str, values: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(values, name))
        return name

    def pair(tensor: str, name: str, scale: float) -> str:
        if not int8:
            return tensor
        inputs = [constant(f"{name}_s", np.float32(scale)), constant(f"{name}_z", np.int8(0))]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *inputs], [f"{name}_q"], name=f"{name}_q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *inputs], [f"{name}_dq"], name=f"{name}_dq"))
        return f"{name}_dq"

    def product(tensor: str, name: str, rows: int, columns: int, out: str) -> None:
        weight = constant(f"{name}_w", (random.standard_normal((rows, columns)) / rows**0.5).astype(np.float32))
        narrow = pair(weight, f"{name}_weight", float(np.abs(numpy_helper.to_array(constants[-1])).max() / 127))
        nodes.append(helper.make_node("MatMul", [tensor, narrow], [out], name=name))

    product(pair("x", "x", 4 / 127), "up", WIDTH, HIDDEN, "h")
    nodes.append(helper.make_node("Relu", ["h"], ["r"], name="relu"))
    product(pair("r", "r", 4 / 127), "down", HIDDEN, WIDTH, "y")
    given, made = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", "seq", WIDTH]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [given], [made], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def work(tmp_path: Path, target: Target, int8: bool = False, name: str = "one") -> Compilation:
    folder = tmp_path / name
    (folder / "graph").mkdir(parents=True)
    (folder / "engine").mkdir()
    onnx.save(model(int8), str(folder / "graph/model.onnx"))
    graph = Artifact(ArtifactKind.ONNX_GRAPH, folder / "graph", ("model.onnx",))
    (tmp_path / "strop-records").mkdir(exist_ok=True)
    cache = StoredCache(LocalStore(tmp_path), "s3://strop-records/team/caches")
    return Compilation(graph, SOURCE, target, folder / "engine", lambda share, text: None, cache)


def batch(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(shape[0]).standard_normal((*shape, WIDTH)).astype(np.float32)}


@pytest.mark.parametrize("int8", [False, True])
def test_the_engine_computes_its_graph_at_every_shape(backend: Any, tmp_path: Path, int8: bool) -> None:
    """Compile parity: minimum, optimum, maximum and two odd shapes, with and without a CUDA graph."""
    target = target_of(backend)
    asked = work(tmp_path, target, int8)
    session = backend.open(backend.compile(asked), target, threads=1)
    plain = backend.open(asked.graph, target, threads=1, optimized=False)
    for shape in SHAPES:
        given = batch(shape)
        expected = plain.run(given)["y"]
        scale = np.abs(expected).max()
        assert np.abs(session.run(given)["y"] - expected).max() <= TOLERANCE * scale
        session.capture(given)
        timed = session.run_timed(given)
        assert np.abs(timed.outputs["y"] - expected).max() <= TOLERANCE * scale
        assert min(timed.copy_in_us, timed.compute_us, timed.copy_out_us) > 0
    with pytest.raises(InvalidInput, match=r"\(batch\) of input x is 9"):
        session.run(batch((9, 8)))
    session.close()


def test_the_inspector_tells_in_what_the_engine_computes(backend: Any, tmp_path: Path) -> None:
    """The real description must be understood: layers, and compute that is not lost."""
    target = target_of(backend)
    seen = backend.inspect(backend.compile(work(tmp_path, target, int8=True)), target, {"x": (4, 8, WIDTH)})
    assert seen.layers, seen.note
    assert seen.macs == 2 * 4 * 8 * WIDTH * HIDDEN, seen.note


def test_the_second_build_uses_the_first_ones_timings(tmp_path: Path, backend: Any) -> None:
    """A shared timing cache that is written and not understood would be of no use."""
    if backend.library.rtx:
        pytest.skip("TensorRT-RTX times nothing")
    target = target_of(backend)
    states = [backend.compile(work(tmp_path, target, name=name)).facts["timingCache"] for name in ("one", "two")]
    assert states == [{"state": "new", "discarded": ""}, {"state": "shared", "discarded": ""}]


@pytest.mark.parametrize("option", ["stripped", "refittable", "versionCompatible", "sparseWeights"])
def test_each_kind_of_plan_runs(tmp_path: Path, backend: Any, option: str) -> None:
    """A plan without weights is refitted, one for later versions brings code along: all must compute the same."""
    if backend.library.rtx:
        pytest.skip("these are TensorRT's options")
    target = target_of(backend, **{option: True})
    asked = work(tmp_path, target)
    session = backend.open(backend.compile(asked), target, threads=1)
    expected = backend.open(asked.graph, target, threads=1, optimized=False).run(batch((4, 8)))["y"]
    np.testing.assert_allclose(session.run(batch((4, 8)))["y"], expected, atol=TOLERANCE * np.abs(expected).max())
    session.close()


def test_whether_sparse_weights_help_is_measured(tmp_path: Path, backend: Any) -> None:
    """The engine without the flag is timed beside the one with it, by the real children, and one sentence says it."""
    target = target_of(backend, sparseWeights=True)
    dense = without_sparsity(target)
    assert dense is not None
    asked = {"optimized": target, "dense": dense, "original": dense}
    engines = {name: backend.compile(work(tmp_path, one, name=name)) for name, one in asked.items()}
    assert engines["optimized"].facts["sparseWeights"] is not None
    assert engines["dense"].facts["sparseWeights"] is None
    setups = {name: Setup(engine, asked[name], 1, False, tmp_path) for name, engine in engines.items()}
    measured = measure(setups, SOURCE, Schedule(100, 20.0, 0), lambda share, text: None, on_device=True)
    latencies = {name: tally.latencies() for name, tally in measured.main.tallies.items()}
    (found,) = sparsity_findings(latencies, seed=0)
    assert found.message.startswith("sparseWeights ")
    assert "against the same engine without it" in found.message
