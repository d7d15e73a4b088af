"""Execution providers of ONNX Runtime: which one a target means, and that no node strays to another without a word."""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from strop_api.targets import Target
from strop_job.backends import onnxruntime as backend
from strop_job.backends.providers import (
    CPU,
    CUDA,
    RECORD_PLACEMENT,
    TENSORRT,
    check_provider,
    placement,
    provider_for,
    require_placement,
    stray,
    tensorrt_provider_problem,
)
from strop_job.backends.refusals import first_line, out_of_memory, refused
from strop_job.errors import OutOfMemory, Unsupported

from .conftest import small_cnn


def target(provider: str = "Auto", *, accelerator: bool = False, **options: Any) -> Target:
    fields = {"name": "t", "runtime": "ONNXRuntime", "onnxRuntime": {"provider": provider, **options}}
    return Target.model_validate({**fields, **({"accelerator": {}} if accelerator else {})})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (target(), CPU),
        (target(accelerator=True), CUDA),
        (target("CPU"), CPU),
        (target("CUDA", accelerator=True), CUDA),
        (target("TensorRT", accelerator=True), TENSORRT),
    ],
)
def test_the_provider_is_the_targets(asked: Target, found: str) -> None:
    """`provider` would be decoration."""
    assert provider_for(asked) == found


def test_a_provider_that_is_not_installed_is_refused() -> None:
    """The session would be one on the CPU."""
    with pytest.raises(Unsupported, match=TENSORRT):
        check_provider(target("TensorRT", accelerator=True))


def provider_library(folder: Path, needed: bytes) -> Path:
    """A file that names a library as an ELF's dynamic section does."""
    (folder / "libonnxruntime_providers_tensorrt.so").write_bytes(b"\x7fELF\0libc.so.6\0" + needed + b"\0")
    return folder


def test_a_tensorrt_of_another_release_is_named_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is linked against one release of TensorRT; ONNX Runtime falls back when it finds another."""
    folder = provider_library(tmp_path, b"libnvinfer.so.10")
    monkeypatch.setattr("strop_job.backends.providers._version", lambda package: "11.4.0")
    problem = tensorrt_provider_problem(folder, loads=lambda name: name == "libnvinfer.so.11")
    assert problem == "it needs libnvinfer.so.10, that is TensorRT 10, and TensorRT 11.4.0 is installed"
    assert tensorrt_provider_problem(folder, loads=lambda name: name == "libnvinfer.so.10") is None
    assert "no TensorRT of that release can be loaded" not in problem


def test_a_tensorrt_library_that_is_absent_is_really_looked_for(tmp_path: Path) -> None:
    """The check would pass wherever the file exists."""
    assert "libnvinfer.so.9999" in (tensorrt_provider_problem(provider_library(tmp_path, b"libnvinfer.so.9999")) or "")
    assert "is not part of it" in (tensorrt_provider_problem(tmp_path / "nowhere") or "")


def test_compute_on_another_provider_is_found_and_shapes_are_not() -> None:
    """A GPU's figures would be those of a CPU; and a check that counts shapes would refuse every transformer."""
    shapes = [("shape", "Shape"), ("gather", "Gather"), ("reshape", "Reshape")]
    assert stray({CUDA: [("conv", "Conv")], CPU: shapes}, CUDA) == []
    assert stray({CUDA: [("conv", "Conv")], CPU: [*shapes, ("mm", "MatMulInteger")]}, CUDA) == [("mm", "MatMulInteger")]
    assert stray({TENSORRT: [("trt", "TRTKernel")], CUDA: [("mm", "MatMul")], CPU: shapes}, TENSORRT) == []
    assert stray({CUDA: [("mm", "MatMul")], CPU: shapes}, TENSORRT) == [("mm", "MatMul")]
    assert stray({CUDA: [], CPU: [("gqa", "GroupQueryAttention")]}, CUDA) == [("gqa", "GroupQueryAttention")]


