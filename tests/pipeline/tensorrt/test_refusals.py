"""Bad input: what the library would refuse without a word, or in C++, is refused in words that name the mend."""

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from strop_api.targets import Target
from strop_job.backends.tensorrt import TensorRTRTXBackend
from strop_job.backends.tensorrt.build import failed
from strop_job.backends.tensorrt.library import Heard, plain
from strop_job.errors import InvalidInput, OutOfMemory, StropError, Unsupported

from .conftest import CNN_SOURCE, ENCODER_SOURCE, INT8, Work, cnn, encoder, rtx_target, trt_target


def message_of(error: pytest.ExceptionInfo[StropError]) -> str:
    """The message, which must tell nothing of the library's own source."""
    text = str(error.value)
    assert ".cpp" not in text
    assert "/_src" not in text
    assert "::" not in text
    return text


@pytest.mark.parametrize("operator", ["Frobnicate", "Det"])
def test_an_unsupported_operator_is_named_with_its_node(rtx: TensorRTRTXBackend, work: Work, operator: str) -> None:
    """An unknown and a known but unsupported operator: without the node nobody finds it in the model."""
    model = encoder()
    model.graph.node[1].op_type = operator
    model.graph.node[1].name = "block/3/strange"
    with pytest.raises(Unsupported) as error:
        rtx.compile(work(model))
    assert f"operator {operator} of node block/3/strange" in message_of(error)
    assert error.value.field == "spec.model.uri"


def test_an_asymmetric_int8_graph_is_refused_with_its_node(rtx: TensorRTRTXBackend, work: Work) -> None:
    """The format for CPUs is not TensorRT's; a graph quantized for a CPU must be refused, not built wrong."""
    with pytest.raises(StropError) as error:
        rtx.compile(work(encoder(quantized=INT8, zero_point=3)))
    assert "QuantizeLinear" in message_of(error)


def test_a_newer_opset_is_refused_by_number(rtx: TensorRTRTXBackend, work: Work) -> None:
    """The parser takes opset 99 as its own newest: operators with new meanings would compute the old ones."""
    model = encoder()
    model.opset_import[0].version = 99
    with pytest.raises(Unsupported, match=r"opset 99.* up to 25"):
        rtx.compile(work(model))


def test_a_newer_ir_version_is_refused_by_number(rtx: TensorRTRTXBackend, work: Work) -> None:
    """As with the opset: the parser does not look at it."""
    model = encoder()
    model.ir_version = 99
    with pytest.raises(Unsupported, match=rf"IR version 99.* up to {onnx.IR_VERSION}"):
        rtx.compile(work(model))


def test_a_file_that_is_no_model_is_refused(rtx: TensorRTRTXBackend, work: Work) -> None:
    """A truncated upload must not end as an internal error."""
    with pytest.raises(InvalidInput, match="no readable ONNX model"):
        rtx.compile(work(b"junk" * 100))


def test_a_range_that_the_graph_has_fixed_is_refused(rtx: TensorRTRTXBackend, work: Work) -> None:
    """A graph exported with a fixed batch cannot serve a range; the library would only fail at the first call."""
    model = encoder()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    with pytest.raises(
        InvalidInput, match="dimension 0 of the graph's input x is fixed at 4, the spec asks for 1 to 8"
    ):
        rtx.compile(work(model))


def test_an_input_that_the_spec_does_not_name_is_refused(rtx: TensorRTRTXBackend, work: Work) -> None:
    """An input without a range has no profile."""
    with pytest.raises(InvalidInput, match=r"input x \[-1, -1, 16\] that the spec does not name"):
        rtx.compile(work(encoder(), CNN_SOURCE))


def test_a_wrong_number_of_dimensions_is_refused(rtx: TensorRTRTXBackend, work: Work) -> None:
    """A slip in `spec.model.inputs` is told as such."""
    inputs = [{"name": "x", "dtype": "float32", "shape": ["batch", 16]}]
    dimensions = ENCODER_SOURCE["dimensions"][:1]  # type: ignore[index]
    with pytest.raises(InvalidInput, match="has 3 dimensions, the spec gives it 2"):
        rtx.compile(work(encoder(), {**ENCODER_SOURCE, "inputs": inputs, "dimensions": dimensions}))


def test_an_output_that_numpy_lacks_is_refused(rtx: TensorRTRTXBackend, work: Work) -> None:
    """A bf16 output could be built and never be compared with anything."""
    model = encoder()
    made = model.graph.output[0]
    model.graph.node.append(helper.make_node("Cast", [made.name], ["short"], name="short", to=TensorProto.BFLOAT16))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("short", TensorProto.BFLOAT16, None))
    with pytest.raises(Unsupported, match="output short is of type BF16"):
        rtx.compile(work(model))


