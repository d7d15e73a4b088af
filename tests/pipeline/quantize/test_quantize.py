"""The quantize step on real models: what it makes, what it refuses, and what it says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_job.errors import InvalidInput, StropError, Unsupported
from strop_job.stages import Artifact, ArtifactKind, Stage
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.quantize.onnx_graph.checks import integer_nodes, prove

from .conftest import Bench, small_cnn

Maker = Callable[..., Bench]
CONV_MATMUL = {"op_types": ["Conv", "MatMul"], "per_channel": False}


def stage_of(bench: Bench) -> Stage:
    return quantize_stage(bench.spec.steps[0], "export", bench.spec, bench.spec.targets[0])


def quantized(bench: Bench) -> Artifact:
    return bench.run(stage_of(bench))


def element_types(model: onnx.ModelProto) -> set[int]:
    """Types of the zero points of every QuantizeLinear."""
    constants = {w.name: w for w in model.graph.initializer}
    points = [n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    return {constants[name].data_type for name in points}


def replace_weight(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    next(w for w in model.graph.initializer if w.name == name).CopyFrom(numpy_helper.from_array(values, name))


def agreement(before: Path, after: Path, feed: str, samples: np.ndarray) -> float:
    answers = []
    for path in (before, after):
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        rows = [samples[i : i + 32] for i in range(0, len(samples), 32)]
        answers.append(np.concatenate([session.run(None, {feed: r})[0].argmax(axis=1) for r in rows]))
    return float((answers[0] == answers[1]).mean())


def test_static_magika_answers_as_the_original_does(
    magika: Maker, magika_model: Path, magika_bytes: np.ndarray
) -> None:
    """Calibration or the placing of Q/DQ pairs is broken when the right recipe no longer keeps the answers."""
    made = quantized(magika(method="Static", **CONV_MATMUL))
    assert made.facts["quantized"]["Conv"] == 1
    assert made.facts["quantized"]["MatMul"] == 2
    assert agreement(magika_model, made.entry, "bytes", magika_bytes[64:]) >= 0.97


def test_the_naive_dynamic_recipe_is_made_as_asked(magika: Maker) -> None:
    """The step judges no speed: a slow result is the gate's to refuse, not the quantizer's."""
    made = quantized(magika(method="Dynamic"))
    assert made.facts["quantized"] == {"Conv": 1, "MatMul": 2}
    assert made.facts["cosine"] > 0.9


@pytest.mark.parametrize("per_channel", [True, False])
def test_scales_are_per_channel_exactly_when_asked(cnn: Maker, per_channel: bool) -> None:
    """`perChannel` would be decoration."""
    made = quantized(cnn(per_channel=per_channel))
    assert (made.facts["scales"]["perChannel"] > 0) is per_channel


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"cpu": {"arch": "amd64"}}, TensorProto.UINT8),
        ({"cpu": {"arch": "arm64"}}, TensorProto.INT8),
    ],
)
def test_activation_types_follow_from_the_target(cnn: Maker, target: dict[str, object], expected: int) -> None:
    """A graph quantized for another processor is slow there, with nothing to see."""
    made = quantized(cnn(target=target))
    assert element_types(onnx.load(made.entry)) == {expected}


def test_a_graph_for_an_accelerator_keeps_its_bias_in_floating_point(cnn: Maker) -> None:
    """Accelerators' parsers refuse an int32 bias; such a graph is made, and proved, where there is no device."""
    bench = cnn(target={"accelerator": {"product": "NVIDIA-L4"}})
    stage = stage_of(bench)
    assert stage.parameters["format"] == "S8S8"
    assert stage.parameters["floatBias"] is True
    model = onnx.load(bench.run(stage).entry)
    assert element_types(model) == {TensorProto.INT8}
    assert not any(w.data_type == TensorProto.INT32 for w in model.graph.initializer)


