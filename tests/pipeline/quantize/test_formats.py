"""Number formats beside plain INT8: what the target decides, what is written, and that its runtime takes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.steps import QuantizeStep
from strop_api.support import IntegerFormat
from strop_api.targets import Runtime, Target
from strop_job.backends import backend_for
from strop_job.backends.graphs import sort_nodes
from strop_job.backends.reference import open_reference
from strop_job.errors import InvalidInput, Unsupported
from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.quantize.onnx_graph import four_bits, fp8
from strop_job.steps.quantize.onnx_graph.bfloat import bears_bfloat, to_bfloat
from strop_job.steps.quantize.onnx_graph.forms import decisive, form_of, weights_of_seven_bits
from strop_job.steps.quantize.onnx_graph.opsets import raised

from .conftest import RTX, Bench, small_cnn

Maker = Callable[..., Bench]
FP8: dict[str, Any] = {"precision": "fp8", "method": "Static"}
BF16: dict[str, Any] = {"precision": "bf16", "method": "Cast"}
FP16: dict[str, Any] = {"precision": "fp16", "method": "Cast"}
INT4: dict[str, Any] = {"precision": "int4", "method": "WeightOnly", "group_size": 16}
INT8 = QuantizeStep(precision="int8", method="Static")
DYNAMIC = QuantizeStep(precision="int8", method="Dynamic")


def quantized(bench: Bench) -> Artifact:
    return bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, bench.spec.targets[0]))


def target(**fields: Any) -> Target:
    return Target.model_validate({"name": "t", "runtime": "ONNXRuntime", **fields})


def weights(artifact: Artifact) -> dict[str, np.ndarray]:
    return {w.name: numpy_helper.to_array(w) for w in onnx.load(artifact.entry).graph.initializer}


def stored_types(artifact: Artifact) -> set[int]:
    return {w.data_type for w in onnx.load(artifact.entry).graph.initializer}


def rtx_takes(artifact: Artifact) -> bool:
    """Whether TensorRT-RTX parses the graph and builds a plan for it, ahead of time; its words are the failure's."""
    trt = pytest.importorskip("tensorrt_rtx", reason="the extra `rtx` is not installed")
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(str(artifact.entry)), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 16, 16), (4, 3, 16, 16), (9, 3, 16, 16))
    assert config.add_optimization_profile(profile) >= 0
    return builder.build_serialized_network(network, config) is not None


# --- what the target decides ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"cpu": {"arch": "amd64"}}, IntegerFormat.U8S8),
        ({"cpu": {"arch": "arm64"}}, IntegerFormat.S8S8),
        ({"accelerator": {}}, IntegerFormat.S8S8),
        (RTX, IntegerFormat.S8S8),
        ({"runtime": "TensorRT", "accelerator": {}}, IntegerFormat.S8S8),
    ],
)
def test_the_target_decides_the_integer_types(fields: dict[str, Any], form: IntegerFormat) -> None:
    """Signed activations lose all gain on x86, and unsigned ones are refused by TensorRT."""
    assert form_of(INT8, target(**fields)) is form


@pytest.mark.parametrize(
    ("fields", "reduced"),
    [
        ({"cpu": {"isa": "avx2"}}, True),
        ({"cpu": {"isa": "avx512f"}}, True),
        ({"cpu": {"isa": "avx512_vnni"}}, False),
        ({"cpu": {"isa": "avx_vnni"}}, False),
        ({"cpu": {"arch": "arm64", "isa": "asimd"}}, False),
        ({"accelerator": {}}, False),
        (RTX, False),
    ],
)
def test_weights_keep_to_seven_bits_exactly_where_sums_would_saturate(fields: dict[str, Any], reduced: bool) -> None:
    """Without VNNI two products of 8 bits do not fit 16: a model that is right here would be wrong there."""
    assert weights_of_seven_bits(INT8, target(**fields)) is reduced


