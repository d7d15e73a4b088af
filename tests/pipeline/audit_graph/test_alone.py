"""Files that come alone: damaged, incomplete, old, foreign, fixed; engines of five runtimes, none of them executed."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_job.audit.graph import alone, examine_engine, examine_onnx

Chain = Callable[..., onnx.ModelProto]


def said(path: Path) -> dict[str, str]:
    return {one.check: one.severity.value for one in examine_onnx(path)}


@pytest.mark.parametrize("how", ["empty", "text", "cut off"])
def test_what_is_no_graph_is_said_and_raises_nothing(make_chain: Chain, tmp_path: Path, how: str) -> None:
    """The doctor is run on whatever lies in a repository."""
    path = tmp_path / "model.onnx"
    whole = make_chain("crc").SerializeToString()
    path.write_bytes({"empty": b"", "text": b"not a model", "cut off": whole[: len(whole) // 2]}[how])
    assert said(path) == {"graph-unreadable": "Critical"}


@pytest.mark.parametrize("where", ["gone.data", "../gone.data", "/etc/hostname"])
def test_weights_that_are_not_beside_the_graph_are_missed(make_chain: Chain, tmp_path: Path, where: str) -> None:
    """A graph without its data loads nowhere; one with a path outside would read what it should not."""
    model = make_chain("c")
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=where)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert said(tmp_path / "model.onnx") == {"graph-data-missing": "Critical"}


def test_external_data_beside_the_graph_is_read(make_chain: Chain, tmp_path: Path) -> None:
    """That is how larger models are saved."""
    onnx.save(
        make_chain("crc"), tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0, location="w.data"
    )
    assert said(tmp_path / "model.onnx") == {}


def test_old_sets_foreign_operators_and_doubles_are_said(make_chain: Chain, tmp_path: Path) -> None:
    """Each would stop a later step, in words that do not say why."""
    model = make_chain("cr")
    model.opset_import[0].version = 11
    onnx.save(model, tmp_path / "old.onnx")
    assert said(tmp_path / "old.onnx") == {"graph-opset": "Medium"}
    foreign = make_chain("cr")
    foreign.graph.node[1].domain = "acme"
    foreign.opset_import.append(helper.make_opsetid("acme", 1))
    onnx.save(foreign, tmp_path / "foreign.onnx")
    assert said(tmp_path / "foreign.onnx") == {"graph-operators": "Medium", "engine-opaque": "Low"}
    wide = make_chain("c")
    weight = wide.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float64), weight.name))
    for value in (*wide.graph.input, *wide.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(wide, tmp_path / "wide.onnx")
    assert said(tmp_path / "wide.onnx")["double-precision"] == "Medium"


def test_a_fixed_batch_is_said_with_what_stands_in_its_way(make_chain: Chain, tmp_path: Path) -> None:
    """Whether one line must change or the model must be exported again is what the reader wants to know."""
    model = make_chain("cr")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, tmp_path / "declared.onnx")
    found = examine_onnx(tmp_path / "declared.onnx")
    assert [one.check for one in found] == ["fixed-axis"]
    assert "only the declaration" in found[0].message
    model.graph.initializer.append(numpy_helper.from_array(np.array([8, -1]), "shape"))
    model.graph.node.append(helper.make_node("Reshape", ["y", "shape"], ["flat"], name="flatten"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("flat", TensorProto.FLOAT, [8, 512]))
    onnx.save(model, tmp_path / "inside.onnx")
    found = examine_onnx(tmp_path / "inside.onnx")
    assert [one.check for one in found] == ["fixed-axis"]
    assert "inside too" in found[0].message


def test_an_input_that_was_forgotten_beside_a_dynamic_one_is_found(tmp_path: Path) -> None:
    """Ids are dynamic, the mask kept the example's eight rows."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, 4])
        for name, rows in (("ids", "batch"), ("mask", 8), ("y", "batch"))
    ]
    graph = helper.make_graph([helper.make_node("Mul", ["ids", "mask"], ["y"])], "g", values[:2], values[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    found = examine_onnx(tmp_path / "m.onnx")
    assert [one.check for one in found] == ["fixed-axis"]
    assert "`mask` is 8" in found[0].message


def test_an_optimized_graph_says_for_whom_it_was_optimized(make_chain: Chain, quantized: Any, tmp_path: Path) -> None:
    """It is no source for another runtime."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "engine.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(quantized(make_chain("crc")).SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = examine_engine(tmp_path / "engine.onnx")
    assert {one.check for one in found} <= {"graph-operators"}


def test_a_quantized_engine_whose_heavy_layer_is_in_floats_is_found(
    make_chain: Chain, quantized: Any, tmp_path: Path
) -> None:
    """INT8 by its file's size, FP32 by its compute."""
    onnx.save(quantized(make_chain("ccrc"), nodes_to_exclude=["conv0", "conv1"]), tmp_path / "engine.onnx")
    found = [one for one in examine_engine(tmp_path / "engine.onnx") if one.check == "precision-not-realised"]
    assert len(found) == 1
    assert "(fp32" in found[0].message


def test_a_flatbuffer_is_read_as_far_as_it_goes(make_chain: Chain, tmp_path: Path) -> None:
    """What cannot be seen in it is said, so that nobody takes silence for health."""
    model = make_chain("cr")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "engine.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert [one.check for one in examine_engine(tmp_path / "engine.ort")] == ["fixed-axis", "engine-opaque"]


def test_a_program_is_never_run(tmp_path: Path) -> None:
    """A .pt2 is code of whoever made it: the doctor reads its table of contents alone."""
    path = tmp_path / "engine.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/aotinductor/model/evil.so", b"\x7fELF")
        archive.writestr("data/aotinductor/model/x.wrapper_metadata.json", json.dumps({"AOTI_DEVICE_KEY": "cpu"}))
    found = examine_engine(path)
    assert [one.check for one in found] == ["engine-opaque"]
    assert "not loaded" in found[0].message


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        (b"ptrt" + bytes(60), "m.engine", "engine-opaque"),
        (b"PK\x00\x00 nothing", "m.plan", "graph-unreadable"),
        (b"", "m.trt", "graph-unreadable"),
        (b"hello", "m.bin", "graph-unreadable"),
    ],
)
def test_plans_are_told_by_their_first_bytes(tmp_path: Path, head: bytes, name: str, expected: str) -> None:
    """What is inside takes the library and the device; that it is a plan at all does not."""
    (tmp_path / name).write_bytes(head)
    assert [one.check for one in examine_engine(tmp_path / name)] == [expected]