def test_excluded_nodes_stay_in_high_precision(magika: Maker) -> None:
    """A layer that the user keeps out would be quantized all the same."""
    made = quantized(magika(method="Static", exclude_nodes=["*Conv_0/Conv2D"], **CONV_MATMUL))
    assert "Conv" not in made.facts["quantized"]
    assert made.facts["quantized"]["MatMul"] == 2
    assert made.facts["excluded"] == ["jax2tf_get_logits_/pjit_get_logits_/MagikaV2/Conv_0/Conv2D"]


def test_a_node_fused_into_another_is_still_found_by_its_name(cnn: Maker) -> None:
    """The user sees the exported graph; names that folding took away must still mean something."""
    made = quantized(cnn(exclude_nodes=["stem/norm"]))
    assert "Conv" not in made.facts["quantized"]
    assert "Gemm" in made.facts["quantized"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"exclude_nodes": ["stem/*", "no/such/*"]}, "spec.steps[0].quantize.excludeNodes[1]"),
        ({"op_types": ["Gemm", "LSTM"]}, "spec.steps[0].quantize.opTypes[1]"),
        ({"op_types": ["Conv", "ConvTranspose"]}, "spec.steps[0].quantize.opTypes[1]"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(cnn: Maker, asked: dict[str, list[str]], field: str) -> None:
    """A typing error would silently quantize what was to be kept, or keep what was to be quantized."""
    with pytest.raises(InvalidInput) as caught:
        quantized(cnn(**asked))
    assert caught.value.field == field
    assert caught.value.mend


def test_quantizing_nothing_is_an_error(cnn: Maker) -> None:
    """A file with no integer node would be published as INT8."""
    with pytest.raises(InvalidInput, match="nothing was quantized") as caught:
        quantized(cnn(exclude_nodes=["stem/conv", "head/fc"]))
    assert caught.value.field == "spec.steps[0].quantize"


def test_a_graph_without_constant_weights_cannot_be_quantized_dynamically(cnn: Maker) -> None:
    """Only products with a constant become integer ones; a graph without any must say so."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "image"], ["scores"], name="square")],
        "square",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3, 16, 16])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(InvalidInput, match="nothing was quantized"):
        quantized(cnn(model, method="Dynamic"))


def test_half_precision_loads_and_is_close(cnn: Maker) -> None:
    """The cast broke inputs, outputs or values."""
    made = quantized(cnn(precision="fp16", method="Cast"))
    model = onnx.load(made.entry)
    assert {w.data_type for w in model.graph.initializer if len(w.dims) > 1} == {TensorProto.FLOAT16}
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert made.facts["cosine"] > 0.9999


def test_half_precision_of_magika_overflows_in_one_norm_and_is_close_without_it(magika: Maker) -> None:
    """The norm sums to 129,260, which fp16 does not hold: ONNX Runtime's CPU hides that, and a device does not."""
    cast = {"precision": "fp16", "method": "Cast"}
    assert quantized(magika(**cast)).facts["cosine"] < 0.5
    assert quantized(magika(exclude_nodes=["*LayerNorm_1*"], **cast)).facts["cosine"] > 0.999


def test_a_weight_beyond_half_precision_is_named(cnn: Maker) -> None:
    """The converter clamps it without a word, and the model is another one."""
    model = small_cnn()
    replace_weight(model, "fc", np.full((16, 5), 7e4, np.float32))
    for name in ("gamma", "beta"):
        replace_weight(model, name, np.full(16, 1e-3, np.float32))
    with pytest.raises(InvalidInput, match=r"`fc` of `head/fc` holds 7e\+04") as caught:
        quantized(cnn(model, precision="fp16", method="Cast"))
    assert caught.value.field == "spec.steps[0].quantize"
    assert quantized(cnn(model, precision="fp16", method="Cast", exclude_nodes=["head/fc"]))


def test_nan_after_the_step_is_an_error(cnn: Maker, tmp_path: Path) -> None:
    """A model that yields NaN would be compiled, measured and found fast."""
    bench = cnn()
    model = small_cnn()
    replace_weight(model, "fb", np.full(5, np.nan, np.float32))
    onnx.save(model, tmp_path / "broken.onnx")
    broken = Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("broken.onnx",))
    batch = {"image": np.ones((2, 3, 16, 16), np.float32)}
    with pytest.raises(InvalidInput, match="NaN or infinity after this step"):
        prove(broken, bench.made["export"], batch, 0, real=True)
    with pytest.raises(InvalidInput, match="before this step"):
        prove(bench.made["export"], broken, batch, 0, real=True)


