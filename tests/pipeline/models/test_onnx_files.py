"""ONNX files from outside: what is refused, and that the message names the place."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_job.errors import InvalidInput, StropError, Unsupported
from strop_job.models.onnx_files import match_inputs, normalise, opset_of, read_graph

from .conftest import CNN, model, source

ONNX = {**CNN, "format": "Onnx", "architecture": None}


def build(
    *, op: str = "Mul", domain: str = "", weight: np.ndarray | None = None, opset: int = 17, batch: str | int = "batch"
) -> onnx.ModelProto:
    """`y = op(image, w)`."""
    w = numpy_helper.from_array(np.ones((1, 1, 8, 8), np.float32) if weight is None else weight, "w")
    graph = helper.make_graph(
        [helper.make_node(op, ["image", "w"], ["y"], domain=domain)],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [w],
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def saved(folder: Path, given: onnx.ModelProto) -> Path:
    """The model on the disk."""
    path = folder / "model.onnx"
    path.write_bytes(given.SerializeToString())
    return path


def external(given: onnx.ModelProto, location: str) -> onnx.ModelProto:
    """The model with its weight in a file."""
    tensor = given.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return given


WRONG: dict[str, tuple[Callable[[], onnx.ModelProto], type[StropError], str]] = {
    "escape upwards": (lambda: external(build(), "../secret"), InvalidInput, "'w' lies outside the model's folder"),
    "absolute path": (lambda: external(build(), "/etc/passwd"), InvalidInput, "'w' lies outside"),
    "missing data": (
        lambda: external(build(), "gone.data"),
        InvalidInput,
        "external data of 'w' is missing: 'gone.data'",
    ),
    "unknown domain": (lambda: build(op="Fancy", domain="acme"), Unsupported, "acme::Fancy"),
    "unknown operator": (lambda: build(op="Fancy"), Unsupported, "ai.onnx::Fancy"),
    "too new": (lambda: build(opset=27), Unsupported, "opset is 27"),
    "NaN": (lambda: build(weight=np.full((1, 1, 8, 8), np.nan, np.float32)), InvalidInput, "'w' holds NaN"),
    "Inf in half": (lambda: build(weight=np.full((1, 1, 8, 8), np.inf, np.float16)), InvalidInput, ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_file_is_refused_with_the_field_and_the_place(tmp_path: Path, case: str) -> None:
    """It would crash a runtime, read a stranger's file, or run for an hour and publish nothing."""
    make, error, message = WRONG[case]
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 256)
    with pytest.raises(error, match=r"spec\.model\.uri") as caught:
        read_graph(source(saved(tmp_path / "in", make())))
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09" * 40])
def test_what_is_no_onnx_file_is_called_so(tmp_path: Path, content: bytes) -> None:
    """Users would see a protobuf error."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"spec\.model\.uri: model\.onnx cannot be read as ONNX"):
        read_graph(source(path))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """Half an upload would pass for a model."""
    path = saved(tmp_path, build())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InvalidInput, match=r"spec\.model\.uri"):
        read_graph(source(path))


def test_a_link_out_of_the_folder_is_an_escape_too(tmp_path: Path) -> None:
    """`weights.bin` may be a link to anything."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 256)
    (tmp_path / "in" / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match="outside the model's folder"):
        read_graph(source(saved(tmp_path / "in", external(build(), "w.bin"))))


def test_external_data_inside_the_folder_is_read(tmp_path: Path) -> None:
    """Models above 2 GiB could not come in."""
    (tmp_path / "w.bin").write_bytes(np.ones((1, 1, 8, 8), np.float32).tobytes())
    read_graph(source(saved(tmp_path, external(build(), "w.bin")), "w.bin"))


MISMATCHES = {
    "name": (
        {"name": "pixels", "dtype": "float32", "shape": ["batch", 1, 8, 8]},
        r"spec\.model\.inputs: .* image.* pixels",
    ),
    "type": ({"name": "image", "dtype": "uint8", "shape": ["batch", 1, 8, 8]}, r"inputs\[0\]\.dtype: .*float32.*uint8"),
    "rank": (
        {"name": "image", "dtype": "float32", "shape": ["batch", 64]},
        r"inputs\[0\]\.shape: .*\[batch, 1, 8, 8\]",
    ),
    "size": ({"name": "image", "dtype": "float32", "shape": ["batch", 3, 8, 8]}, r"inputs\[0\]\.shape"),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_a_spec_that_does_not_describe_the_model_is_told_both_sides(case: str) -> None:
    """Users would have to open the file to find what is wrong."""
    tensor, message = MISMATCHES[case]
    with pytest.raises(InvalidInput, match=message):
        match_inputs(build(), model(ONNX, inputs=[tensor]))


def test_an_old_opset_is_raised_so_that_it_can_be_quantized_per_channel() -> None:
    """Static per-channel quantization needs opset 13."""
    assert opset_of(normalise(build(opset=11))) == 13
