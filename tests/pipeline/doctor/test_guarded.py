"""Graphs are examined within bounds of time and memory, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.findings import Severity
from strop_job.doctor import guarded
from strop_job.doctor.examine import Choice, examine_all
from strop_job.doctor.files import Kind

MIB = 1 << 20


def _saved(path: Path, nodes: list[onnx.NodeProto], columns: int, constants: dict[str, object]) -> Path:
    def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    weights = [numpy_helper.from_array(np.array(constant), name) for name, constant in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", ["b", columns])], [value("y", ["b", columns])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """2**62 times the same addition."""
    values = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("i", TensorProto.INT64, []),
            ("on", TensorProto.BOOL, []),
            ("sum", TensorProto.FLOAT, ["b", 3]),
            ("still", TensorProto.BOOL, []),
            ("more", TensorProto.FLOAT, ["b", 3]),
        )
    ]
    body = [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Add", ["sum", "sum"], ["more"])]
    loop = helper.make_node("Loop", ["n", "go", "x"], ["y"], body=helper.make_graph(body, "b", values[:3], values[3:]))
    return _saved(tmp_path / "endless.onnx", [loop], 3, {"n": np.int64(2**62), "go": True})


@pytest.fixture
def vast(tmp_path: Path) -> Path:
    """A kilobyte that becomes 4 GiB when it is run."""
    nodes = [
        helper.make_node("Expand", ["x", "wide"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["y"], axes=[1], keepdims=1),
    ]
    return _saved(tmp_path / "vast.onnx", nodes, 1, {"wide": np.array([1, 1 << 30])})


@pytest.mark.parametrize("seconds", [1.0])
def test_a_graph_that_loops_for_ever_ends_in_a_finding(endless: Path, seconds: float) -> None:
    """A build would hang on one file."""
    (found,) = guarded.examine(Kind.ONNX, endless, guarded.Bounds(seconds))
    assert (found.check, found.severity) == ("engine-opaque", Severity.MEDIUM)
    assert "more than 1 s" in found.message


def test_a_process_that_does_not_end_is_ended(endless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that hangs inside one call heeds no clock of its own."""
    monkeypatch.setattr(guarded, "START_SECONDS", -0.9)
    (*_, found) = guarded.examine(Kind.ONNX, endless, guarded.Bounds(1.0))
    assert "neither graph nor engine was judged: it took more than 1 s" in found.message


def test_a_graph_that_takes_all_memory_ends_in_a_finding(vast: Path) -> None:
    """The machine would end whatever it likes to get its memory back."""
    found = guarded.examine(Kind.ONNX, vast, guarded.Bounds(20, 512 * MIB))
    assert [(one.check, one.severity) for one in found][-1] == ("engine-opaque", Severity.MEDIUM)
    assert "more than 0.5 GiB" in found[-1].message


def test_a_missing_library_is_told_and_hides_no_other_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback would take the findings of all other files with it."""
    monkeypatch.setattr(guarded, "CHILD", "import sys; sys.modules['onnxruntime'] = None; " + guarded.CHILD)
    (tmp_path / "m.onnx").write_bytes(b"anything")
    (tmp_path / "removed.py").write_text("import tensorrt as trt\n\nFLAG = trt.BuilderFlag.FP16\n")
    model, program = examine_all([tmp_path / "m.onnx", tmp_path / "removed.py"], Choice())
    assert (model.unread, model.found[0].finding.check) == (True, "source-not-read")
    assert model.found[0].finding.message == "graphs are run with onnxruntime: install strop[job,cpu]"
    assert [one.finding.check for one in program.found] == ["source-removed-api"]


def test_no_module_beside_the_model_is_imported(endless: Path) -> None:
    """A repository with an onnx.py would have it run by whoever looks for traps in it."""
    (endless.parent / "onnx.py").write_text("open('ran', 'w').close()\n")
    code = (
        "from pathlib import Path; from strop_job.doctor.guarded import *;"
        "examine(Kind.ONNX, Path('endless.onnx'), Bounds(1))"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=endless.parent, check=True)
    assert not (endless.parent / "ran").exists()