@pytest.mark.parametrize("method", ["Static", "Dynamic"])
@pytest.mark.parametrize(("isa", "largest"), [("avx2", 64), ("avx512_vnni", 128)])
def test_a_reduced_range_is_in_the_weights(cnn: Maker, method: str, isa: str, largest: int) -> None:
    """The fact would be a claim."""
    made = quantized(cnn(method=method, target={"cpu": {"isa": isa}}))
    integers = [w for w in weights(made).values() if w.dtype == np.int8 and w.size > 16]
    assert integers
    assert largest / 2 < max(int(np.abs(w.astype(np.int32)).max()) for w in integers) <= largest
    assert made.facts["reducedRange"] is (isa == "avx2")


def test_what_the_target_decides_is_in_the_records_key() -> None:
    """A graph made for one processor would be taken from the records for another."""
    keys = [
        decisive(step, target(**fields))
        for step, fields in (
            (INT8, {"cpu": {"isa": "avx512_vnni"}}),
            (INT8, {"cpu": {"isa": "avx2"}}),
            (INT8, {"accelerator": {}}),
            (QuantizeStep(precision="int4", method="WeightOnly"), {}),
            (QuantizeStep(precision="int4", method="WeightOnly"), {"runtime": "TensorRT", "accelerator": {}}),
        )
    ]
    assert len({str(sorted(key.items())) for key in keys}) == len(keys)


def masked(width: int = 768) -> onnx.ModelProto:
    """A mask by a scalar, as exporters write attention masks, then a product and its bias."""
    random = np.random.default_rng(0)
    constants = {
        "lowest": np.array(-3.4e38, np.float32),
        "w": random.standard_normal((width, 8)).astype(np.float32),
        "b": random.standard_normal(8).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], name="flatten"),
            helper.make_node("Sub", ["flat", "flat"], ["none"], name="none"),
            helper.make_node("Mul", ["none", "lowest"], ["mask"], name="mask"),
            helper.make_node("Add", ["flat", "mask"], ["seen"], name="masked"),
            helper.make_node("MatMul", ["seen", "w"], ["product"], name="body"),
            helper.make_node("Add", ["product", "b"], ["scores"], name="bias"),
        ],
        "masked",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_for_accelerators_the_products_alone_are_quantized_and_the_graph_builds(cnn: Maker) -> None:
    """TensorRT refuses a pair around a mask's scalar, so that no transformer would build without `opTypes`."""
    made = quantized(cnn(masked(), target=RTX))
    graph = onnx.load(made.entry).graph
    readers = {name: n.op_type for n in graph.node for name in n.input}
    pairs = [n for n in graph.node if n.op_type == "DequantizeLinear"]
    assert [readers[n.output[0]] for n in pairs] == ["MatMul", "MatMul"]
    assert made.facts["opTypes"] == ["MatMul"]
    assert rtx_takes(made)


def test_the_spec_still_names_what_is_quantized(cnn: Maker) -> None:
    """`opTypes` would be decoration on accelerators."""
    named = QuantizeStep(precision="int8", method="Static", op_types=["Gemm", "Relu"])
    assert decisive(INT8, target(**RTX)) != decisive(named, target(**RTX))
    made = quantized(cnn(target=RTX, op_types=["Gemm"]))
    assert made.facts["quantized"] == {"Gemm": 1}
    assert quantized(cnn(target=RTX)).facts["quantized"] == {"Conv": 1, "Gemm": 1}


def test_dynamic_activations_are_unsigned_everywhere() -> None:
    """ONNX Runtime's kernels take no signed activations at run time."""
    assert form_of(DYNAMIC, target(cpu={"arch": "arm64"})) is IntegerFormat.U8S8


# --- fp8 -----------------------------------------------------------------------------------------------------------


