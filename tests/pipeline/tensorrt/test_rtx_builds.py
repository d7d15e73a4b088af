"""Real ahead-of-time builds of TensorRT-RTX: every precision, several profiles, and facts that claim nothing more."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.support import RTX_CAPABILITIES
from strop_api.targets import Runtime
from strop_job.backends import backend_for
from strop_job.backends.tensorrt import TensorRTRTXBackend
from strop_job.baselines import without_sparsity
from strop_job.errors import Evicted, Unsupported
from strop_job.stages import ArtifactKind

from .conftest import CNN_SOURCE, ENCODER_SOURCE, INT8, PRECISIONS, Work, cnn, encoder, narrowed, rtx_target

CAPABILITIES = ("8.9", "12.0")


def source_for(draw: Any, precision: str) -> dict[str, Any]:
    """The spec's model, its input in the type the graph has."""
    source = ENCODER_SOURCE if draw is encoder else CNN_SOURCE
    if "fp16" not in precision:
        return source
    inputs = [{**source["inputs"][0], "dtype": "float16"}]
    return {**source, "inputs": inputs}


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("draw", [encoder, cnn])
def test_every_precision_builds_for_every_generation(
    rtx: TensorRTRTXBackend, work: Work, draw: Any, precision: str, capability: str
) -> None:
    """A precision that the support table offers and the library refuses would end every such run."""
    target = rtx_target(capability)
    engine = rtx.compile(work(draw(**PRECISIONS[precision]), source_for(draw, precision), target))
    assert engine.kind is ArtifactKind.ENGINE
    assert engine.entry.stat().st_size == engine.facts["sizeBytes"] > 1000
    assert engine.facts["computeCapabilities"] == [capability]
    kinds = engine.facts["network"]["layersByType"]  # type: ignore[index,call-overload]
    assert ("DEQUANTIZE" in kinds) == ("quantized" in PRECISIONS[precision])


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_bf16_builds(rtx: TensorRTRTXBackend, work: Work, capability: str) -> None:
    """BF16 is offered for these targets: the graph computes in it and is served in fp32."""
    engine = rtx.compile(work(narrowed(encoder(), TensorProto.BFLOAT16), target=rtx_target(capability)))
    types = engine.facts["network"]["tensorsByType"]  # type: ignore[index,call-overload]
    assert types["BF16"] > types.get("FLOAT", 0)
    assert [i["dtype"] for i in engine.facts["inputs"]] == ["float32"]  # type: ignore[union-attr,index,call-overload]


def test_one_plan_serves_several_generations(rtx: TensorRTRTXBackend, work: Work) -> None:
    """`computeCapabilities` with several entries must yield one engine for all of them."""
    engine = rtx.compile(work(encoder(), target=rtx_target(*CAPABILITIES)))
    assert engine.facts["computeCapabilities"] == list(CAPABILITIES)


def test_the_same_build_gives_the_same_bytes(rtx: TensorRTRTXBackend, work: Work) -> None:
    """The facts say that an ahead-of-time build is deterministic; here it is proven, int8 with dynamic shapes."""
    first, second = (rtx.compile(work(encoder(quantized=INT8))) for _ in range(2))
    assert first.facts["rebuild"]["deterministic"] is True  # type: ignore[index,call-overload]
    assert first.entry.read_bytes() == second.entry.read_bytes()


def test_profiles_are_the_ranges_of_the_spec(rtx: TensorRTRTXBackend, work: Work) -> None:
    """An engine that serves another range than `spec.model.dimensions` would fail at the first odd batch."""
    engine = rtx.compile(work(encoder()))
    whole, optimum = engine.facts["profiles"]  # type: ignore[misc]
    assert whole["x"] == {"min": [1, 1, 16], "opt": [4, 8, 16], "max": [8, 32, 16]}
    assert optimum["x"] == {key: [4, 8, 16] for key in ("min", "opt", "max")}
    assert engine.facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, -1, 16]}]
    assert engine.facts["outputs"][0]["shape"] == [-1, -1, 16]  # type: ignore[index,call-overload]


