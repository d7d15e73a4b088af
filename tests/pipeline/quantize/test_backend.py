"""The ONNX Runtime backend: what it compiles, what it opens, what it refuses, and what it reads from an engine."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.model import ModelSource
from strop_api.steps import Precision
from strop_api.targets import Runtime, Target
from strop_job.backends import Compilation, backend_for
from strop_job.errors import InvalidInput, Unsupported
from strop_job.stages import Artifact, ArtifactKind, NoCache
from strop_job.steps.compile import compile_stage
from strop_job.steps.quantize import quantize_stage

from .conftest import Bench, small_cnn

CPU = Target(name="cpu", runtime=Runtime.ONNX_RUNTIME)
ORT = backend_for(Runtime.ONNX_RUNTIME)


def work_on(graph: Artifact, target: Target, folder: Path) -> Compilation:
    """A compilation as a stage would ask for it; ONNX Runtime needs no dimensions."""
    model = ModelSource(
        uri="s3://models/m.onnx", format="Onnx", inputs=[{"name": "x", "dtype": "float32", "shape": [1]}]
    )
    return Compilation(graph, model, target, folder, silent, NoCache())


IMAGES = {"image": np.random.default_rng(3).standard_normal((2, 3, 16, 16)).astype(np.float32)}


def silent(share: float, message: str) -> None:
    """No progress is wanted here."""


@pytest.fixture
def graph(tmp_path: Path) -> Artifact:
    onnx.save(small_cnn(), tmp_path / "model.onnx")
    return Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("model.onnx",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "engine"
    made.mkdir()
    return made


def run(artifact: Artifact, target: Target = CPU, *, optimized: bool = True) -> np.ndarray:
    session = ORT.open(artifact, target, threads=1, optimized=optimized)
    try:
        return session.run(IMAGES)["scores"]
    finally:
        session.close()


def test_an_engine_computes_what_its_graph_says(graph: Artifact, folder: Path) -> None:
    """Compiling changed the model."""
    engine = ORT.compile(work_on(graph, CPU, folder))
    assert engine.kind is ArtifactKind.ENGINE
    np.testing.assert_allclose(run(engine), run(graph, optimized=False), rtol=1e-4, atol=1e-4)
    assert engine.facts["provider"] == "CPUExecutionProvider"
    assert engine.facts["sizeBytes"] == engine.entry.stat().st_size


def test_the_level_of_optimization_is_the_targets(graph: Artifact, tmp_path: Path) -> None:
    """`graphOptimization` would be decoration."""
    nodes = {}
    for level in ("Disable", "All"):
        target = Target.model_validate(
            {"name": "cpu", "runtime": "ONNXRuntime", "onnxRuntime": {"graphOptimization": level}}
        )
        (tmp_path / level).mkdir()
        nodes[level] = ORT.compile(work_on(graph, target, tmp_path / level)).facts["nodes"]
    assert "BatchNormalization" in nodes["Disable"]
    assert "BatchNormalization" not in nodes["All"]


def test_a_device_that_is_not_there_is_an_error_and_no_fallback(graph: Artifact, folder: Path) -> None:
    """ONNX Runtime falls back to the CPU without a word; figures of a GPU target would be those of a CPU."""
    target = Target.model_validate({"name": "gpu", "runtime": "ONNXRuntime", "accelerator": {}})
    for attempt in (
        lambda: ORT.check(target),
        lambda: ORT.compile(work_on(graph, target, folder)),
        lambda: ORT.open(graph, target, threads=1),
    ):
        with pytest.raises(Unsupported, match="CUDAExecutionProvider") as caught:
            attempt()
        assert caught.value.field == "spec.targets[gpu].accelerator"
        assert "CPUExecutionProvider" in caught.value.message


def test_the_reference_runs_on_the_processor_whatever_the_target_is(graph: Artifact) -> None:
    """A provider compared with itself agrees, whatever it computes."""
    target = Target.model_validate({"name": "gpu", "runtime": "ONNXRuntime", "accelerator": {}})
    np.testing.assert_array_equal(run(graph, target, optimized=False), run(graph, optimized=False))


def test_compiling_on_the_wrong_machine_is_refused(cnn: Callable[..., Bench]) -> None:
    """An engine optimized for another instruction set would be measured, and published for it."""
    bench = cnn(target={"cpu": {"isa": "no_such_isa"}})
    with pytest.raises(Unsupported, match="no_such_isa") as caught:
        bench.run(compile_stage("compile", "export", bench.spec, bench.spec.targets[0]))
    assert caught.value.field == "spec.targets[0].cpu.isa"


def test_other_runtimes_are_refused_by_name() -> None:
    """A target of another runtime would be served by this one."""
    with pytest.raises(Unsupported, match="TensorRT"):
        backend_for(Runtime.TENSORRT)


@pytest.mark.parametrize(("opset", "ir"), [(99, 10), (18, 99)])
def test_a_graph_too_new_for_the_runtime_says_so(tmp_path: Path, folder: Path, opset: int, ir: int) -> None:
    """The user would search for an error in the model instead of exporting it with an older opset."""
    model = small_cnn()
    model.opset_import[0].version, model.ir_version = opset, ir
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Unsupported, match=f"IR {ir}, opset ai.onnx {opset}") as caught:
        ORT.compile(work_on(Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("model.onnx",)), CPU, folder))
    assert "older opset" in (caught.value.mend or "")


def test_an_unknown_operator_is_named(tmp_path: Path, folder: Path) -> None:
    """The message must name what is missing."""
    model = small_cnn()
    model.graph.node[2].op_type, model.graph.node[2].domain = "Swoosh", "acme"
    model.opset_import.append(helper.make_opsetid("acme", 1))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(Unsupported, match="Swoosh"):
        ORT.compile(work_on(Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("model.onnx",)), CPU, folder))


def test_a_damaged_file_is_refused(graph: Artifact, folder: Path) -> None:
    """A traceback of the runtime would be the status."""
    graph.entry.write_bytes(graph.entry.read_bytes()[:200])
    with pytest.raises(InvalidInput, match=r"refuses model\.onnx"):
        ORT.compile(work_on(graph, CPU, folder))


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": np.zeros((1, 3, 16, 16), np.float64)},
        {"image": np.zeros((1, 4, 16, 16), np.float32)},
        {"picture": np.zeros((1, 3, 16, 16), np.float32)},
        {},
    ],
)
def test_inputs_that_do_not_fit_are_the_users_to_mend(graph: Artifact, inputs: dict[str, np.ndarray]) -> None:
    """Types and shapes that the model refuses must name the field."""
    session = ORT.open(graph, CPU, threads=1)
    with pytest.raises(InvalidInput) as caught:
        session.run(inputs)
    assert caught.value.field == "spec.model.inputs"


def test_a_session_knows_its_inputs_and_outputs(graph: Artifact) -> None:
    """Callers could not tell which arrays to give."""
    session = ORT.open(graph, CPU, threads=1)
    assert session.inputs == {"image": np.dtype(np.float32)}
    assert session.outputs == ("scores",)


SHAPES = {"image": (2, 3, 16, 16)}
CNN_MACS = 2 * (16 * 16 * 16) * (3 * 3 * 3) + 2 * 16 * 5


def test_compute_is_counted_from_what_runs(graph: Artifact, folder: Path) -> None:
    """The share of integer compute would be of a wrong whole."""
    inspection = ORT.inspect(ORT.compile(work_on(graph, CPU, folder)), CPU, SHAPES)
    assert inspection.macs == pytest.approx(CNN_MACS, rel=1e-6)
    assert inspection.share(Precision.INT8) == 0.0


@pytest.mark.parametrize("method", ["Static", "Dynamic"])
def test_integer_compute_is_told_apart(cnn: Callable[..., Bench], method: str, folder: Path) -> None:
    """INT8 would be claimed where floats are computed."""
    bench = cnn(method=method)
    made = bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, CPU))
    inspection = ORT.inspect(ORT.compile(work_on(made, CPU, folder)), CPU, SHAPES)
    assert inspection.share(Precision.INT8) is not None
    assert inspection.share(Precision.INT8) > 0.95
    assert inspection.facts()["inspected"] is True


def test_what_cannot_be_run_on_zeros_is_not_inspected(tmp_path: Path, folder: Path) -> None:
    """A share nobody measured must not be told."""
    node = helper.make_node("Gather", ["table", "rows"], ["picked"], name="lookup")
    table = helper.make_tensor("table", TensorProto.FLOAT, [2, 2], [0.0, 1.0, 2.0, 3.0])
    model = helper.make_model(
        helper.make_graph(
            [node],
            "lookup",
            [helper.make_tensor_value_info("rows", TensorProto.INT64, ["batch"])],
            [helper.make_tensor_value_info("picked", TensorProto.FLOAT, ["batch", 2])],
            [table],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "model.onnx")
    engine = ORT.compile(work_on(Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("model.onnx",)), CPU, folder))
    assert ORT.inspect(engine, CPU, {}).facts()["inspected"] is False
    assert ORT.inspect(engine, CPU, {"rows": (2,)}).share(Precision.INT8) is None


@pytest.mark.parametrize("method", ["Static", "Dynamic"])
def test_weights_beyond_a_protobufs_limit_lie_beside_the_graph(
    cnn: Callable[..., Bench], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model over 2 GiB could not be written; the limit is lowered so that a small one takes the same way."""
    monkeypatch.setattr("strop_job.backends.graphs.EXTERNAL_FROM_BYTES", 0)
    model = small_cnn()
    rows = np.random.default_rng(5).standard_normal((16, 512)).astype(np.float32)
    next(w for w in model.graph.initializer if w.name == "fc").CopyFrom(numpy_helper.from_array(rows, "fc"))
    next(w for w in model.graph.initializer if w.name == "fb").CopyFrom(numpy_helper.from_array(rows[0], "fb"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 512
    bench = cnn(model, method=method)
    made = bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, CPU))
    assert made.files == ("model.onnx", "model.onnx.data")
    engine = bench.run(compile_stage("compile", "int8", bench.spec, CPU))
    assert engine.files[0] == "engine.onnx"
    np.testing.assert_allclose(run(engine), run(made, optimized=False), rtol=0.05, atol=0.05)


def test_a_layer_that_the_spec_excludes_stays_in_floats(cnn: Callable[..., Bench]) -> None:
    """ONNX Runtime quantizes weights that it finds between integer layers: worse than the quantizer, and unasked."""
    model, random = small_cnn(), np.random.default_rng(3)
    for name in ("w1", "w2"):
        values = 0.2 * random.standard_normal((16, 16, 3, 3)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    later = [
        helper.make_node("Conv", [source, name, "b"], [made], name=name, pads=[1, 1, 1, 1])
        for source, name, made in (("active", "w1", "one"), ("one", "w2", "two"))
    ]
    nodes = [*model.graph.node[:3], *later, *model.graph.node[3:]]
    nodes[5].input[0] = "two"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    bench = cnn(model, method="Static", exclude_nodes=["w1"])
    bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, CPU))
    engine = bench.run(compile_stage("compile", "int8", bench.spec, CPU))
    layers = ORT.inspect(engine, CPU, {"image": (4, 3, 16, 16)}).layers
    assert layers is not None
    assert sorted(layer.number_format.value for layer in layers if layer.macs) == ["fp32", "int8", "int8", "int8"]
