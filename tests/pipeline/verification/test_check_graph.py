"""Figures of a graph whose engine cannot run here: apart from the engine's, and honest where there are none."""

import onnx
from onnx import helper

from strop_job.judgement.evidence import gather
from strop_job.steps.check_graph import check_graph_stage
from strop_job.steps.quantize import quantize_stage

from .conftest import deep

INT8 = [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}]


def test_what_quantization_did_to_the_graph_is_measured(make_bench) -> None:
    """A user without the device could not know whether the build is worth carrying there."""
    bench = make_bench(deep(6), steps=INT8)
    bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, bench.spec.targets[0]))
    seen = bench.run(check_graph_stage(bench.spec, "int8")).facts["graph"]
    assert seen["metric"]["samples"] == 64
    assert 0.9 < seen["fidelity"]["cosine"] < 1.0


def test_no_gate_can_see_it(make_bench) -> None:
    """The graph's accuracy would pass for the engine's."""
    bench = make_bench(deep(6), steps=INT8)
    bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, bench.spec.targets[0]))
    seen = gather(bench.run(check_graph_stage(bench.spec, "int8")), None, None)
    assert (seen.metric, seen.parity, seen.fidelity, seen.inspection) == (None, None, {}, {})


def test_a_graph_that_no_cpu_computes_stops_nothing(make_bench) -> None:
    """A build for a device would fail for what only this machine lacks."""
    bench = make_bench(deep(2))
    foreign = onnx.ModelProto()
    foreign.CopyFrom(deep(2))
    foreign.graph.node[-1].CopyFrom(
        helper.make_node("OnlyOnDevices", list(foreign.graph.node[-1].input), ["r1"], name="last", domain="com.device")
    )
    foreign.opset_import.append(helper.make_opsetid("com.device", 1))
    bench.save("int8", foreign)
    seen = bench.run(check_graph_stage(bench.spec, "int8")).facts["graph"]
    assert set(seen) == {"note"}
    assert "OnlyOnDevices" in seen["note"]
