"""Quantize and Dequantize nodes: traps planted into graphs that ONNX Runtime quantized; its own output passes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from strop_job.audit.graph import audit_precision_stage
from strop_job.audit.graph.quantized import quantized_findings
from strop_job.stages import Artifact, ArtifactKind

Model = onnx.ModelProto
Chain = Callable[..., Model]
MIDDLE = np.uint8(128)


def node_of(model: Model, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def insert(model: Model, before: onnx.NodeProto, slot: int, *nodes: onnx.NodeProto) -> None:
    """Puts nodes, of which the last yields what `before` is to take, in front of it."""
    at = list(model.graph.node).index(before)
    for offset, node in enumerate(nodes):
        model.graph.node.insert(at + offset, node)
    model.graph.node[at + len(nodes)].input[slot] = nodes[-1].output[0]


def scale(model: Model, name: str, value: float, zero: Any) -> list[str]:
    model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{name}_s"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(zero), f"{name}_z"))
    return [f"{name}_s", f"{name}_z"]


def pair(model: Model, tensor: str, name: str, value: float = 0.05, zero: Any = MIDDLE) -> list[onnx.NodeProto]:
    parameters = scale(model, name, value, zero)
    return [
        helper.make_node("QuantizeLinear", [tensor, *parameters], [f"{name}_q"], name=f"{name}/q"),
        helper.make_node("DequantizeLinear", [f"{name}_q", *parameters], [f"{name}_d"], name=f"{name}/dq"),
    ]


def checks(model: Model) -> list[str]:
    return [one.check for one in quantized_findings(model)]


@pytest.mark.parametrize("kinds", ["cc", "crcrc", "crcac", "crcsc"])
@pytest.mark.parametrize("options", [{}, {"operator": True}, {"per_channel": True}, {"op_types_to_quantize": ["Conv"]}])
def test_what_onnx_runtime_quantizes_statically_is_clean(
    make_chain: Chain, quantized: Callable[..., Model], kinds: str, options: dict[str, Any]
) -> None:
    """The quantizer's usual output is what most users have."""
    assert quantized_findings(quantized(make_chain(kinds), **options)) == []


@pytest.mark.parametrize("where", ["a float product", "an output", "another float operator", "float products"])
def test_a_pair_that_serves_nobody_is_found(make_chain: Chain, quantized: Callable[..., Model], where: str) -> None:
    """Rounding without a gain: accuracy and time lost."""
    model = make_chain("ccrc")
    if where == "a float product":
        insert(model, node_of(model, "conv1"), 0, *pair(model, "t0", "planted"))
    elif where == "an output":
        last = node_of(model, "conv3")
        last.output[0] = "before"
        made = pair(model, "before", "planted")
        made[-1].output[0] = "y"
        model.graph.node.extend(made)
    elif where == "another float operator":
        insert(model, node_of(model, "relu2"), 0, *pair(model, "t1", "planted"))
    else:
        model = quantized(model, nodes_to_exclude=["conv0", "conv1", "relu2"])
        insert(model, node_of(model, "conv1"), 0, *pair(model, node_of(model, "conv1").input[0], "planted"))
    assert checks(model)[0] == "needless-qdq"
    assert "1 of" in quantized_findings(model)[0].message


@pytest.mark.parametrize("how", ["another scale", "another type", "behind a Transpose"])
def test_requantizing_between_two_integer_operators_is_found(
    make_chain: Chain, quantized: Callable[..., Model], how: str
) -> None:
    """Two roundings in a row, and kernels that cannot be fused."""
    model = quantized(make_chain("crc"))
    second = node_of(model, "conv2")
    tensor = second.input[0]
    if how == "behind a Transpose":
        turn = helper.make_node("Transpose", [tensor], ["turned"], name="turn", perm=[0, 1, 3, 2])
        insert(model, second, 0, turn, *pair(model, "turned", "planted"))
    else:
        zero = np.uint8(3) if how == "another scale" else np.int8(0)
        insert(model, second, 0, *pair(model, tensor, "planted", 0.07, zero))
    found = quantized_findings(model)
    assert [one.check for one in found] == ["requantize-ping-pong"], found
    assert "planted/q" in found[0].message