def test_fp8_maps_the_largest_magnitude_to_the_largest_number(cnn: Maker) -> None:
    """A scale of the wrong end would clip, or leave half of the format unused."""
    made = quantized(cnn(target=RTX, **FP8))
    arrays = weights(made)
    stored = {n: a for n, a in arrays.items() if a.dtype == ml_dtypes.float8_e4m3fn and a.size > 1}
    assert len(stored) == 2
    for name, values in stored.items():
        assert float(np.abs(values.astype(np.float32)).max()) == 448.0
        assert arrays[f"{name}/scale"].size in values.shape
    seen = {t["name"]: t for t in made.facts["calibration"]["tensors"]}["image"]
    assert arrays["image/fp8/scale"] == pytest.approx(max(-seen["minimum"], seen["maximum"]) / 448)
    assert made.facts["quantized"] == {"Conv": 1, "Gemm": 1}
    assert made.facts["opset"] >= 19
    assert made.facts["cosine"] > 0.995


def test_fp8_values_are_those_of_the_format() -> None:
    """Rounding would be another one than the device's."""
    exact = np.array([0.0, 1.0, -1.125, 448.0, 2**-9], np.float32)
    assert np.array_equal(fp8.to_fp8(exact).astype(np.float32), exact)
    assert fp8.to_fp8(np.array([1e9, -1e9], np.float32)).astype(np.float32).tolist() == [448.0, -448.0]
    assert fp8.scales(np.zeros(3, np.float32)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("per_channel", "expected"), [(True, {16, 5}), (False, {1})])
def test_fp8_scales_are_per_channel_exactly_when_asked(cnn: Maker, per_channel: bool, expected: set[int]) -> None:
    """`perChannel` would be decoration."""
    arrays = weights(quantized(cnn(target=RTX, per_channel=per_channel, **FP8)))
    assert {a.size for n, a in arrays.items() if n.startswith(("w", "fc")) and n.endswith("/scale")} <= expected | {1}
    assert {a.size for n, a in arrays.items() if n.endswith("/scale")} & expected


# --- bf16 ----------------------------------------------------------------------------------------------------------


def test_bf16_keeps_the_interface_and_shortens_the_weights(cnn: Maker) -> None:
    """Clients send and read fp32; weights that stay fp32 gain nothing."""
    made = quantized(cnn(target=RTX, **BF16))
    model = onnx.load(made.entry)
    assert [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)] == [TensorProto.FLOAT] * 2
    assert stored_types(made) == {TensorProto.BFLOAT16}
    assert made.facts["scales"] == {"tensors": 4}
    assert "rounded to bf16" in made.facts["provedBy"]
    assert 0.999 < made.facts["cosine"] < 1.0


def test_bf16_leaves_norms_and_what_is_excluded_in_fp32(cnn: Maker) -> None:
    """Sums over many values lose what matters in 8 bits of mantissa."""
    model = small_cnn()
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["scores"], name="softmax"))
    made = quantized(cnn(model, target=RTX, exclude_nodes=["head/fc"], **BF16))
    graph = onnx.load(made.entry).graph
    makers = {out: n for n in graph.node for out in n.output}
    read = {n.name: [makers[i].op_type if i in makers else i for i in n.input] for n in graph.node}
    assert read["head/fc"][0] == "Cast"
    assert read["softmax"] == ["Gemm"]
    assert {w.data_type for w in graph.initializer} == {TensorProto.FLOAT, TensorProto.BFLOAT16}


def test_a_masks_lowest_number_does_not_become_infinite() -> None:
    """fp32's lowest number rounds to minus infinity, and softmax of a masked row to NaN."""
    lowest = np.finfo(np.float32).min
    found = to_bfloat(np.array([lowest, -np.inf, 1.0], np.float32)).astype(np.float32)
    assert np.isfinite(found[0])
    assert np.isneginf(found[1])
    assert found[2] == 1.0