def test_a_plan_of_tensorrt_rtx_tells_its_version_and_whether_it_is_whole(make_chain: Chain, tmp_path: Path) -> None:
    """The bytes are those of the real builder, not of a page about them."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    model = make_chain("r")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    assert parser.parse(model.SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    plan = bytes(builder.build_serialized_network(network, config))
    (tmp_path / "m.engine").write_bytes(plan)
    found = examine_engine(tmp_path / "m.engine")
    assert f"TensorRT-RTX {trt.__version__}" in found[0].message
    (tmp_path / "m.engine").write_bytes(plan[: len(plan) // 2])
    assert [one.check for one in examine_engine(tmp_path / "m.engine")] == ["graph-unreadable"]


def test_an_openvino_model_is_read_and_one_without_weights_is_said(make_chain: Chain, tmp_path: Path) -> None:
    """An .xml is half of a model."""
    openvino = pytest.importorskip("openvino")
    onnx.save(make_chain("cr"), tmp_path / "m.onnx")
    openvino.save_model(openvino.convert_model(tmp_path / "m.onnx"), tmp_path / "m.xml")
    assert examine_engine(tmp_path / "m.xml") == []
    (tmp_path / "m.bin").unlink()
    assert [one.check for one in examine_engine(tmp_path / "m.xml")] == ["graph-data-missing"]


def value(name: str, shape: list[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def odd(name: str) -> onnx.ModelProto:
    """Graphs that nobody exports on purpose, and that lie in repositories all the same."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Add", ["sum", "sum"], ["more"])],
        "body",
        [value("i", [], TensorProto.INT64), value("on", [], TensorProto.BOOL), value("sum", ["b", 3])],
        [value("still", [], TensorProto.BOOL), value("more", ["b", 3])],
    )
    sequence = helper.make_tensor_sequence_value_info
    nodes, inputs, outputs, weights = {
        "endless": ([helper.make_node("Loop", ["", "go", "x"], ["y"], body=body)], [value("x", ["b", 3])],
                    [value("y", ["b", 3])], [numpy_helper.from_array(np.array(True), "go")]),
        "cycle": ([helper.make_node("Add", ["x", "q"], ["p"]), helper.make_node("Relu", ["p"], ["q"])],
                  [value("x", ["b", 3])], [value("q", ["b", 3])], []),
        "sequence in": ([helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)],
                        [sequence("s", TensorProto.FLOAT, ["b", 3])], [value("y", ["b", 3])], []),
        "sequence out": ([helper.make_node("SplitToSequence", ["x"], ["s"], axis=0)], [value("x", ["b", 3])],
                         [sequence("s", TensorProto.FLOAT, ["b", 3])], []),
        "vast": ([helper.make_node("Relu", ["x"], ["y"])], [value("x", ["b", 2**40])], [value("y", ["b", 2**40])], []),
        "twelve axes": ([helper.make_node("Relu", ["x"], ["y"])], [value("x", [f"a{at}" for at in range(12)])],
                        [value("y", [f"a{at}" for at in range(12)])], []),
        "empty weight": ([helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", ["b", 0])],
                         [value("y", ["b", 4])], [numpy_helper.from_array(np.zeros((0, 4), np.float32), "w")]),
        "minus one": ([helper.make_node("Relu", ["x"], ["y"])], [value("x", [-1, 3])], [value("y", [-1, 3])], []),
        "text": ([helper.make_node("Identity", ["x"], ["y"])], [value("x", ["b"], TensorProto.STRING)],
                 [value("y", ["b"], TensorProto.STRING)], []),
    }[name]  # fmt: skip
    graph = helper.make_graph(nodes, "odd", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("cycle", {"graph-unreadable": "Critical"}),
        ("sequence in", {"engine-opaque": "Low"}),
        ("sequence out", {}),
        ("vast", {"engine-opaque": "Low"}),
        ("twelve axes", {}),
        ("empty weight", {}),
        ("minus one", {}),
        ("text", {"engine-opaque": "Low"}),
    ],
)
def test_an_odd_graph_ends_in_findings_and_in_bounds(name: str, checks: dict[str, str], tmp_path: Path) -> None:
    """One such file would end the doctor's whole run, or take the machine's memory."""
    (tmp_path / "odd.onnx").write_bytes(odd(name).SerializeToString())
    found = examine_onnx(tmp_path / "odd.onnx")
    assert {one.check: one.severity.value for one in reversed(found)} == checks


def test_a_graph_that_loops_for_ever_is_given_up(tmp_path: Path) -> None:
    """A commit hook would hang on it; what was not tried must be said."""
    (tmp_path / "loop.onnx").write_bytes(odd("endless").SerializeToString())
    (found,) = alone.examine(tmp_path / "loop.onnx", 0.5)
    assert (found.check, "not all was tried" in found.message) == ("engine-opaque", True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"vtrt", "inside its header"),
        (b"PK\x03\x04" + b"x" * 90 + b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2), "cannot be read"),
    ],
)
def test_a_damaged_engine_is_said(content: bytes, words: str, tmp_path: Path) -> None:
    """A header that ends, or an archive without its end, is what an interrupted upload leaves."""
    (tmp_path / "model.engine").write_bytes(content)
    assert words in examine_engine(tmp_path / "model.engine")[0].message