@pytest.mark.parametrize("capability", ["9.0", "10.0"])
def test_a_generation_that_it_does_not_build_for_is_refused(
    rtx: TensorRTRTXBackend, work: Work, capability: str
) -> None:
    """TensorRT-RTX knows no Hopper; the error must send the user to TensorRT."""
    with pytest.raises(Unsupported, match=rf"does not build for compute capability {capability}.*use TensorRT"):
        rtx.compile(work(encoder(), target=rtx_target(capability)))


def test_a_graph_that_a_generation_cannot_compute_names_the_operation(rtx: TensorRTRTXBackend, work: Work) -> None:
    """FP32 products are not built for Turing: the builder's own words, with the way out."""
    with pytest.raises(Unsupported) as error:
        rtx.compile(work(encoder(), target=rtx_target("7.5")))
    text = message_of(error)
    assert "FP32 GEMM is not supported" in text
    assert "choose a newer compute capability" in text


def test_without_capabilities_and_without_a_device_nothing_is_built(rtx: TensorRTRTXBackend, work: Work) -> None:
    """There is nothing to build for."""
    if rtx.device() is not None:
        pytest.skip("a GPU is visible here")
    target = Target.model_validate(
        {"name": "rtx", "runtime": "TensorRTRTX", "accelerator": {"resource": "nvidia.com/gpu"}}
    )
    with pytest.raises(Unsupported, match="none is visible here"):
        rtx.compile(work(encoder(), target=target))


def test_a_workspace_that_is_too_small_is_named(rtx: TensorRTRTXBackend, work: Work) -> None:
    """A real refusal of the builder: the field to change must be told."""
    with pytest.raises(InvalidInput) as error:
        rtx.compile(work(cnn(), CNN_SOURCE, rtx_target("8.9", workspace="1")))
    assert error.value.field == "spec.targets[rtx].tensorRTRTX.workspace"
    assert "workspace" in message_of(error)


OUT_OF_MEMORY = (
    "[virtualMemoryBuffer.cpp::resizePhysical::160] Error Code 2: OutOfMemory (no further information)",
    "Requested amount of GPU memory (4294967296 bytes) could not be allocated. There may not be enough free memory for "
    "allocation to succeed.",
)
"""As TensorRT logs it; from what users of github.com/marcoslucianops/DeepStream-Yolo report."""


@pytest.mark.parametrize("said", OUT_OF_MEMORY)
def test_out_of_device_memory_while_building_names_the_workspace(said: str) -> None:
    """It cannot happen here; the words that TensorRT logs then must lead to the right field."""
    error = failed(Heard(errors=[said]), "TensorRT", trt_target())
    assert isinstance(error, OutOfMemory)
    assert error.field == "spec.targets[l4].tensorRT.workspace"
    assert "device's memory did not suffice" in error.message


def test_a_failure_nobody_foresaw_is_told_in_the_builders_words() -> None:
    """An unknown failure must not become "internal error"."""
    said = "IBuilder::buildSerializedNetwork: Error Code 10: Could not find any implementation for node {ForeignNode}."
    error = failed(Heard(errors=[said]), "TensorRT", trt_target())
    assert "Could not find any implementation for node {ForeignNode}" in error.message
    assert "buildSerializedNetwork" not in error.message


def test_a_builder_that_says_nothing_still_ends_with_an_error() -> None:
    """No plan and no message must not read as success."""
    assert "does not say why" in failed(Heard(), "TensorRT", trt_target()).message


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Error Code 1: Myelin ([pass.cpp:337: check_turing_op_compatibility] Cannot compile operation 'mm'. In "
            "compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)",
            "Error Code 1: Myelin (Cannot compile operation 'mm'.)",
        ),
        ("ModelImporter.cpp:140: While parsing node number 2", "While parsing node number 2"),
    ],
)
def test_messages_lose_places_in_the_librarys_source(said: str, told: str) -> None:
    """Paths of NVIDIA's build machine tell a user nothing and fill the status."""
    assert plain(said) == told


def test_a_damaged_engine_is_not_loaded(rtx: TensorRTRTXBackend, work: Work) -> None:
    """The library returns nothing for such a file; the error must be ours, whatever it logs."""
    engine = rtx.compile(work(encoder()))
    runtime_errors: Any = Heard(errors=["IRuntime::deserializeCudaEngine: Error Code 1: Serialization (bad magic)"])
    trt = rtx.library.trt
    from strop_job.backends.tensorrt.library import listener

    logger = listener(trt, Heard())
    error = rtx._not_loaded(trt.Runtime(logger), engine.entry.read_bytes()[:100], runtime_errors, rtx_target())
    assert isinstance(error, InvalidInput)
    assert "does not load the engine" in error.message