def test_only_operators_that_onnx_defines_for_bf16_are_cast() -> None:
    """A file that no runtime loads."""
    assert bears_bfloat("MatMul", 22)
    assert bears_bfloat("Conv", 22)
    assert not bears_bfloat("Conv", 21)
    assert not bears_bfloat("NoSuchOperator", 22)


def test_the_reference_rounds_where_bf16_would(tmp_path: Path) -> None:
    """Parity and fidelity of a bf16 engine would be held against fp32."""
    nodes = [
        helper.make_node("Cast", ["x"], ["short"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["short", "w"], ["product"], name="product"),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
    ]
    weight = np.array([[1.0], [2.0**-7]], np.float32).astype(ml_dtypes.bfloat16)
    floats = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 2), ("y", 1))]
    graph = helper.make_graph(nodes, "g", floats[:1], floats[1:], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    session = open_reference(Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("m.onnx",)), threads=1)
    assert session.run({"x": np.array([[1.0, 1.0]], np.float32)})["y"].item() == 1.0078125
    assert session.run({"x": np.array([[1.0, 0.3]], np.float32)})["y"].item() == 1.0
    assert session.run({"x": np.array([[1 + 2.0**-9, 0.0]], np.float32)})["y"].item() == 1.0


# --- int4 ----------------------------------------------------------------------------------------------------------


def test_four_bits_round_to_the_nearest_of_sixteen_levels() -> None:
    """The error of a weight must stay below half a step, and zero must stay zero."""
    values = np.random.default_rng(0).standard_normal((5, 3, 32)).astype(np.float32)
    values[0, 0] = 0.0
    levels, scale, zero = four_bits.rounded(values)
    assert levels.max() == 15
    restored = (levels.astype(np.float32) - zero[..., None]) * scale[..., None]
    assert np.all(np.abs(restored - values) <= scale[..., None] * 1.01)
    assert np.median(np.abs(restored - values) / scale[..., None]) < 0.3
    assert np.all(restored[0, 0] == 0.0)
    assert four_bits.packed(np.array([[1, 2, 3]], np.uint8)).tolist() == [[0x21, 0x03]]


def matmul_model(rows: int, columns: int = 8) -> onnx.ModelProto:
    """[batch, rows] to [batch, columns] by a MatMul called `body`."""
    weight = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], name="flatten"),
            helper.make_node("MatMul", ["flat", "w"], ["scores"], name="body"),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", columns])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("fields", "operator"), [({}, "MatMulNBits"), (RTX, "DequantizeLinear")])
def test_int4_weights_shrink_to_an_eighth_with_scales(cnn: Maker, fields: dict[str, Any], operator: str) -> None:
    """Weights would be 4 bits by name only, or in an operator that the runtime does not have."""
    made = quantized(cnn(matmul_model(768), target=fields, **{**INT4, "group_size": 128}))
    assert operator in {n.op_type for n in onnx.load(made.entry).graph.node}
    assert made.facts["format"] == f"int4 {operator}"
    assert made.facts["layers"] == 1
    assert 0.124 < made.facts["weightBytes"] / made.facts["weightBytesBefore"] < 0.15
    assert made.facts["cosine"] > 0.97


def test_a_gemm_with_a_bias_is_rounded_too(cnn: Maker) -> None:
    """The last layer of most classifiers would silently stay in fp32."""
    made = quantized(cnn(**INT4))
    counts = made.facts["layers"], [n.op_type for n in onnx.load(made.entry).graph.node]
    assert counts[0] == 1
    assert {"MatMulNBits", "Add"} <= set(counts[1])
    assert made.facts["cosine"] > 0.98


def test_four_bits_count_as_rounding_where_activations_are_rounded_too(cnn: Maker) -> None:
    """A right engine would miss parity: where fusion moves an activation by an ulp, its rounding tips."""
    backend = backend_for(Runtime.ONNX_RUNTIME)
    assert backend.arithmetic(quantized(cnn(**INT4))).integer
    assert not backend.arithmetic(quantized(cnn(target=RTX, **INT4))).integer


