"""The OpenVINO backend: what it compiles and opens, what it refuses, and in which words."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from strop_api.targets import Runtime, Target
from strop_job.backends import backend_for
from strop_job.backends import openvino_graphs as graphs
from strop_job.errors import InvalidInput, Unsupported
from strop_job.stages import Artifact, ArtifactKind

from .conftest import CPU, Bench, attention, small_cnn

OPENVINO = backend_for(Runtime.OPENVINO)
IMAGES = np.random.default_rng(3).standard_normal((4, 3, 16, 16)).astype(np.float32)


def run(artifact: Artifact, inputs: dict[str, np.ndarray], *, optimized: bool = True) -> dict[str, np.ndarray]:
    session = OPENVINO.open(artifact, CPU, threads=1, optimized=optimized, spinning=False)
    try:
        return session.run(inputs)
    finally:
        session.close()


def relative(value: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))


@pytest.fixture
def cnn(bench: Callable[..., Bench]) -> Bench:
    return bench(small_cnn())


def test_an_engine_computes_what_its_graph_says(cnn: Bench) -> None:
    """Converting changed the model; the reference is another runtime altogether."""
    engine = cnn.compile(cnn.made["export"])
    found, expected = run(engine, {"image": IMAGES}), run(cnn.made["export"], {"image": IMAGES}, optimized=False)
    assert found.keys() == expected.keys() == {"scores"}
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-4, atol=1e-5)


def test_an_engine_says_what_it_was_loaded_as(cnn: Bench) -> None:
    """The precision is bf16 in silence wherever the processor has it, unless it is said."""
    engine = cnn.compile(cnn.made["export"])
    facts = engine.facts
    assert engine.files == ("engine.xml", "engine.bin")
    assert facts["sizeBytes"] == sum((engine.folder / name).stat().st_size for name in engine.files)
    assert facts["inputs"] == [{"name": "image", "dtype": "float32", "shape": [-1, 3, 16, 16]}]
    assert facts["outputs"] == [{"name": "scores", "dtype": "float32", "shape": [-1, 5]}]
    assert (facts["inferencePrecision"], facts["performanceHint"]) == ("f32", "Latency")
    assert (facts["streams"], facts["threads"]) == (1, 1)


def test_the_hint_is_the_targets(cnn: Bench) -> None:
    """`performanceHint` would be decoration."""
    asked = {**CPU.model_dump(by_alias=True), "openVINO": {"performanceHint": "Throughput"}, "cpu": {"threads": 2}}
    facts = cnn.compile(cnn.made["export"], Target.model_validate(asked)).facts
    assert facts["performanceHint"] == "Throughput"


def test_the_engine_holds_the_range_of_sizes(cnn: Bench) -> None:
    """Sizes nobody verified would be served; with one size the engine could be faster and is not."""
    engine = cnn.compile(cnn.made["export"])
    image = graphs.read(engine).input("image").get_partial_shape()
    assert (image[0].get_min_length(), image[0].get_max_length()) == (1, 9)
    for size in (1, 9):
        assert run(engine, {"image": np.resize(IMAGES, (size, 3, 16, 16))})["scores"].shape == (size, 5)


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"image": np.zeros((1, 3, 16, 16), np.float64)}, "float32"),
        ({"image": np.zeros((1, 4, 16, 16), np.float32)}, r"\[1\.\.9, 3, 16, 16\]"),
        ({"image": np.zeros((10, 3, 16, 16), np.float32)}, r"\[1\.\.9, 3, 16, 16\]"),
        ({"image": np.zeros((3, 16, 16), np.float32)}, "4 dimensions"),
        ({"picture": np.zeros((1, 3, 16, 16), np.float32)}, "it takes image"),
        ({}, "it takes image"),
    ],
)
def test_inputs_that_do_not_fit_are_the_users_to_mend(cnn: Bench, inputs: dict[str, np.ndarray], why: str) -> None:
    """OpenVINO converts types, and takes a missing input from the call before: the answer would be of other data."""
    engine = cnn.compile(cnn.made["export"])
    with pytest.raises(InvalidInput, match=why) as caught:
        run(engine, inputs)
    assert caught.value.field == "spec.model.inputs"


def test_shapes_that_the_graph_cannot_have_are_refused(bench: Callable[..., Bench]) -> None:
    """The engine would be made for a spec that is not this model's."""
    cnn = bench(small_cnn())
    wrong = cnn.spec.model.model_copy(
        update={"inputs": [cnn.spec.model.inputs[0].model_copy(update={"shape": ["batch", 4, 16, 16]})]}
    )
    cnn.spec = cnn.spec.model_copy(update={"model": wrong})
    with pytest.raises(InvalidInput, match="cannot have the shapes") as caught:
        cnn.compile(cnn.made["export"])
    assert caught.value.field == "spec.model.inputs"
    assert "/src/" not in caught.value.message


def test_names_survive_an_operation_that_does_nothing(bench: Callable[..., Bench]) -> None:
    """Dropped, it leaves two names on one tensor, and an output would be called after the wrong one."""
    model = small_cnn()
    model.graph.node[-1].output[0] = "inner"
    model.graph.node.append(helper.make_node("Identity", ["inner"], ["scores"], name="same"))
    cnn = bench(model)
    engine = cnn.compile(cnn.made["export"])
    assert list(run(engine, {"image": IMAGES})) == ["scores"]


