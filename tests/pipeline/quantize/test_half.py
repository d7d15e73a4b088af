"""FP16 as it is written: the reference rounds and overflows where a device would, and casts keep masks finite."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.steps import Precision
from strop_job.backends.onnxruntime import OrtSession
from strop_job.backends.reference import open_reference
from strop_job.baselines import as_baseline
from strop_job.errors import InvalidInput
from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.quantize import quantize_stage

from .conftest import Bench, small_cnn

Maker = Callable[..., Bench]
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
LOWEST = -3.4e38


def half_constant(name: str, *values: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float16), name)


def reference(
    folder: Path, nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto] = (), ends: int = HALF
) -> OrtSession:
    """x [1] -> y [1], both of type `ends`."""
    given, made = (helper.make_tensor_value_info(name, ends, [1]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [given], [made], constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "m.onnx")
    return open_reference(Artifact(ArtifactKind.ONNX_GRAPH, folder, ("m.onnx",)), threads=1)


def chain(x: str, y: str) -> list[onnx.NodeProto]:
    """x * 4096 / 1560.38 + 0: at 2000 its middle is 8,192,000, and in fp32 its end 5250."""
    return [
        helper.make_node("Mul", [x, "grow"], ["grown"], name="up"),
        helper.make_node("Mul", ["grown", "shrink"], [y], name="down"),
    ]


CHAIN = (half_constant("grow", 4096.0), half_constant("shrink", 1 / 1560.38))


@pytest.mark.parametrize("ends", [HALF, FLOAT])
def test_what_overflows_in_between_is_infinite(tmp_path: Path, ends: int) -> None:
    """A device yields infinity, and the reference of its parity a number that looks right."""
    nodes = chain("x", "y")
    if ends == FLOAT:
        cast_in = helper.make_node("Cast", ["x"], ["short"], to=HALF)
        nodes = [cast_in, *chain("short", "end"), helper.make_node("Cast", ["end"], ["y"], to=FLOAT)]
    session = reference(tmp_path, nodes, CHAIN, ends)
    kind = np.float16 if ends == HALF else np.float32
    assert session.inputs == {"x": np.dtype(kind)}
    found = session.run({"x": np.array([2000.0], kind)})["y"]
    assert found.dtype == kind
    assert np.isposinf(found).all()
    assert session.run({"x": np.array([2.0], kind)})["y"].item() == pytest.approx(5.25, rel=2e-3)


def test_every_result_is_rounded(tmp_path: Path) -> None:
    """1 + 2^-11 is 1 in fp16: a difference that a device loses would be there."""
    nodes = [
        helper.make_node("Add", ["x", "little"], ["sum"], name="add"),
        helper.make_node("Sub", ["sum", "x"], ["y"], name="sub"),
    ]
    session = reference(tmp_path, nodes, [half_constant("little", 2.0**-11)])
    assert session.run({"x": np.array([1.0], np.float16)})["y"].item() == 0.0
    assert session.run({"x": np.array([0.25], np.float16)})["y"].item() == 2.0**-11


def test_branches_are_rounded_too(tmp_path: Path) -> None:
    """A graph with a condition would not load, or hide what its branches do."""
    out = helper.make_tensor_value_info("end", HALF, [1])
    branch = helper.make_graph(chain("x", "end"), "branch", [], [out])
    nodes = [
        helper.make_node("Greater", ["x", "grow"], ["large"], name="compare"),
        helper.make_node("If", ["large"], ["y"], name="choose", then_branch=branch, else_branch=branch),
    ]
    assert np.isposinf(reference(tmp_path, nodes, CHAIN).run({"x": np.array([2000.0], np.float16)})["y"]).all()


def test_results_of_another_domain_are_rounded_too(tmp_path: Path) -> None:
    """ONNX does not know the type of ONNX Runtime's own operators, nor of anything behind them."""
    nodes = [
        helper.make_node("FusedMatMul", ["x", "grow"], ["grown"], name="up", domain="com.microsoft"),
        helper.make_node("Mul", ["grown", "grow"], ["more"], name="more"),
        helper.make_node("FusedMatMul", ["more", "shrink"], ["y"], name="down", domain="com.microsoft"),
    ]
    session = reference(tmp_path, nodes, CHAIN)
    assert np.isposinf(session.run({"x": np.array([1.0], np.float16)})["y"]).all()


def masked(operand: str = "mask") -> onnx.ModelProto:
    """The small CNN with fp32's lowest number added to a class; `keeps` reads it in fp32 and passes it on."""
    model = small_cnn()
    mask = np.zeros((1, 5), np.float32)
    mask[0, 4] = LOWEST
    model.graph.initializer.append(numpy_helper.from_array(mask, "mask"))
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.extend(
        [
            helper.make_node("Max", ["mask", "logits"], ["kept"], name="keeps"),
            helper.make_node("Add", [operand, "mask"], ["seen"], name="masks"),
            helper.make_node("Sub", ["seen", "kept"], ["scores"], name="both"),
        ]
    )
    return model


@pytest.mark.parametrize("operand", ["logits", "kept"])
def test_a_masks_lowest_number_becomes_that_of_fp16(cnn: Maker, operand: str) -> None:
    """Attention masks hold it: no such model could be cast, or it would be infinite."""
    bench = cnn(masked(operand), precision="fp16", method="Cast")
    made = bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, bench.spec.targets[0]))
    graph = onnx.load(made.entry).graph
    (adds,) = (node for node in graph.node if node.name == "masks")
    values = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    (used,) = (values[name] for name in adds.input if name in values)
    assert used.dtype == np.float16
    assert used.tolist() == [[0.0, 0.0, 0.0, 0.0, -65504.0]]
    (keeps,) = (node for node in graph.node if node.name == "keeps")
    assert any(values[name].min() == np.float32(LOWEST) for name in keeps.input if name in values)


def test_a_baseline_that_cannot_be_made_names_the_gate(cnn: Maker) -> None:
    """The user would be sent to a step that has nothing to do with it."""
    model = small_cnn()
    at = next(i for i, w in enumerate(model.graph.initializer) if w.name == "fc")
    model.graph.initializer[at].CopyFrom(numpy_helper.from_array(np.full((16, 5), 1e6, np.float32), "fc"))
    bench = cnn(model, precision="fp16", method="Cast")
    stage = quantize_stage(bench.spec.steps[0], "export", bench.spec, bench.spec.targets[0])
    with pytest.raises(InvalidInput, match=r"the FP16 baseline cannot be made: .*holds 1e\+06") as caught:
        bench.run(as_baseline(stage, Precision.FP16))
    told: Any = (caught.value.field, caught.value.mend)
    assert told == ("spec.gates.speedup.over", "compare over Original")