def test_a_session_tells_where_its_nodes_are() -> None:
    """The check would look at nothing: what a session records is read from a real one."""
    options = ort.SessionOptions()
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    session = ort.InferenceSession(small_cnn().SerializeToString(), options, providers=[CPU])
    assert ("stem/conv", "Conv") in placement(session)[CPU]
    assert require_placement(session, target()) == {CPU: len(placement(session)[CPU])}
    with pytest.raises(Unsupported, match="fell back to CPUExecutionProvider"):
        require_placement(session, target(accelerator=True))


def test_a_node_that_strays_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user must know which node to keep out. The session stands for one of a GPU, which has no such kernel."""

    class Strayed:
        def get_providers(self) -> list[str]:
            return [CUDA, CPU]

    monkeypatch.setattr(
        "strop_job.backends.providers.placement",
        lambda session: {CUDA: [("conv", "Conv")], CPU: [("body/mm", "MatMulInteger"), ("shape", "Shape")]},
    )
    with pytest.raises(Unsupported, match=r"does not take `body/mm` \(MatMulInteger\): they would run") as caught:
        require_placement(Strayed(), target(accelerator=True))
    assert caught.value.field == "spec.targets[t].onnxRuntime.provider"


def test_arena_and_parallel_nodes_are_the_targets() -> None:
    """`memoryArena` and `interOpThreads` would be decoration."""
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    plain = backend.session_options(level, threads=2)
    asked = target(memoryArena=False, interOpThreads=3).onnx_runtime
    chosen = backend.session_options(level, threads=2, asked=asked)
    assert (plain.enable_cpu_mem_arena, chosen.enable_cpu_mem_arena) == (True, False)
    assert (plain.inter_op_num_threads, chosen.inter_op_num_threads) == (1, 3)
    assert plain.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert chosen.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert backend.run_options(target(memoryArena=False)) is None
    on_device = backend.run_options(target(memoryArena=False, accelerator=True))
    assert on_device is not None
    assert on_device.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "gpu:0"


# --- refusals ------------------------------------------------------------------------------------------------------


def refusal(model: onnx.ModelProto, folder: Path) -> Exception:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Exception) as caught:
        ort.InferenceSession(str(path), providers=[CPU])
    return refused(path, caught.value)


def bfloat_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["x"], ["short"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["short", "short"], ["wide"], name="body/product"),
        helper.make_node("Cast", ["wide"], ["y"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, 4]) for n in "xy"]
    short = helper.make_tensor_value_info("short", TensorProto.BFLOAT16, [4, 4])
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], value_info=[short])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("domain", ["", "acme"])
def test_an_unknown_operator_is_named_with_its_node(tmp_path: Path, domain: str) -> None:
    """Only one of the runtime's messages names the node; the user needs both."""
    model = small_cnn()
    model.graph.node[2].op_type, model.graph.node[2].domain = "Swoosh", domain
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    error = refusal(model, tmp_path)
    assert isinstance(error, Unsupported)
    assert "operator Swoosh of node `stem/relu`" in error.message
    assert str(tmp_path) not in str(error)


def test_an_operator_without_a_kernel_for_its_type_is_named_with_the_type(tmp_path: Path) -> None:
    """The operator itself is known, so that its name alone would mislead."""
    error = refusal(bfloat_model(), tmp_path)
    assert isinstance(error, Unsupported)
    assert "operator MatMul on bfloat16 of node `body/product`" in error.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running MatMul node. "
            "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::Alloc(size_t)"
            " Failed to allocate memory for requested buffer of size 2147483648",
            "ran out of memory: an allocation of 2,048 MiB failed",
        ),
        ("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0", "ran out of the device's memory"),
    ],
)
def test_memory_that_does_not_suffice_is_told_as_such(text: str, words: str) -> None:
    """The outcome of a refused model would send the user to look for a mistake in it."""
    error = refused(Path("model.onnx"), RuntimeError(text))
    assert isinstance(error, OutOfMemory)
    assert words in error.message
    assert out_of_memory(RuntimeError("Invalid rank for input")) is None


def test_words_of_the_runtime_come_without_codes_and_paths() -> None:
    """A status is for people."""
    noisy = "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /a/m.onnx failed:This is an invalid model."
    assert first_line(RuntimeError(noisy)) == "This is an invalid model."
