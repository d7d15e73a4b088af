"""Zeros in weights: counted by compute, and timed against the same graph with its zeros filled."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_job.audit.graph import audit_zeros_stage, examine_onnx
from strop_job.audit.graph.reading import read
from strop_job.audit.graph.timing import ratio
from strop_job.audit.graph.zeros import count, filled, two_of_four, weights_of
from strop_job.audit.graph.zeros_judged import judged
from strop_job.judgement.statistics import Interval

Model = onnx.ModelProto


def mlp(prune: Callable[[np.ndarray], None], width: int = 512) -> Model:
    """Two products of [batch, 512] with [512, 512]."""
    random = np.random.default_rng(0)
    weights = [random.standard_normal((width, width)).astype(np.float32) for _ in range(2)]
    for weight in weights:
        prune(weight)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w1"], ["y"], name="second"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(weight, f"w{at}") for at, weight in enumerate(weights)]
    graph = helper.make_graph(nodes, "mlp", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def at_random(weight: np.ndarray) -> None:
    weight[np.random.default_rng(1).random(weight.shape) < 0.9] = 0


def by_pattern(weight: np.ndarray) -> None:
    rows = weight.reshape(-1, 4, weight.shape[1])
    np.put_along_axis(rows, np.abs(rows).argsort(axis=1)[:, :2], 0, axis=1)


def by_channel(weight: np.ndarray) -> None:
    weight[:, ::2] = 0


@pytest.mark.parametrize(
    ("prune", "expected", "share", "pattern"),
    [
        (at_random, {"zeros-buy-nothing"}, 0.9, 0.996),
        (by_pattern, {"zeros-buy-nothing"}, 0.5, 1.0),
        (by_channel, {"zeros-buy-nothing", "zero-channels"}, 0.5, 0.5),
    ],
)
def test_zeros_that_save_no_time_on_a_cpu_are_found(
    tmp_path: Any, prune: Any, expected: set[str], share: float, pattern: float
) -> None:
    """Pruning that never paid would be taken for an optimization."""
    model = mlp(prune)
    counted = count(weights_of(read(model), {}))
    assert counted is not None
    assert counted.share == pytest.approx(share, abs=0.01)
    assert counted.two_of_four == pytest.approx(pattern, abs=0.02)
    onnx.save(model, tmp_path / "pruned.onnx")
    found = examine_onnx(tmp_path / "pruned.onnx")
    assert {one.check for one in found} == expected
    assert any("filled [" in one.message for one in found)


def test_a_dense_model_is_not_timed_and_nothing_is_said(tmp_path: Any) -> None:
    """Measuring costs time that honest models should not pay."""
    onnx.save(mlp(lambda weight: None), tmp_path / "dense.onnx")
    assert examine_onnx(tmp_path / "dense.onnx") == []


def test_zeros_of_quantized_weights_are_those_at_the_zero_point(
    make_chain: Callable[..., Model], quantized: Callable[..., Model]
) -> None:
    """A pruned model keeps its zeros when it is quantized, though no byte of an asymmetric weight need be zero."""
    model = make_chain("cc")
    for weight in model.graph.initializer:
        values = np.array(numpy_helper.to_array(weight))
        values[:, ::2] = 0
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    counted = count(weights_of(read(quantized(model, per_channel=True)), {}))
    assert counted is not None
    assert counted.share == pytest.approx(0.5, abs=0.05)


def test_filling_changes_zeros_only(make_chain: Callable[..., Model]) -> None:
    """The comparison must be of the same graph, dense."""
    model = mlp(by_pattern)
    dense = filled(model, ("w0", "w1"), seed=0)
    before, after = (numpy_helper.to_array(m.graph.initializer[0]) for m in (model, dense))
    assert (after != 0).all()
    assert np.array_equal(after[before != 0], before[before != 0])


def test_the_pattern_needs_two_zeros_in_each_group_of_four() -> None:
    """One group that misses it makes a layer dense for the hardware."""
    is_zero = np.zeros((2, 8, 1), bool)
    is_zero[:, :2] = True
    assert two_of_four(is_zero) == 0.5
    assert two_of_four(np.ones((2, 6, 1), bool)) == 0.0


@pytest.mark.parametrize(
    ("interval", "severity", "words"),
    [
        (Interval(1.0, 0.98, 1.02), "Medium", "buy nothing"),
        (Interval(1.6, 1.5, 1.7), "Low", "buy time: 1.60x"),
        (Interval(1.1, 0.9, 1.4), "Low", "too noisy"),
        (None, "Low", "was not measured: no device"),
    ],
)
def test_what_is_said_is_what_was_measured(interval: Interval | None, severity: str, words: str) -> None:
    """Zeros that do pay must not be called useless, and noise is no answer."""
    counted = count(weights_of(read(mlp(by_pattern)), {}))
    assert counted is not None
    found = judged(counted, interval, "no device", None)
    assert [one.severity.value for one in found] == [severity]
    assert words in found[0].message


def test_the_mend_fits_the_target(spec_with: Any) -> None:
    """2:4 is for Ampere and later with sparseWeights; a CPU wants whole channels removed."""
    from strop_api.targets import Target

    pattern, scattered = (count(weights_of(read(mlp(prune)), {})) for prune in (by_pattern, at_random))
    assert pattern is not None
    assert scattered is not None
    nothing = Interval(1.0, 0.98, 1.02)
    gpu = Target.model_validate({"name": "l4", "runtime": "TensorRT", "accelerator": {}})
    cpu = Target.model_validate({"name": "cpu", "runtime": "OpenVINO"})
    assert "set sparseWeights" in judged(pattern, nothing, "", gpu)[0].mend
    assert "whole channels" in judged(scattered, nothing, "", cpu)[0].mend
    assert all(
        len(judged(zeros, nothing, "", target)[0].mend) <= 160
        for zeros in (pattern, scattered)
        for target in (gpu, cpu, None)
    )


def test_the_stage_measures_on_the_target_and_keeps_the_figure(
    graph_artifact: Any, run_stage: Any, spec_with: Any
) -> None:
    """The report shows what was measured, from the record."""
    spec = spec_with()
    spec["model"]["inputs"] = [{"name": "x", "dtype": "float32", "shape": ["batch", 512]}]
    made = run_stage(lambda s: audit_zeros_stage(s, s.targets[0]), spec, export=graph_artifact(mlp(at_random)))
    zeros = made.facts["zeros"]
    assert zeros["share"] == pytest.approx(0.9, abs=0.01)
    assert 0 < zeros["speedup"]["low"] <= zeros["speedup"]["ratio"] <= zeros["speedup"]["high"]
    assert [one["check"] for one in made.facts["findings"]] == ["zeros-buy-nothing"]


def test_a_side_that_does_twice_the_work_is_found_to_be_slower() -> None:
    """The clock must tell what a user would feel."""
    found = ratio(lambda: sum(range(200_000)), lambda: sum(range(50_000)), seed=0, rounds=8)
    assert found.low > 1.5
