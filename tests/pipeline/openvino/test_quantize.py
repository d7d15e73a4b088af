"""Quantizing for OpenVINO: what NNCF is told, what it must have done, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper, numpy_helper

from strop_api.steps import Precision
from strop_api.targets import Runtime
from strop_job.backends import backend_for
from strop_job.backends import openvino_graphs as graphs
from strop_job.errors import InvalidInput, Unsupported
from strop_job.stages import ArtifactKind
from strop_job.steps.quantize.openvino_recipe import Kind, Recipe, recipe_for

from .conftest import CNN_MACS, CPU, Bench, attention, graph_of, small_cnn, weight

OPENVINO = backend_for(Runtime.OPENVINO)


def test_a_cnn_becomes_integer_from_end_to_end(bench: Callable[..., Bench]) -> None:
    """INT8 by name alone: nothing counted, nothing tried, no smaller file."""
    cnn = bench(small_cnn())
    made = cnn.quantize()
    assert made.kind is ArtifactKind.OPENVINO_IR
    assert made.files == ("model.xml", "model.bin")
    assert made.facts["quantized"] == {"Convolution": 2, "MatMul": 1}
    assert made.facts["preset"] == "convolutions"
    assert made.facts["cosine"] > 0.99
    assert made.facts["calibration"]["samples"] == 40
    inspection = OPENVINO.inspect(cnn.compile(made), CPU, cnn.shapes())
    assert inspection.macs == 4 * CNN_MACS
    assert inspection.share(Precision.INT8) > 0.95
    assert inspection.note == ""


def test_attention_gets_the_transformer_preset(bench: Callable[..., Bench]) -> None:
    """Without it a transformer is slower, and loses its meaning."""
    ready = bench(attention())
    made = ready.quantize()
    assert (made.facts["preset"], made.facts["asymmetric"]) == ("transformer", True)
    assert made.facts["quantized"]["MatMul"] >= 4
    assert made.facts["cosine"] > 0.98
    assert any("smooth" in node.get_friendly_name() for node in graphs.operations(graphs.read(made)))


def normalised_cnn() -> object:
    """A product after a division by a root of a sum of squares: normalisation written out."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["c1", "c1"], ["squares"], name="square"),
        helper.make_node("ReduceMean", ["squares", "axes"], ["mean"], name="mean"),
        helper.make_node("Sqrt", ["mean"], ["root"], name="root"),
        helper.make_node("Div", ["c1", "root"], ["normal"], name="divide"),
        helper.make_node("GlobalAveragePool", ["normal"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc", "fb"], ["scores"], name="head"),
    ]
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    weights = [weight("w1", 16, 3, 3, 3), weight("fc", 16, 5), weight("fb", 5), axes]
    return graph_of(nodes, {"image": ["batch", 3, 16, 16]}, {"scores": ["batch", 5]}, weights)


def test_what_is_normalised_at_run_time_keeps_its_arithmetic(bench: Callable[..., Bench]) -> None:
    """Squares and roots in eight bits ruin a model: magika falls to a cosine of .12."""
    ready = bench(normalised_cnn())
    made = ready.quantize()
    assert made.facts["preset"] == "products"
    fed = {
        reader.get_node().get_type_name()
        for node in graphs.operations(graphs.read(made))
        if node.get_type_name() == "FakeQuantize"
        for reader in node.output(0).get_target_inputs()
    }
    assert fed <= {"Convolution", "MatMul", "Reshape", "Squeeze"}


@pytest.mark.parametrize(("activation", "asymmetric"), [("Relu", False), ("HardSwish", True), ("Elu", True)])
def test_a_negative_tail_gets_a_zero_point(bench: Callable[..., Bench], activation: str, asymmetric: bool) -> None:
    """A range that is symmetric about zero wastes half its steps on values that never come."""
    cnn = bench(small_cnn(activation))
    assert recipe_for(graphs.read(cnn.made["export"])) == Recipe(Kind.CONVOLUTIONS, asymmetric)


def test_nodes_are_excluded_by_the_names_of_the_onnx_graph(bench: Callable[..., Bench]) -> None:
    """OpenVINO calls a convolution with a bias otherwise: the pattern would match nothing, in silence."""
    made = bench(small_cnn(), excludeNodes=["stem/c*"]).quantize()
    assert made.facts["quantized"] == {"Convolution": 1, "MatMul": 1}
    assert any(name.startswith("stem/conv") for name in made.facts["excluded"])


def test_only_the_operators_asked_for_are_quantized(bench: Callable[..., Bench]) -> None:
    """`opTypes` are ONNX's: a Gemm is a MatMul here."""
    made = bench(small_cnn(), opTypes=["Gemm"]).quantize()
    assert made.facts["quantized"] == {"MatMul": 1}
    assert made.facts["opTypes"] == ["Gemm"]


@pytest.mark.parametrize(
    ("quantize", "field", "words"),
    [
        ({"excludeNodes": ["nope*"]}, "excludeNodes[0]", "no node is called"),
        ({"opTypes": ["Conv", "LSTM"]}, "opTypes[1]", "no LSTM"),
        ({"excludeNodes": ["*conv", "head/*"]}, None, "nothing was quantized"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(
    bench: Callable[..., Bench], quantize: dict[str, object], field: str | None, words: str
) -> None:
    """A slip in the spec would yield a model that is not quantized as asked."""
    with pytest.raises(InvalidInput, match=words) as caught:
        bench(small_cnn(), **quantize).quantize()
    assert caught.value.field == "spec.steps[0].quantize" + (f".{field}" if field else "")


@pytest.mark.parametrize(
    ("quantize", "field"),
    [
        ({"calibrator": "Entropy"}, "spec.steps[0].quantize.calibrator"),
        ({"precision": "fp16", "method": "Cast", "excludeNodes": ["head/*"]}, "spec.steps[0].quantize.excludeNodes"),
        ({"precision": "int8", "method": "Dynamic"}, "spec.steps[0].quantize"),
    ],
)
def test_what_openvino_has_not_is_refused(bench: Callable[..., Bench], quantize: dict[str, str], field: str) -> None:
    """It would be ignored."""
    with pytest.raises(Unsupported) as caught:
        bench(small_cnn(), **quantize).quantize()
    assert caught.value.field == field


def ranges(made: object) -> dict[str, tuple[float, float]]:
    found = made.facts["calibration"]["ranges"]  # type: ignore[attr-defined]
    return {entry["name"]: (entry["low"], entry["high"]) for entry in found}


def outlier() -> np.ndarray:
    images = np.random.default_rng(1).uniform(-1, 1, (40, 3, 16, 16)).astype(np.float32)
    images[7, 0, 0, 0] = 100.0
    return images


@pytest.mark.parametrize(("calibrator", "reaches"), [("MinMax", True), ("Percentile", False)])
def test_a_calibrator_is_what_its_name_says(bench: Callable[..., Bench], calibrator: str, reaches: bool) -> None:
    """NNCF's default is the mean of the batches' ranges, which is neither."""
    made = bench(small_cnn(), outlier(), calibrator=calibrator, percentile="99").quantize()
    highest = max(high for name, (_, high) in ranges(made).items() if "image" in name)
    assert (highest > 99) is reaches


def test_one_scale_a_tensor_is_coarser_than_one_a_channel(bench: Callable[..., Bench]) -> None:
    """`perChannel` would be decoration."""
    weights = {}
    made = bench(small_cnn(), perChannel=False).quantize()
    for node in graphs.operations(graphs.read(made)):
        if node.get_type_name() == "Multiply" and "fq_weights" in node.get_friendly_name():
            weights[node.get_friendly_name()] = node.input_value(1).get_node().data.size
    assert weights
    assert set(weights.values()) == {1}


def test_four_bits_stay_four_bits_in_the_engine(bench: Callable[..., Bench]) -> None:
    """Weights that are widened as they are loaded save disk alone; and activations are to stay in floats."""
    ready = bench(attention(), precision="int4", method="WeightOnly", groupSize=16)
    made = ready.quantize()
    assert made.facts["quantized"]["i4"] == 3
    assert made.facts["cosine"] > 0.9
    engine = ready.compile(made)
    assert '<DYNAMIC_QUANTIZATION_GROUP_SIZE value="0"' in engine.entry.read_text()
    assert OPENVINO.inspect(engine, CPU, ready.shapes()).share(Precision.INT4) > 0.3


def test_groups_that_do_not_divide_a_weight_name_the_layer(bench: Callable[..., Bench]) -> None:
    """NNCF's own way is to leave such layers as they are, and to call the model int4."""
    with pytest.raises(InvalidInput, match=r"groups of 48 do not divide .*channel size: 32") as caught:
        bench(attention(), precision="int4", method="WeightOnly", groupSize=48).quantize()
    assert caught.value.field == "spec.steps[0].quantize.groupSize"


@pytest.mark.parametrize(("precision", "kind"), [("fp16", "f16"), ("bf16", "bf16")])
def test_a_cast_computes_in_what_the_processor_has_and_says_so(
    bench: Callable[..., Bench], precision: str, kind: str
) -> None:
    """The plugin falls back to fp32 without a word; the engine would be called fp16."""
    ready = bench(small_cnn(), precision=precision, method="Cast")
    made = ready.quantize()
    assert (made.folder / "model.bin").stat().st_size < 0.7 * ready.made["export"].entry.stat().st_size
    engine = ready.compile(made)
    used = engine.facts["inferencePrecision"]
    assert engine.facts["askedPrecision"] == kind
    assert used in (kind, "f32")
    assert "inferencePrecision" not in made.facts, "the record of a cast is taken on other processors too"
    formats = OPENVINO.inspect(engine, CPU, ready.shapes()).macs_by_format
    assert set(formats) == {"fp32" if used == "f32" else precision}


def test_a_weight_beyond_fp16_is_refused(bench: Callable[..., Bench]) -> None:
    """OpenVINO would store it as infinity, or leave it as it is, without a word."""
    model = small_cnn()
    large = numpy_helper.to_array(model.graph.initializer[0]).copy()
    large[0, 0, 0, 0] = 1e6
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(large, "w1"))
    with pytest.raises(InvalidInput, match="1e\\+06, and fp16 ends at 65504"):
        bench(model, precision="fp16", method="Cast").quantize()


def test_a_model_that_yields_nan_on_the_users_data_is_not_blamed_on_quantizing(bench: Callable[..., Bench]) -> None:
    """The user would search in the step."""
    model = small_cnn()
    broken = numpy_helper.to_array(model.graph.initializer[4]).copy()
    broken[0, 0] = np.nan
    model.graph.initializer[4].CopyFrom(numpy_helper.from_array(broken, "fc"))
    with pytest.raises(InvalidInput, match="before this step") as caught:
        bench(model).quantize()
    assert caught.value.field == "spec.model.uri"


def test_progress_is_told_and_nothing_is_printed(
    bench: Callable[..., Bench], capfd: pytest.CaptureFixture[str]
) -> None:
    """NNCF's bars and log would fill the pod's log, and the status would stand still."""
    cnn = bench(small_cnn())
    cnn.quantize()
    shares = [share for share, message in cnn.told if "calibrating" in message]
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert capfd.readouterr() == ("", "")
