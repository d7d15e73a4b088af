"""A session's own part: what it refuses, which profile it takes, what it times, and that it gives everything back.

CUDA and the engine are fakes at the edge (device.py); the same session meets a real GPU in tests/gpu/test_tensorrt.py.
"""

from collections.abc import Callable

import numpy as np
import pytest

from strop_job.backends.base import CallTimes, TimedSession
from strop_job.backends.tensorrt import TensorRTRTXBackend, TensorRTSession
from strop_job.backends.tensorrt.cuda import Cuda, load_cuda
from strop_job.backends.tensorrt.library import Heard
from strop_job.backends.tensorrt.needs import Device
from strop_job.backends.tensorrt.session import signature_of
from strop_job.errors import InvalidInput, OutOfMemory, StropError, Unsupported

from .device import FakeCudart, FakeEngine, W

Open = Callable[..., tuple[TensorRTSession, FakeCudart, FakeEngine]]
NAMES = {"x": ("batch", "")}


@pytest.fixture
def opened(rtx: TensorRTRTXBackend) -> Open:
    def make(memory: int = 1 << 20, data_dependent: bool = False) -> tuple[TensorRTSession, FakeCudart, FakeEngine]:
        cudart = FakeCudart(memory=memory)
        engine = FakeEngine(rtx.library.trt, cudart, data_dependent=data_dependent)
        signature = signature_of(rtx.library.trt, engine, NAMES)
        return TensorRTSession(engine, signature, Cuda(cudart), Heard(), ()), cudart, engine

    return make


def batch(size: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(size).standard_normal((size, 4)).astype(np.float32)}


def test_answers_are_the_engines_at_every_shape_of_the_range(opened: Open) -> None:
    """Buffers grow with the batch; an answer of the batch before, or cut off, would be wrong in silence."""
    session, _, _ = opened()
    assert session.inputs == {"x": np.dtype(np.float32)}
    assert session.outputs == ("y",)
    for size in (1, 8, 3, 2):
        given = batch(size)
        np.testing.assert_allclose(session.run(given)["y"], given["x"] @ W, rtol=1e-6)


def test_an_answer_stays_when_the_next_call_is_made(opened: Open) -> None:
    """Outputs are copies: page-locked memory is written again by the next call."""
    session, _, _ = opened()
    first = session.run(batch(3))["y"]
    kept = first.copy()
    session.run({"x": np.ones((3, 4), np.float32)})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("size", [0, 9])
def test_a_shape_outside_the_profile_names_dimension_and_range(opened: Open, size: int) -> None:
    """The library's own message names neither the spec's dimension nor what would be served."""
    session, _, _ = opened()
    with pytest.raises(InvalidInput) as error:
        session.run({"x": np.zeros((size, 4), np.float32)})
    assert error.value.message == f"dimension 0 (batch) of input x is {size}, the engine serves 1 to 8"
    assert error.value.field == "spec.model.dimensions"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"x": np.zeros((2, 5), np.float32)}, "dimension 1 of input x is 5, the engine serves 4"),
        ({"x": np.zeros((2, 4, 1), np.float32)}, "input x has 3 dimensions, the engine takes 2"),
        ({"x": np.zeros((2, 4), np.float64)}, "input x is of type float64, the engine takes float32"),
        ({"z": np.zeros((2, 4), np.float32)}, "the engine takes x, not z"),
        ({}, "the engine takes x, not nothing"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(opened: Open, given: dict[str, np.ndarray], told: str) -> None:
    """What is copied to the device is never checked there."""
    session, _, _ = opened()
    with pytest.raises(InvalidInput) as error:
        session.run(given)
    assert error.value.message == told


def test_the_narrowest_profile_that_fits_is_taken(opened: Open) -> None:
    """The profile for the optimum alone would otherwise be carried along for nothing."""
    session, _, engine = opened()
    for size, profile in ((2, 1), (3, 0), (2, 1)):
        session.run(batch(size))
        assert engine.contexts[0].profile == profile


def test_copies_are_timed_apart(opened: Open) -> None:
    """A benchmark that counts copies as compute, or the other way round, misleads: here a copy is 1 ms, compute 5."""
    session, _, _ = opened()
    outputs, took = session.run_timed(batch(3))
    assert took == CallTimes(1000.0, 5000.0, 1000.0)
    np.testing.assert_allclose(outputs["y"], batch(3)["x"] @ W, rtol=1e-6)
    assert isinstance(session, TimedSession), "the benchmark would not ask it"
    session.capture(batch(3))
    assert session.run_timed(batch(3))[1].cuda_graph


def test_a_captured_shape_runs_as_a_graph_on_new_data(opened: Open) -> None:
    """A CUDA graph must compute the inputs of its call, not those that it was recorded with."""
    session, cudart, _ = opened()
    session.capture(batch(3))
    given = {"x": np.full((3, 4), 2, np.float32)}
    np.testing.assert_allclose(session.run(given)["y"], given["x"] @ W, rtol=1e-6)
    assert (cudart.launched, session.captured) == (1, 1)
    session.run(batch(1))
    assert cudart.launched == 1


def test_a_graph_is_forgotten_when_its_memory_moves(opened: Open) -> None:
    """A recorded graph knows addresses; after a larger batch they are another's."""
    session, cudart, _ = opened()
    session.capture(batch(3))
    session.run(batch(8))
    assert session.captured == 0
    given = batch(3)
    np.testing.assert_allclose(session.run(given)["y"], given["x"] @ W, rtol=1e-6)
    assert cudart.launched == 0


def test_everything_is_given_back(opened: Open) -> None:
    """Sessions come and go in one process; what leaks here is missing for the next engine."""
    session, cudart, _ = opened()
    session.capture(batch(3))
    session.close()
    session.close()
    assert cudart.held == {}
    assert cudart.open == set()
    with pytest.raises(ValueError, match="closed"):
        session.run(batch(1))


def test_too_little_device_memory_is_told_as_such(opened: Open) -> None:
    """CUDA's error has a number; a user needs the dimension to lower."""
    session, _, _ = opened(memory=100)
    with pytest.raises(OutOfMemory, match="lower the max"):
        session.run(batch(8))


def test_an_output_whose_shape_depends_on_the_data_is_refused(opened: Open) -> None:
    """Its size is not known before the call; a guess would cut it."""
    session, _, _ = opened(data_dependent=True)
    with pytest.raises(Unsupported, match="output y depends on the data"):
        session.run(batch(1))


def test_the_device_is_named_as_the_runtime_sees_it() -> None:
    """The timing cache and the facts are kept by this name."""
    assert Cuda(FakeCudart()).device() == Device("NVIDIA L4", "8.9")
    assert Cuda(FakeCudart(devices=0)).device() is None


def test_the_real_cuda_runtime_says_that_there_is_no_device() -> None:
    """The real bindings, without a driver: no device, and an error with a name where one is used all the same."""
    cuda = Cuda(load_cuda())
    if cuda.device() is not None:
        pytest.skip("a GPU is visible here")
    with pytest.raises(StropError, match="CUDA failed: cudaError"):
        cuda.allocate(16)