def test_a_closed_session_runs_nothing(cnn: Bench) -> None:
    """Memory that was given back would be read."""
    session = OPENVINO.open(cnn.made["export"], CPU, threads=1)
    assert session.inputs == {"image": np.dtype(np.float32)}
    assert session.outputs == ("scores",)
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.run({"image": IMAGES})


@pytest.mark.parametrize("make", [small_cnn, attention])
def test_the_reference_of_a_quantized_model_is_its_meaning_in_floats(
    bench: Callable[..., Bench], make: Callable[[], onnx.ModelProto]
) -> None:
    """Compile parity would hold the engine against itself, or against the original."""
    ready = bench(make())
    name = ready.spec.model.inputs[0].name
    inputs = {name: np.random.default_rng(5).standard_normal(ready.shapes()[name]).astype(np.float32)}
    made = ready.quantize()
    (out,) = run(made, inputs)
    engine, meant = run(ready.compile(made), inputs)[out], run(made, inputs, optimized=False)[out]
    original = run(ready.made["export"], inputs, optimized=False)[out]
    own = relative(meant, original)
    assert 1e-4 < own < 0.2
    assert relative(engine, meant) < 0.75 * own
    in_floats = graphs.read(made)
    graphs.in_floats(in_floats)
    assert not any(n.get_type_name() == "FakeQuantize" for n in graphs.operations(in_floats))
    assert not graphs.LOW_BITS & graphs.compressed(in_floats).keys()


def test_arithmetic_is_read_from_the_model(bench: Callable[..., Bench]) -> None:
    """The tolerance of compile parity would be that of another kind of model."""
    cnn = bench(small_cnn())
    plain, rounded = OPENVINO.arithmetic(cnn.made["export"]), OPENVINO.arithmetic(cnn.quantize())
    assert (plain.integer, plain.half) == (False, False)
    assert (rounded.integer, rounded.half) == (True, False)


def test_arithmetic_of_a_cast_model_is_half(bench: Callable[..., Bench]) -> None:
    """Rounding to fp16 would be held against the tolerance of fp32."""
    halved = OPENVINO.arithmetic(bench(small_cnn(), precision="fp16", method="Cast").quantize())
    assert (halved.integer, halved.half) == (False, True)


def test_an_accelerator_is_refused(cnn: Bench) -> None:
    """Figures of a CPU would be published for a GPU."""
    target = Target.model_validate({"name": "gpu", "runtime": "OpenVINO", "accelerator": {}})
    for attempt in (lambda: OPENVINO.check(target), lambda: cnn.compile(cnn.made["export"], target)):
        with pytest.raises(Unsupported, match="accelerator") as caught:
            attempt()
        assert caught.value.field == "spec.targets[gpu].accelerator"


@pytest.mark.parametrize(("opset", "ir"), [(99, 10), (18, 99)])
def test_a_graph_newer_than_onnx_says_so(cnn: Bench, opset: int, ir: int) -> None:
    """OpenVINO takes any version number and reads the graph by the rules it knows."""
    path = cnn.made["export"].entry
    model = onnx.load(path)
    model.opset_import[0].version, model.ir_version = opset, ir
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Unsupported, match=rf"IR {ir}, opset ai\.onnx {opset}") as caught:
        cnn.compile(cnn.made["export"])
    assert "older opset" in (caught.value.mend or "")


def test_an_unknown_operator_is_named_with_its_node(cnn: Bench) -> None:
    """The user would search the whole model."""
    path = cnn.made["export"].entry
    model = onnx.load(path)
    model.graph.node[3].op_type, model.graph.node[3].domain = "Swoosh", "acme"
    model.opset_import.append(helper.make_opsetid("acme", 1))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Unsupported, match=r"acme\.Swoosh.*at `body/act`") as caught:
        cnn.compile(cnn.made["export"])
    assert "/src/" not in caught.value.message


def test_a_damaged_graph_is_refused(cnn: Bench) -> None:
    """Every frontend would try to read it, and each would write to standard error."""
    path = cnn.made["export"].entry
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InvalidInput, match=r"model\.onnx"):
        cnn.compile(cnn.made["export"])


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("engine.xml", lambda content: content[: len(content) // 2]),
        ("engine.xml", lambda content: b""),
        ("engine.bin", lambda content: content[:100]),
        ("engine.bin", lambda content: b""),
    ],
)
def test_a_damaged_engine_is_refused(cnn: Bench, file: str, damage: Callable[[bytes], bytes]) -> None:
    """A traceback of the runtime would be the status."""
    engine = cnn.compile(cnn.made["export"])
    (engine.folder / file).write_bytes(damage((engine.folder / file).read_bytes()))
    with pytest.raises(InvalidInput, match=r"engine\.xml") as caught:
        run(engine, {"image": IMAGES})
    assert str(engine.folder) not in caught.value.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (' version="11"', ' version="12"'),
        ('version="opset1"', 'version="opset99"'),
    ],
)
def test_an_engine_from_a_newer_openvino_says_so(cnn: Bench, old: str, new: str) -> None:
    """The user would believe the file is damaged, and compile it again with the same result."""
    engine = cnn.compile(cnn.made["export"])
    text = engine.entry.read_text()
    assert old in text
    text = text.replace(old, new).replace('"OpenVINO Runtime" value="20', '"OpenVINO Runtime" value="21')
    engine.entry.write_text(text)
    with pytest.raises(Unsupported, match=r"which OpenVINO 21[0-9.]+ wrote, is too new"):
        run(engine, {"image": IMAGES})
    assert engine.kind is ArtifactKind.ENGINE