def test_quantizing_again_with_the_very_same_scale_is_no_ping_pong(make_chain: Chain, quantized: Any) -> None:
    """Runtimes drop such a pair: it is exact."""
    model = quantized(make_chain("crc"))
    second = node_of(model, "conv2")
    dequantize = next(node for node in model.graph.node if second.input[0] in node.output)
    parameters = list(dequantize.input[1:])
    insert(
        model, second, 0,
        helper.make_node("QuantizeLinear", [second.input[0], *parameters], ["again_q"], name="again/q"),
        helper.make_node("DequantizeLinear", ["again_q", *parameters], ["again_d"], name="again/dq"),
    )  # fmt: skip
    assert checks(model) == []


@pytest.mark.parametrize(
    ("kinds", "options", "island"),
    [
        ("chc", {}, "hardswish1"),
        ("ccc", {"exclude": "conv1"}, "conv1"),
        ("crcmc", {"op_types_to_quantize": ["Conv"]}, "mul3"),
    ],
)
def test_a_float_operator_between_quantized_ones_is_found(
    make_chain: Chain, quantized: Callable[..., Model], kinds: str, options: dict[str, Any], island: str
) -> None:
    """Each such island costs two conversions and breaks the chain of fused kernels."""
    model = make_chain(kinds)
    excluded = options.pop("exclude", None) if (options := dict(options)) else None
    model = quantized(model, **options, **({"nodes_to_exclude": [excluded]} if excluded else {}))
    found = quantized_findings(model)
    assert [one.check for one in found] == ["float-island"], found
    assert island in found[0].message


def test_convolutions_quantized_at_run_time_are_found(make_chain: Chain, tmp_path: Any) -> None:
    """The recipe everybody tries first makes convolutional models slower."""
    from onnxruntime.quantization import quantize_dynamic

    onnx.save(make_chain("crc"), tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    assert checks(onnx.load(tmp_path / "int8.onnx")) == ["dynamic-convolution"]


def inspection(**formats: int) -> dict[str, Any]:
    layers = [
        {"name": f"layer-{name}", "operator": "Conv", "format": name, "macs": macs} for name, macs in formats.items()
    ]
    total = sum(formats.values())
    return {"inspected": True, "macs": total, "macsByFormat": formats, "layers": layers, "uncounted": {}}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (inspection(int8=95, fp32=5), []),
        (inspection(int8=40, fp32=60), ["precision-not-realised"]),
        (inspection(fp32=100), ["precision-not-realised"]),
        ({**inspection(int8=40, fp32=60), "uncounted": {"Attention": 2}}, ["precision-unseen"]),
        ({"inspected": False, "note": "no device"}, ["precision-unseen"]),
    ],
)
def test_a_share_of_compute_that_is_not_realised_is_found(
    make_chain: Chain, quantized: Any, graph_artifact: Any, run_stage: Any, spec_with: Any, tmp_path: Any,
    seen: dict[str, Any], expected: list[str],
) -> None:  # fmt: skip
    """INT8 in name only; and where it was not counted, no share is claimed."""
    graph = graph_artifact(quantized(make_chain("crc")))
    verified = Artifact(ArtifactKind.MEASUREMENT, tmp_path, ("none",), {"inspection": seen})
    made = run_stage(
        lambda s: audit_precision_stage(s, s.targets[0], "int8"), spec_with(), export=graph, int8=graph, verify=verified
    )
    assert [one["check"] for one in made.facts["findings"]] == expected
    if expected == ["precision-not-realised"]:
        assert "`layer-fp32` (fp32" in made.facts["findings"][0]["message"]