def test_a_group_that_does_not_fit_names_the_layer(cnn: Maker) -> None:
    """The user could not tell which of many layers is meant."""
    with pytest.raises(InvalidInput, match=r"`body` sums over 768 values, which is no multiple of 100") as caught:
        quantized(cnn(matmul_model(768), target=RTX, **{**INT4, "group_size": 100}))
    assert caught.value.field == "spec.steps[0].quantize.groupSize"
    assert "use 128" in (caught.value.mend or "")
    with pytest.raises(InvalidInput, match="power of two"):
        quantized(cnn(matmul_model(768), **{**INT4, "group_size": 100}))


def test_int4_of_a_model_without_matrix_products_is_refused(cnn: Maker) -> None:
    """A run would end well with nothing done."""
    with pytest.raises(InvalidInput, match="no matrix product has a constant weight") as caught:
        quantized(cnn(exclude_nodes=["head/fc"], **INT4))
    assert caught.value.field == "spec.steps[0].quantize"


# --- together, and for the runtime they are for --------------------------------------------------------------------


@pytest.mark.parametrize("asked", [FP8, BF16, FP16, INT4, {"precision": "int8", "method": "Static"}])
def test_tensorrt_rtx_builds_what_is_made_for_it(cnn: Maker, asked: dict[str, Any]) -> None:
    """A graph that its own runtime refuses is found out on the GPU, after everything else."""
    assert rtx_takes(quantized(cnn(target=RTX, **asked)))


@pytest.mark.parametrize("cast", [FP16, BF16])
@pytest.mark.parametrize("first", [FP8, INT4, {"precision": "int8", "method": "Static"}])
def test_a_cast_after_a_quantization_types_the_scales_too(
    cnn: Maker, first: dict[str, Any], cast: dict[str, Any]
) -> None:
    """A strongly typed runtime takes a layer's type from the scale: fp32 scales would keep the compute in fp32."""
    bench = cnn(target=RTX, **first)
    quantized(bench)
    step = bench.spec.steps[0].model_copy(update={"name": "half", "quantize": QuantizeStep.model_validate(cast)})
    made = bench.run(quantize_stage(step, "int8", bench.spec, bench.spec.targets[0]))
    short = TensorProto.FLOAT16 if cast is FP16 else TensorProto.BFLOAT16
    assert TensorProto.FLOAT not in stored_types(made)
    assert TensorProto.INT32 not in stored_types(made)
    assert short in stored_types(made)
    assert made.facts["cosine"] > 0.99
    assert rtx_takes(made)


def test_a_method_that_does_not_go_with_the_precision_is_refused(cnn: Maker) -> None:
    """The handler of another precision would take it."""
    with pytest.raises(Unsupported, match="fp8 by Dynamic") as caught:
        quantized(cnn(precision="fp8", method="Dynamic"))
    assert caught.value.field == "spec.steps[0].quantize.method"


def test_an_opset_that_cannot_be_raised_says_so() -> None:
    """The converter's assertion would be the status."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Scan", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=8)
    with pytest.raises(Unsupported, match="needs opset 21; the graph has 8") as caught:
        raised(model, 21, 3)
    assert caught.value.field == "spec.steps[3].quantize.precision"
    assert raised(small_cnn(), 18, 0) == small_cnn()


def test_nodes_are_put_in_order_and_a_cycle_is_refused() -> None:
    """Quantizers append nodes at the end; readers of the file may rely on its order."""
    graph = small_cnn().graph
    names = [n.name for n in graph.node]
    backwards = onnx.GraphProto()
    backwards.CopyFrom(graph)
    del backwards.node[:]
    backwards.node.extend(reversed(graph.node))
    sort_nodes(backwards)
    assert [n.name for n in backwards.node] == names
    backwards.node[0].input[0] = "scores"
    with pytest.raises(InvalidInput, match="cycle"):
        sort_nodes(backwards)
