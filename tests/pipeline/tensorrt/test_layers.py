"""An engine's layers as TensorRT's inspector tells them: formats, compute, and what is not told.

The descriptions have the keys and the wording of NVIDIA's documents: "Engine Inspector" (docs.nvidia.com, TensorRT,
Engine Tools and Debugging) for a convolution, "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x" for
`I/O Tensors`, and NVIDIA/TensorRT's engine explorer for `Metadata`. No GPU has written them.
"""

import json
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from strop_api.steps import Precision
from strop_job.backends import Inspection, NumberFormat
from strop_job.backends.tensorrt.compute import node_compute
from strop_job.backends.tensorrt.layers import format_named, layers_of
from strop_job.backends.tensorrt.weights import is_sparse, sparse_nodes
from strop_job.errors import StropError

from .conftest import (
    CHANNELS,
    CLASSES,
    FILTERS,
    FP8,
    HIDDEN,
    INT8,
    SIDE,
    WIDTH,
    Work,
    cnn,
    encoder,
    narrowed,
    weights,
)  # fmt: skip

INT8_WORDS = "Thirty-two wide channel vectorized row major Int8 format"
FP32_WORDS = "Row major linear FP32 format (kLINEAR)"
TENSORS = [{"Name": "input_0", "IOMode": "Input", "DataType": "Float", "Dimensions": [16, 512, 28, 28]}]


def operand(words: str, key: str = "Format/Datatype") -> dict[str, Any]:
    return {"Name": "t", "Dimensions": [16, 512, 28, 28], key: words}


def layer(kind: str, *inputs: str, name: str = "layer", nodes: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    metadata = "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes)
    operands = [operand(words) for words in inputs]
    return {"Name": name, "LayerType": kind, "Inputs": operands, "Outputs": [], "Metadata": metadata, **more}


def told(*layers: Any, macs: dict[str, int] | None = None) -> Any:
    return layers_of(json.dumps({"Layers": layers, "I/O Tensors": TENSORS}), macs or {})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (INT8_WORDS, NumberFormat.INT8),
        (FP32_WORDS, NumberFormat.FP32),
        ("Channel major FP16 format where channel % 4 == 0", NumberFormat.FP16),
        ("Half", NumberFormat.FP16),
        ("Float", NumberFormat.FP32),
        ("BFloat16", NumberFormat.BF16),
        ("FP8", NumberFormat.FP8),
        ("Row major linear Int32 format", NumberFormat.UNKNOWN),
    ],
)
def test_formats_are_read_from_words(words: str, expected: NumberFormat) -> None:
    """Sentences and types are both in use; a word that is not understood must be unknown, not fp32."""
    assert format_named(words) is expected


def test_a_fused_int8_convolution_counts_as_int8() -> None:
    """The documented case: convolution, batch normalization and activation in one layer, by the nodes' names."""
    seen = told(
        layer("CaskConvolution", INT8_WORDS, name="conv + relu", Weights={"Type": "Int8", "Count": 131072}),
        layer("Reformat", FP32_WORDS, name="Reformatting CopyNode"),
        macs={"conv": 1000},
    )
    assert [(one.number_format, one.macs) for one in seen.layers] == [(NumberFormat.INT8, 1000), (NumberFormat.FP32, 0)]
    assert seen.note == ""


def test_an_int8_engine_that_runs_in_fp32_is_found_out() -> None:
    """The gate on realised precision exists for this: the graph says INT8, the engine computes FP32."""
    seen = told(
        layer("gemm", "Int8", "Int8", nodes=("up",)),
        layer("gemm", FP32_WORDS, FP32_WORDS, nodes=("down", "down_dq")),
        macs={"up": 100, "down": 900},
    )
    assert Inspection({}, seen.layers).share(Precision.INT8) == pytest.approx(0.1)


def test_integer_weights_with_float_activations_are_no_integer_compute() -> None:
    """Weight-only quantization saves memory, not arithmetic; calling it INT8 would pass the gate wrongly."""
    assert told(layer("gemm", "Half", "Int8")).layers[0].number_format is NumberFormat.FP16
    mixed = layer("CaskConvolution", "Half", Weights={"Type": "Int8", "Count": 9})
    assert told(mixed).layers[0].number_format is NumberFormat.FP16
    assert told(layer("gemm", "Half", "Int4")).layers[0].number_format is NumberFormat.INT4