def test_fixed_shapes_need_no_profile(rtx: TensorRTRTXBackend, work: Work) -> None:
    """A model without dynamic dimensions has one profile, whose ends are the same."""
    model = encoder()
    for value in (*model.graph.input, *model.graph.output):
        for dimension, size in zip(value.type.tensor_type.shape.dim, (2, 8, 16), strict=True):
            dimension.dim_value = size
    inputs = [{"name": "x", "dtype": "float32", "shape": [2, 8, 16]}]
    engine = rtx.compile(work(model, {"uri": "s3://m/m.onnx", "format": "Onnx", "inputs": inputs}))
    assert engine.facts["profiles"] == [{"x": {key: [2, 8, 16] for key in ("min", "opt", "max")}}]


def test_progress_rises_and_ends_with_the_build(rtx: TensorRTRTXBackend, work: Work) -> None:
    """The status shows the builder's own phases as a percentage; it must move and never go back."""
    told: list[tuple[float, str]] = []
    rtx.compile(work(cnn(), CNN_SOURCE, report=lambda share, text: told.append((share, text))))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert len({share for share, text in told if text.startswith("building the engine: ")}) >= 5
    assert shares[-1] == 1.0


def test_a_build_stops_when_the_pod_must_go(rtx: TensorRTRTXBackend, work: Work) -> None:
    """After SIGTERM the report raises Evicted; the builder must give up, not run to its end."""
    told: list[str] = []

    def evict(share: float, text: str) -> None:
        told.append(text)
        if len(told) == 4:
            raise Evicted("stopped by SIGTERM")

    asked = work(encoder(), report=evict)
    with pytest.raises(Evicted, match="SIGTERM"):
        rtx.compile(asked)
    assert len(told) == 4
    assert list(asked.folder.iterdir()) == []


def test_what_is_known_of_the_network_is_not_called_the_engine(rtx: TensorRTRTXBackend, work: Work) -> None:
    """Without a GPU nothing says what the engine computes with: a gate on realised precision must find nothing."""
    engine = rtx.compile(work(encoder(quantized=INT8)))
    assert "not of the engine" in engine.facts["network"]["note"]  # type: ignore[index,call-overload,operator]
    seen = rtx.inspect(engine, rtx_target(), {"x": (4, 8, 16)})
    assert seen.layers is None
    assert seen.note.startswith("not inspected: ")
    assert seen.macs is None


def test_compute_is_counted_from_the_graph(rtx: TensorRTRTXBackend, work: Work) -> None:
    """The inspector names ONNX nodes, not how much they compute: that is counted when the engine is built."""
    engine = rtx.compile(work(encoder(quantized=INT8)))
    tokens = 4 * 8
    compute = engine.facts["compute"]
    assert compute["macsByNode"] == {"up": tokens * 16 * 32, "down": tokens * 32 * 16}  # type: ignore[index,call-overload]


def test_an_engine_is_built_and_not_measured_without_its_gpu(rtx: TensorRTRTXBackend, work: Work) -> None:
    """Here the engine cannot run; saying anything else than "built, not measured" would be a lie."""
    target = rtx_target()
    engine = rtx.compile(work(encoder(), target=target))
    with pytest.raises(Unsupported, match="built, not measured"):
        rtx.open(engine, target, threads=1)


