"""When an engine is not its graph, the first layer that diverges is named; when that cannot be known, it is said."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx
import pytest

from strop_job.backends import Compilation, backend_for
from strop_job.backends.onnxruntime import OnnxRuntimeBackend
from strop_job.judgement.gates import judge
from strop_job.stages import Artifact, ArtifactKind, NoCache
from strop_job.steps.compile import compile_stage
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.verify import verify_stage
from strop_job.verification import divergence
from strop_job.verification.divergence import Lab, Suspect, locate
from strop_job.verification.locate import SHOWN_AT_ONCE, Search
from strop_job.verification.marking import Spot

from .conftest import LAYERS, Bench, altered, deep

INT8 = [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}]


def compiled(bench: Bench, last: str = "export") -> Bench:
    target = bench.spec.targets[0]
    bench.run(compile_stage("compile", last, bench.spec, target))
    bench.run(compile_stage("compile-original", "export", bench.spec, target))
    return bench


def verified(bench: Bench, last: str = "export", **instead: Artifact) -> Artifact:
    return bench.run(verify_stage(bench.spec, bench.spec.targets[0], last), **instead)


def planted(bench: Bench, last: str, weight: str) -> Artifact:
    """An engine of the graph with one weight altered."""
    wrong = bench.save("planted", altered(onnx.load(bench.made[last].entry), weight))
    return bench.run(compile_stage("compile", "planted", bench.spec, bench.spec.targets[0]), planted=wrong)


@pytest.mark.parametrize("layer", [0, 23, LAYERS - 1])
def test_the_altered_layer_of_a_deep_engine_is_named(make_bench, layer: int) -> None:
    """A person would bisect a hundred layers by hand."""
    bench = compiled(make_bench())
    made = verified(bench, compile=planted(bench, "export", f"w{layer}"))
    assert made.facts["parity"]["passed"] is False
    found = made.facts["parity"]["divergence"]
    assert (found["node"], found["operator"]) == (f"block{layer}/matmul", "MatMul")
    assert found["error"] > made.facts["parity"]["tolerance"]
    message = judge(bench.spec, bench.spec.targets[0], made, None, 1).gates[0].message
    assert f"first diverging layer: MatMul `block{layer}/matmul`, off by " in message


def test_the_altered_layer_of_an_integer_engine_is_named(make_bench) -> None:
    """Rounding differs everywhere in an integer engine; the search would stop at the first rounding that tipped."""
    bench = make_bench(steps=INT8)
    bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, bench.spec.targets[0]))
    compiled(bench, "int8")
    assert "divergence" not in verified(bench, "int8").facts["parity"]
    weight = next(w.name for w in onnx.load(bench.made["int8"].entry).graph.initializer if w.name.startswith("w17_q"))
    found = verified(bench, "int8", compile=planted(bench, "int8", weight)).facts["parity"]["divergence"]
    assert found["node"].startswith("block17/matmul")


OPENVINO = [{"name": "cpu", "runtime": "OpenVINO", "cpu": {"threads": 1}}]


def test_the_altered_layer_of_an_openvino_engine_is_named(make_bench) -> None:
    """Only one runtime's faults could be located."""
    bench = compiled(make_bench(targets=OPENVINO))
    assert "divergence" not in verified(bench).facts["parity"]
    found = verified(bench, compile=planted(bench, "export", "w23")).facts["parity"]["divergence"]
    assert "block23/matmul" in (found["node"], *found["with"])


def test_the_altered_layer_of_a_quantized_openvino_engine_is_named(make_bench) -> None:
    """IR goes by other names than ONNX."""
    bench = make_bench(targets=OPENVINO, steps=INT8)
    bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, bench.spec.targets[0]))
    compiled(bench, "int8")
    right = verified(bench, "int8")
    assert "divergence" not in right.facts["parity"]
    other = make_bench(altered(deep(), "w23", factor=-3), targets=OPENVINO, steps=INT8)
    step = other.run(quantize_stage(other.spec.steps[0], "export", other.spec, other.spec.targets[0]))
    wrong = other.run(compile_stage("compile", "int8", other.spec, other.spec.targets[0]), int8=step)
    found = verified(bench, "int8", compile=wrong).facts["parity"]["divergence"]
    assert "block23" in " ".join((found["node"], *found["with"]))


def test_a_right_engine_has_no_divergence(make_bench) -> None:
    """A report would name a layer where nothing is wrong."""
    assert "divergence" not in verified(compiled(make_bench())).facts["parity"]