def test_nan_in_calibration_data_names_the_sample(cnn: Maker) -> None:
    """A NaN poisons every range, and the graph becomes constant."""
    images = np.zeros((20, 3, 16, 16), np.float32)
    images[13, 0, 0, 0] = np.nan
    with pytest.raises(InvalidInput, match="sample 13") as caught:
        quantized(cnn(images=images))
    assert caught.value.field == "spec.data.calibration.uri"


def test_an_overflow_inside_the_model_names_the_tensor(cnn: Maker) -> None:
    """Finite data can still overflow inside; the range of that tensor would be infinite."""
    images = np.full((20, 3, 16, 16), 3e38, np.float32)
    with pytest.raises(InvalidInput, match="holds NaN or infinity") as caught:
        quantized(cnn(images=images))
    assert caught.value.field == "spec.data.calibration.uri"


def test_a_file_that_is_no_onnx_is_refused(cnn: Maker, tmp_path: Path) -> None:
    """A truncated upload must end with words, not with a protobuf traceback."""
    bench = cnn()
    whole = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match=r"model\.onnx") as caught:
        quantized(bench)
    assert caught.value.field == "spec.model.uri"


def test_a_result_of_another_shape_is_not_handed_on(cnn: Maker, tmp_path: Path) -> None:
    """A quantizer that changed the interface would break every client of the model."""
    bench = cnn()
    model = small_cnn()
    model.graph.node[-1].attribute.append(helper.make_attribute("transB", 1))
    model.graph.initializer[6].CopyFrom(numpy_helper.from_array(np.zeros((7, 16), np.float32), "fc"))
    model.graph.initializer[7].CopyFrom(numpy_helper.from_array(np.zeros(7, np.float32), "fb"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    onnx.save(model, tmp_path / "other.onnx")
    other = Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("other.onnx",))
    batch = {"image": np.zeros((2, 3, 16, 16), np.float32)}
    with pytest.raises(StropError, match="scores"):
        prove(other, bench.made["export"], batch, 0, real=True)


def test_dynamic_quantization_on_an_accelerator_is_refused(cnn: Maker) -> None:
    """The runtime would run it on the CPU without a word."""
    with pytest.raises(Unsupported) as caught:
        quantized(cnn(method="Dynamic", target={"accelerator": {"product": "NVIDIA-L4"}}))
    assert caught.value.field == "spec.steps[0].quantize.method"


def test_ranges_are_told_tensor_by_tensor(cnn: Maker) -> None:
    """The report could not show what was clipped."""
    made = quantized(cnn(calibrator="Percentile", percentile="90"))
    tensors = made.facts["calibration"]["tensors"]
    assert {t["name"] for t in tensors} >= {"image", "scores"}
    image = next(t for t in tensors if t["name"] == "image")
    assert image["minimum"] < image["low"] < 0 < image["high"] < image["maximum"]
    assert image["clippedShare"] == pytest.approx(0.1, abs=0.01)
    assert made.facts["calibration"]["samples"] == 40


def test_progress_grows_and_names_the_sample(cnn: Maker) -> None:
    """A user could not tell a long calibration from a hang."""
    bench = cnn()
    quantized(bench)
    shares = [share for share, _ in bench.told]
    assert shares == sorted(shares)
    assert any("sample 40 of 40" in message for _, message in bench.told)


def test_the_same_graph_and_data_give_the_same_bytes(cnn: Maker) -> None:
    """Records would never be found again, and a re-run would publish other bytes."""
    bench = cnn()
    first, second = quantized(bench), quantized(bench)
    assert first.folder != second.folder
    assert first.entry.read_bytes() == second.entry.read_bytes()


def test_integer_nodes_of_a_float_graph_are_none() -> None:
    """The count would let an unquantized file pass."""
    assert not integer_nodes(small_cnn())
