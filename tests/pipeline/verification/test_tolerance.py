"""How far an engine may be from its own graph, by what the graph computes with and where."""

import math

import pytest

from strop_api.targets import Accelerator, Runtime, Target, TensorRTOptions
from strop_job.verification.parity import (
    FLOAT_TOLERANCE,
    HALF_TOLERANCE,
    INTEGER_TOLERANCE,
    Point,
    nearest_failure,
    rounds_inputs,
    tolerance,
)


def points(*own: float | None) -> list[Point]:
    return [Point({"batch": at + 1}, 0.0, error) for at, error in enumerate(own)]


@pytest.mark.parametrize(
    ("own", "integer", "half", "bound"),
    [
        ((None,), False, False, FLOAT_TOLERANCE),
        ((0.001,), False, True, HALF_TOLERANCE),
        ((0.02, 0.02), False, True, 0.03),
        ((None,), True, False, INTEGER_TOLERANCE),
        ((0.1, math.inf), True, False, 0.075),
        ((1e-9,), True, False, FLOAT_TOLERANCE),
    ],
)
def test_the_bound_follows_what_the_graph_computes_with(own, integer: bool, half: bool, bound: float) -> None:
    """A fixed bound would refuse every BF16 engine, or pass a wrong FP32 one."""
    assert tolerance(points(*own), integer=integer, half=half) == pytest.approx(bound)


def test_tf32_is_allowed_for_where_it_is_used() -> None:
    """Right engines would be refused on every recent GPU, or wrong ones passed on a CPU."""
    gpu = Target(name="t", runtime=Runtime.TENSORRT, accelerator=Accelerator())
    assert rounds_inputs(gpu)
    assert not rounds_inputs(gpu.model_copy(update={"tensorrt": TensorRTOptions(tf32=False)}))
    assert not rounds_inputs(Target(name="c", runtime=Runtime.ONNX_RUNTIME))


def test_the_smallest_failing_size_is_looked_into() -> None:
    """Inner tensors at the largest size may not fit into memory."""
    seen = [Point({"batch": 32}, 0.5, None), Point({"batch": 2}, 0.4, None), Point({"batch": 1}, 0.0, None)]
    found = nearest_failure(seen, 0.1)
    assert found is not None
    assert found.sizes == {"batch": 2}
    assert nearest_failure(seen[2:], 0.1) is None


def test_a_size_without_a_number_is_a_failure() -> None:
    """NaN is beyond no bound by comparison, and would be looked for nowhere."""
    assert nearest_failure([Point({}, math.nan, None)], 0.1) is not None


@pytest.mark.parametrize(
    ("own", "noise", "bound"),
    [(0.1, 0.02, 0.04), (0.1, 1e-6, 0.025), (0.1, 0.2, 0.075), (1e-3, 1e-7, FLOAT_TOLERANCE)],
)
def test_an_integer_graph_may_differ_by_its_rounding_noise_and_no_more(own: float, noise: float, bound: float) -> None:
    """A share of the quantization error alone passes an engine with one wrong layer of forty."""
    seen = [Point({}, 0.0, own, noise)]
    assert tolerance(seen, integer=True, half=False) == pytest.approx(bound)
