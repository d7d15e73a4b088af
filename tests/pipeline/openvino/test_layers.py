"""What an engine is said to compute with: read from its kernels, counted from its shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper

from strop_api.steps import Precision
from strop_api.targets import Runtime
from strop_job.backends import backend_for

from .conftest import CNN_MACS, CPU, Bench, attention, graph_of, small_cnn, weight

OPENVINO = backend_for(Runtime.OPENVINO)


def inspect(ready: Bench) -> Any:
    return OPENVINO.inspect(ready.compile(ready.made["export"]), CPU, ready.shapes())


def test_compute_is_counted_at_the_shapes_of_the_call(bench: Callable[..., Bench]) -> None:
    """The share of integer compute would be of a wrong whole."""
    found = inspect(bench(small_cnn()))
    assert found.macs == 4 * CNN_MACS
    assert found.macs_by_format == {"fp32": 4 * CNN_MACS}
    assert found.share(Precision.INT8) == 0.0
    assert found.nodes["Convolution"] == 2


def test_products_inside_generated_code_are_found(bench: Callable[..., Bench]) -> None:
    """Attention is fused into one layer; its two products would be missing from the sum."""
    found = inspect(bench(attention()))
    projections, scores = 4 * 2 * 8 * 32 * 32, 2 * 2 * 8 * 8 * 32
    assert found.macs == projections + scores
    assert found.note == ""


def test_quantized_attention_is_not_called_integer_where_it_is_not(bench: Callable[..., Bench]) -> None:
    """One precision stands for a whole fused layer: the product that is excluded there is in floats."""
    ready = bench(attention(), excludeNodes=["mix"])
    found = OPENVINO.inspect(ready.compile(ready.quantize()), CPU, ready.shapes())
    assert found.macs_by_format["fp32"] == 2 * 8 * 8 * 32
    assert found.share(Precision.INT8) > 0.8


@pytest.mark.parametrize(
    ("operator", "kernel", "out", "macs"),
    [
        ("Conv", (8, 3, 3, 3), 8, 256 * 8 * 27),
        ("ConvTranspose", (3, 8, 3, 3), 8, 256 * 3 * 8 * 9),
    ],
)
def test_kinds_of_convolution_are_counted(
    bench: Callable[..., Bench], operator: str, kernel: tuple[int, ...], out: int, macs: int
) -> None:
    """A transposed convolution multiplies once an input value, not once an output value."""
    node = helper.make_node(operator, ["image", "w"], ["made"], name="only", pads=[1, 1, 1, 1])
    model = graph_of([node], {"image": ["batch", 3, 16, 16]}, {"made": ["batch", out, 16, 16]}, [weight("w", *kernel)])
    assert inspect(bench(model)).macs == 4 * macs


def test_a_depthwise_convolution_is_counted_by_group(bench: Callable[..., Bench]) -> None:
    """Counted as a dense one it would weigh as many times more as it has channels."""
    node = helper.make_node("Conv", ["image", "w"], ["made"], name="only", pads=[1, 1, 1, 1], group=3)
    model = graph_of([node], {"image": ["batch", 3, 16, 16]}, {"made": ["batch", 3, 16, 16]}, [weight("w", 3, 1, 3, 3)])
    assert inspect(bench(model)).macs == 4 * 3 * 256 * 9


def test_a_recurrent_layer_is_counted_by_step(bench: Callable[..., Bench]) -> None:
    """Both matrices of all four gates are multiplied once a step; the layer would count as nothing."""
    nodes = [
        helper.make_node("Transpose", ["tokens"], ["steps"], name="turn", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["states"], name="lstm", hidden_size=16),
    ]
    weights = [weight("w", 1, 64, 32), weight("r", 1, 64, 16)]
    model = graph_of(nodes, {"tokens": ["batch", "tokens", 32]}, {"states": ["tokens", 1, "batch", 16]}, weights)
    found = inspect(bench(model))
    assert found.macs == 2 * 8 * (64 * 32 + 64 * 16)
    assert set(found.macs_by_format) == {"fp32"}


def test_products_whose_size_depends_on_the_data_are_not_counted_as_nothing(bench: Callable[..., Bench]) -> None:
    """Half of the model would weigh nothing, and a share of the other half be told as one of all."""
    nodes = [
        helper.make_node("MatMul", ["tokens", "w"], ["known"], name="known"),
        helper.make_node("Exp", ["known"], ["positive"], name="positive"),
        helper.make_node("NonZero", ["positive"], ["places"], name="places"),
        helper.make_node("Cast", ["places"], ["numbers"], name="numbers", to=1),
        helper.make_node("Transpose", ["numbers"], ["rows"], name="rows", perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "v"], ["made"], name="depends"),
    ]
    weights = [weight("w", 32, 32), weight("v", 3, 8)]
    model = graph_of(nodes, {"tokens": ["batch", "tokens", 32]}, {"made": ["places", 8]}, weights)
    found = inspect(bench(model))
    assert found.uncounted == {"MatMul": 1}
    assert found.note == "1 MatMul not counted"
    assert found.macs_by_format == {"fp32": 2 * 8 * 32 * 32}
    assert found.share(Precision.INT8) is None


def test_a_call_that_fails_is_not_inspected(bench: Callable[..., Bench]) -> None:
    """A share nobody measured must not be told."""
    ready = bench(small_cnn())
    engine = ready.compile(ready.made["export"])
    found = OPENVINO.inspect(engine, CPU, {"image": (100, 3, 16, 16)})
    assert found.layers is None
    assert found.note.startswith("not inspected")
    assert OPENVINO.inspect(engine, CPU, {}).share(Precision.INT8) is None


def test_idle_threads_sleep(bench: Callable[..., Bench]) -> None:
    """Sessions that take turns in one process would take the processor from one another."""
    import time

    ready = bench(small_cnn())
    session = OPENVINO.open(ready.made["export"], CPU, threads=2, spinning=False)
    images = np.zeros((9, 3, 16, 16), np.float32)
    for _ in range(20):
        session.run({"image": images})
    end = time.monotonic() + 5.0
    while True:
        before, start = time.process_time(), time.perf_counter()
        deadline = start + 0.05
        while time.perf_counter() < deadline:
            time.sleep(0.01)
        share = (time.process_time() - before) / (time.perf_counter() - start)
        if share < 0.2 or time.monotonic() > end:
            break
    session.close()
    assert share < 0.2
