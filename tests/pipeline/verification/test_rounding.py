"""Rounding noise is measured on copies that mean the same; engines of other graphs lie beyond it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.compile import compile_stage
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.verify import verify_stage
from strop_job.verification.rounding import SHARE, shake, shaker_of

from .conftest import LAYERS, Bench

INT8 = [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}]
ORT = [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 1}}]
OPENVINO = [{"name": "cpu", "runtime": "OpenVINO", "cpu": {"threads": 1}}]


def ready(bench: Bench) -> Bench:
    target = bench.spec.targets[0]
    bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, target))
    bench.run(compile_stage("compile", "int8", bench.spec, target))
    bench.run(compile_stage("compile-original", "export", bench.spec, target))
    return bench


def one_column(model: onnx.ModelProto, layer: int) -> onnx.ModelProto:
    """One of 32 columns of one stored weight with the other sign."""
    weight = next(w for w in model.graph.initializer if w.name.startswith(f"w{layer}_q"))
    values = numpy_helper.to_array(weight).copy()
    values[:, 5] = -values[:, 5]
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model


@pytest.mark.parametrize("layer", [0, 17, LAYERS - 1])
def test_one_wrong_column_in_forty_layers_is_beyond_the_noise(make_bench, layer: int) -> None:
    """Its error, .06 in the last layer, is within three quarters of the quantization's own."""
    bench = ready(make_bench(steps=INT8, targets=ORT))
    target = bench.spec.targets[0]
    right = bench.run(verify_stage(bench.spec, target, "int8")).facts["parity"]
    assert right["passed"] is True
    bench.save("planted", one_column(onnx.load(bench.made["int8"].entry), layer))
    wrong = bench.run(compile_stage("compile", "planted", bench.spec, target))
    found = bench.run(verify_stage(bench.spec, target, "int8"), compile=wrong).facts["parity"]
    assert found["passed"] is False
    assert found["worst"] > found["tolerance"] == pytest.approx(right["tolerance"])
    assert all(point["roundingNoise"] > 0 for point in found["shapes"])


@pytest.mark.parametrize("targets", [ORT, OPENVINO])
def test_a_right_engine_is_within_its_noise(make_bench, targets) -> None:
    """A bound below what rounding does refuses right engines."""
    bench = ready(make_bench(steps=INT8, targets=targets))
    facts = bench.run(verify_stage(bench.spec, bench.spec.targets[0], "int8")).facts["parity"]
    assert facts["passed"] is True
    assert all(point["roundingNoise"] is not None for point in facts["shapes"])


def test_last_bits_change_and_nothing_else() -> None:
    """A copy that means something else would be called noise, and a wrong engine pass."""
    lowest = np.finfo(np.float32).min
    values = np.array([0.0, -1.0, 3.0, lowest], np.float32)
    moved = shake(values, seed=1)
    assert moved.dtype == np.float32
    assert moved[0] == 0
    assert np.isfinite(moved).all()
    assert (np.abs(moved[1:] / values[1:] - 1) <= SHARE * 1.1).all()
    assert (moved[1:] != values[1:]).all()
    assert shake(np.array(2.0, np.float32), 0).shape == ()


def test_what_must_be_exact_is_left_alone(tmp_path: Path) -> None:
    """A negative number to the power of 1.999999 is no number, and a size that is moved is another size."""
    constants = {"exponent": np.array(2.0, np.float32), "edges": np.array([1.0, 2.0], np.float32)}
    constants["weight"] = np.array([3.0, 5.0], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Pow", ["x", "exponent"], ["squared"]),
            helper.make_node("Less", ["squared", "edges"], ["small"]),
            helper.make_node("Where", ["small", "squared", "edges"], ["bounded"]),
            helper.make_node("Mul", ["bounded", "weight"], ["y"]),
        ],
        "exact",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    (tmp_path / "copy").mkdir()
    made = shaker_of(given := Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("model.onnx",)))
    assert made is not None
    moved = onnx.load(made(given, 0, tmp_path / "copy").entry).graph.initializer
    kept = {w.name for w in moved if np.array_equal(numpy_helper.to_array(w), constants[w.name])}
    assert kept == {"exponent", "edges"}