def quantized_by_hand(value: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Rounded to the zero point's type, and bounded by it."""
    scaled = value.astype(np.float32) / scale.astype(np.float32)
    if zero.dtype == np.int8:
        return np.clip(np.rint(scaled), -128, 127).astype(np.int8)
    return np.clip(scaled, -448, 448).astype(zero.dtype)


def by_hand(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The graph's answer by NumPy: every operator in fp32, its result rounded to the type the graph gives it."""
    known: dict[str, np.ndarray] = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    known[model.graph.input[0].name] = x
    for node in model.graph.node:
        first, *others = (known[name] for name in node.input)
        wide = first.astype(np.float32)
        match node.op_type:
            case "Cast":
                made = first.astype(helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
            case "MatMul":
                made = (wide @ others[0].astype(np.float32)).astype(first.dtype)
            case "Relu":
                made = np.maximum(wide, 0).astype(first.dtype)
            case "QuantizeLinear":
                made = quantized_by_hand(first, *others)
            case "DequantizeLinear":
                made = (wide * others[0].astype(np.float32)).astype(others[0].dtype)
            case _:
                raise AssertionError(node.op_type)
        known[node.output[0]] = made
    return known[model.graph.output[0].name]


@pytest.mark.parametrize("precision", [*PRECISIONS, "bf16"])
def test_the_reference_computes_every_precision(rtx: TensorRTRTXBackend, work: Work, precision: str) -> None:
    """Compile parity needs the graph as it is written: a reference that does not round finds every engine wrong.

    Sums may be taken in another order, which tips few roundings.
    """
    graph = narrowed(encoder(), TensorProto.BFLOAT16) if precision == "bf16" else encoder(**PRECISIONS[precision])
    x = np.random.default_rng(1).standard_normal((2, 3, 16)).astype(np.float32)
    session = rtx.open(work(graph).graph, rtx_target(), threads=1, optimized=False)
    given = x.astype(session.inputs["x"])
    (answer,) = session.run({"x": given}).values()
    session.close()
    expected, plain = by_hand(graph, given).astype(np.float32), by_hand(encoder(), x)
    near = np.isclose(answer.astype(np.float32), expected, rtol=1e-5, atol=1e-5)
    assert near.mean() > 0.75
    if precision != "fp32":
        assert np.isclose(answer.astype(np.float32), plain, rtol=1e-5, atol=1e-5).mean() < 0.25
        assert np.abs(answer - expected).max() < 0.5 * np.abs(plain - expected).max()


def test_an_ahead_of_time_engine_names_what_loads_it(rtx: TensorRTRTXBackend, work: Work) -> None:
    """A plan of one release is refused by the next: the facts must say which one loads it, never "TensorRT"."""
    facts = rtx.compile(work(encoder())).facts
    assert facts["runtime"] == "tensorrt-rtx"
    assert facts["loadsIn"] == f"TensorRT-RTX {'.'.join(rtx.library.version.split('.')[:3])} alone"
    assert facts["runsOn"] == "devices of compute capability 8.9"
    assert facts["builtOn"] is None


def pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The encoder with its weights pruned 2:4 along the summed dimension."""
    for at, weight in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(weight).copy()
        values[::4], values[1::4] = 0, 0
        model.graph.initializer[at].CopyFrom(numpy_helper.from_array(values, weight.name))
    return model


def test_sparse_weights_say_what_they_could_help_and_that_nothing_was_measured(
    rtx: TensorRTRTXBackend, work: Work
) -> None:
    """The flag alone makes nothing faster: weights must be 2:4 sparse, and only a timed run may say it helped."""
    target = rtx_target("8.9", sparseWeights=True)
    dense = rtx.compile(work(encoder(), target=target)).facts["sparseWeights"]
    sparse = rtx.compile(work(pruned(encoder()), target=target)).facts["sparseWeights"]
    assert (dense["eligibleNodes"], dense["helped"]) == (0, "no: no weight is 2:4 sparse")  # type: ignore[index,call-overload]
    assert (sparse["eligibleNodes"], sparse["helped"]) == (2, "not measured")  # type: ignore[index,call-overload]
    off = without_sparsity(target)
    assert rtx.compile(work(encoder(), target=off)).facts["sparseWeights"] is None


def test_the_runtime_finds_its_backend() -> None:
    """The planner knows the backend by a name alone; a wrong one would fail only in the pod."""
    assert type(backend_for(Runtime.TENSORRT_RTX)) is TensorRTRTXBackend


def test_the_table_of_generations_is_the_librarys_own(rtx: TensorRTRTXBackend) -> None:
    """Admission refuses what RTX_CAPABILITIES lacks; a library with others would make that a lie."""
    known = {name.removeprefix("SM") for name in rtx.library.trt.ComputeCapability.__members__ if name[:2] == "SM"}
    assert {capability.replace(".", "") for capability in RTX_CAPABILITIES} == known


def test_tensorrt_itself_says_which_extra_it_needs() -> None:
    """TensorRT's libraries are not on every worker: the error must name the image, not a missing module."""
    try:
        import tensorrt  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(Unsupported, match=r"strop\[tensorrt\]"):
            backend_for(Runtime.TENSORRT)