class WrongCompiler(OnnxRuntimeBackend):
    """Compiles one layer wrongly, every time; `unless` an output keeps it from being fused."""

    def __init__(self, weight: str, unless: str = "") -> None:
        self.weight, self.unless, self.compilations = weight, unless, 0

    def compile(self, work: Compilation) -> Artifact:
        self.compilations += 1
        model = onnx.load(work.graph.entry)
        if self.unless not in {output.name for output in model.graph.output}:
            model = altered(model, self.weight)
        folder = work.folder.with_name("wrong")
        folder.mkdir(exist_ok=True)
        onnx.save(model, folder / "model.onnx")
        return super().compile(replace(work, graph=Artifact(work.graph.kind, folder, ("model.onnx",))))


def laboratory(bench: Bench, backend: OnnxRuntimeBackend) -> Lab:
    context = bench.context({}, "lab")
    return Lab(backend, context.target, context.spec.model, 1, context.folder, context.report, NoCache())


def suspect(bench: Bench, backend: OnnxRuntimeBackend, folder: Path) -> Suspect:
    graph, spec = bench.made["export"], bench.spec
    engine = backend.compile(Compilation(graph, spec.model, spec.targets[0], folder, print, NoCache()))
    import numpy as np

    x = np.random.default_rng(2).normal(size=(4, 32)).astype(np.float32)
    return Suspect(engine, graph, {"x": x}, 1e-3)


@pytest.fixture
def opaque(monkeypatch) -> None:
    """Engines that show nothing, as those of most compilers."""
    monkeypatch.setattr(divergence, "engine_marker", lambda engine, target: None)


def test_an_engine_that_shows_nothing_is_compiled_anew_a_few_times(make_bench, tmp_path, opaque) -> None:
    """Only engines that are graphs could be looked into, or each layer would cost a compilation."""
    bench, wrong = make_bench(), WrongCompiler("w31")
    (tmp_path / "engine").mkdir()
    found = locate(suspect(bench, wrong, tmp_path / "engine"), laboratory(bench, wrong))
    assert found.spot is not None
    assert found.spot.node == "block31/matmul"
    assert wrong.compilations <= 6


def test_what_vanishes_under_the_look_is_said_to_appear_only_when_fused(make_bench, tmp_path, opaque) -> None:
    """A layer would be named that is right when it runs alone."""
    bench, wrong = make_bench(), WrongCompiler("w31", unless="m31")
    (tmp_path / "engine").mkdir()
    found = locate(suspect(bench, wrong, tmp_path / "engine"), laboratory(bench, wrong))
    assert found.spot is None
    assert "only when the layers `block" in found.note


def test_a_graph_that_shows_no_tensor_says_so(make_bench) -> None:
    """A message would name nothing, or the run would end in a trace instead of its verdict."""
    bench = compiled(make_bench())
    program = replace(bench.made["export"], kind=ArtifactKind.EXPORTED_PROGRAM)
    found = locate(
        Suspect(bench.made["compile"], program, {}, 1e-3), laboratory(bench, backend_for(bench.spec.targets[0].runtime))
    )
    assert found.facts() == {"note": "the layer is not located for ONNXRuntime: its graph shows no inner tensor"}


def line(count: int) -> list[Spot]:
    return [Spot(f"t{i}", f"n{i}", "Relu", (f"t{i - 1}",) if i else ()) for i in range(count)]


def errors_from(first: int, count: int, looks: list[int], names: Sequence[str]) -> Mapping[str, float]:
    looks.append(len(names))
    return {name: 0.5 if int(name[1:]) >= first else 1e-7 for name in (*names, f"t{count - 1}")}


@pytest.mark.parametrize("first", [0, 1, 4_999, 9_999])
def test_one_layer_of_ten_thousand_is_found_in_a_few_looks(first: int) -> None:
    """A look may cost a compilation of minutes."""
    looks: list[int] = []
    spots = line(10_000)
    found = Search(spots, {s.tensor for s in spots}, partial(errors_from, first, 10_000, looks), 1e-3).run()
    assert found.spot == spots[first]
    assert len(looks) <= 5
    assert max(looks) <= SHOWN_AT_ONCE


def test_an_error_on_another_branch_is_followed_to_its_birth() -> None:
    """The first wrong tensor in order may only read the layer that is wrong."""
    left = [Spot(f"l{i}", f"left{i}", "MatMul", (f"l{i - 1}",) if i else ()) for i in range(50)]
    right = [Spot(f"r{i}", f"right{i}", "MatMul", (f"r{i - 1}",) if i else ()) for i in range(50)]
    spots = [*left, *right, Spot("sum", "sum", "Add", ("l49", "r49"))]
    wrong = {f"l{i}" for i in range(33, 50)} | {"sum"}
    found = Search(
        spots, {s.tensor for s in spots}, lambda names: {n: 0.2 * (n in wrong) for n in (*names, "sum")}, 1e-3
    )
    assert found.run().spot == left[33]


def test_the_deep_graph_has_more_layers_than_one_look_shows() -> None:
    """The search would be tested where it need not search."""
    assert len(deep().graph.node) > 4 * SHOWN_AT_ONCE