def test_a_type_that_stands_apart_from_the_format_is_read() -> None:
    """Release 11 splits the key; the format's own words then speak of the layout."""
    split = layer("gemm")
    split["Inputs"] = [{"Name": "x", "Format": FP32_WORDS, "DataType": "Half"}] * 2
    assert told(split).layers[0].number_format is NumberFormat.FP16


def test_a_fused_layer_does_not_claim_integers() -> None:
    """A generated kernel that reads int8 may widen it before it multiplies: that is not known, so not claimed."""
    seen = told(layer("kgen", "Int8", nodes=("up",)), macs={"up": 100})
    assert seen.layers[0].number_format is NumberFormat.UNKNOWN
    assert "100% are in fused layers" in seen.note


def test_a_node_is_counted_once_and_where_it_is_multiplied() -> None:
    """A node's name stands in several layers; counting each would make shares of more than the whole."""
    seen = told(layer("kgen", "Half", nodes=("up", "relu")), layer("gemm", "Half", nodes=("up",)), macs={"up": 100})
    assert [one.macs for one in seen.layers] == [0, 100]


def test_compute_that_no_layer_names_is_said() -> None:
    """Otherwise the share would be of the part that was found."""
    seen = told(layer("gemm", "Half", nodes=("up",)), macs={"up": 100, "down": 300})
    assert "75% of the multiply-accumulates belong to nodes that no layer names" in seen.note
    assert Inspection({}, seen.layers, uncounted=seen.uncounted).share(Precision.FP16) is None


@pytest.mark.parametrize("text", ["no json", "{}", '{"Layers": ["conv + relu"]}'])
def test_what_tells_no_layers_is_refused(text: str) -> None:
    """Names alone (an engine built with less verbosity) must read as not inspected."""
    with pytest.raises(StropError):
        layers_of(text, {})


@pytest.mark.parametrize("draw", [{}, {"quantized": INT8}, {"quantized": FP8}], ids=["fp32", "int8", "fp8"])
def test_compute_is_counted_at_the_given_shapes(work: Work, draw: dict[str, Any]) -> None:
    """Through Q/DQ pairs as well: the weights' shapes stand behind them."""
    seen = node_compute(work(cnn(**draw)).graph, {"image": (3, CHANNELS, SIDE, SIDE)})
    convolution = 3 * FILTERS * SIDE * SIDE * CHANNELS * 9
    assert seen.macs == {"conv": convolution, "classify": 3 * FILTERS * CLASSES}
    assert seen.note == ""


def test_compute_is_counted_in_bf16(work: Work) -> None:
    """ONNX Runtime has no such kernels on a CPU; the same products are counted in fp32."""
    seen = node_compute(work(narrowed(encoder(), TensorProto.BFLOAT16)).graph, {"x": (2, 3, WIDTH)})
    assert seen.macs == {"up": 6 * WIDTH * HIDDEN, "down": 6 * WIDTH * HIDDEN}


def test_compute_that_cannot_be_counted_is_said(work: Work) -> None:
    """No figure is better than one over the part that could be counted."""
    seen = node_compute(work(encoder()).graph, {"x": (2, 3, WIDTH + 1)})
    assert seen.macs == {}
    assert seen.note


def test_only_two_zeros_in_every_four_are_sparse() -> None:
    """As many zeros in other places do not count: the hardware skips two of every four."""
    rows = weights(HIDDEN, WIDTH)
    rows[:, ::2] = 0
    assert is_sparse(rows)
    rows[0, :4] = (0, 1, 1, 1)
    assert not is_sparse(rows)
    assert not is_sparse(weights(8, 6) * 0)


def test_sparsity_is_found_behind_quantized_weights() -> None:
    """A pruned and quantized model keeps its zeros; they lie in the int8 weight before the DequantizeLinear."""
    model = encoder(quantized=INT8)
    for at, weight in enumerate(model.graph.initializer):
        if weight.name in ("w1", "w2"):
            values = onnx.numpy_helper.to_array(weight).copy()
            values[::4], values[2::4] = 0, 0
            model.graph.initializer[at].CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    assert sparse_nodes(model) == (2, 2)
    assert sparse_nodes(encoder(quantized=INT8)) == (0, 2)
