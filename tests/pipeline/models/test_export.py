"""The stage `export`: what goes in as a module comes out as a graph that serves every size and computes the same."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file
from torch import nn

from strop_job.errors import Evicted, InvalidInput, Unsupported
from strop_job.models import torch_export
from strop_job.models.exporter import export_in_child, order_for
from strop_job.models.safetensors_files import open_checkpoint
from strop_job.outcome import diagnose
from strop_job.stages import Artifact

from .conftest import CNN, ENCODER, Export, model, request, run_export, source


@pytest.fixture(scope="module")
def exported(cnn_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The small CNN, exported once."""
    return run_export(model(CNN), source(cnn_weights), tmp_path_factory.mktemp("exported"))


def test_a_module_is_exported_with_its_batch_dynamic_and_its_versions_read_back(exported: Artifact) -> None:
    """Engines would serve one batch size, or a file would claim an opset it does not have."""
    loaded = onnx.load(exported.entry)
    found = (loaded.opset_import[0].version, loaded.ir_version)
    assert found == (exported.facts["opset"], exported.facts["irVersion"])
    parity: Any = exported.facts["parity"]
    assert [p["sizes"]["batch"] for p in parity["shapes"]] == [1, 4, 32, 3]
    assert parity["worst"] < 1e-4
    assert exported.facts["outputs"] == ["output"]
    assert [p.name for p in exported.folder.iterdir()] == ["model.onnx"]


def test_an_exported_graph_tells_nothing_of_where_it_was_made(exported: Artifact) -> None:
    """Published files would carry source paths and stack traces of the worker."""
    assert b"site-packages" not in exported.entry.read_bytes()
    assert b"strop_job" not in exported.entry.read_bytes()


def test_an_encoder_is_exported_with_two_dynamic_dimensions(encoder_weights: Path, export: Export) -> None:
    """Texts would all be padded to one length, or the mask would be dropped."""
    graph = export(model(ENCODER), source(encoder_weights))
    session = onnxruntime.InferenceSession(graph.entry, providers=["CPUExecutionProvider"])
    ids = np.array([[3, 7, 9]], np.int64)
    (short,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    padded, mask = np.array([[3, 7, 9, 0, 0]], np.int64), np.array([[1, 1, 1, 0, 0]], np.int64)
    (long,) = session.run(None, {"input_ids": padded, "attention_mask": mask})
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_a_run_that_is_asked_to_leave_takes_its_export_along(cnn_weights: Path, tmp_path: Path) -> None:
    """After SIGTERM the pod would wait for torch, and be killed with its records unwritten."""

    def leave() -> None:
        raise Evicted("SIGTERM")

    order = order_for(model(CNN), tmp_path, source(cnn_weights), seed=0)
    with pytest.raises(Evicted):
        export_in_child(order, waiting=leave)
    assert not (tmp_path / "model.onnx").exists()


IN_A_SMALL_GROUP = """
import sys
from strop_job.models.exporter import ExportOrder, export_in_child
from strop_job.errors import OutOfMemory
import json
try:
    export_in_child(ExportOrder(**json.load(open(sys.argv[1]))))
except OutOfMemory as error:
    print(error.field, error)
"""


@pytest.fixture
def small_cgroup() -> Iterator[list[str]]:
    """The words that start a process in a control group of 128 MiB, of either version."""
    root = Path("/sys/fs/cgroup")
    second = (root / "cgroup.controllers").exists()
    folder = (root if second else root / "memory") / f"strop-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
        (folder / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(128 << 20))
    except OSError as error:
        pytest.skip(f"this machine lets nobody make a control group: {error}")
    yield ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
    folder.rmdir()


def test_an_export_that_the_kernel_kills_names_the_limit_to_raise(
    cnn_weights: Path, tmp_path: Path, small_cgroup: list[str]
) -> None:
    """It would read as a fault of the model, and be tried again in vain."""
    order = order_for(model(CNN), tmp_path, source(cnn_weights), seed=0)
    (tmp_path / "given.json").write_text(json.dumps(asdict(order)))
    command = [*small_cgroup, sys.executable, "-c", IN_A_SMALL_GROUP, str(tmp_path / "given.json")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert said.startswith("spec.worker.resources.limits.memory")
    assert "stage export: the kernel ended a process, most likely for memory" in said
    assert "limit is 128.0 MiB (raise spec.worker.resources.limits.memory)" in said


class Unwell(nn.Module):
    """Fails as torch's allocator does."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Never returns."""
        return image.new_empty(1 << 50)


def test_an_allocation_that_fails_is_told_as_such(tmp_path: Path) -> None:
    """A module that is too large would be called one that refuses its inputs."""
    with pytest.raises(Exception, match="allocate") as caught:
        torch_export.export_module(Unwell(), model(CNN), tmp_path, 0)
    trouble = diagnose(caught.value, "export")
    assert (trouble.outcome, trouble.field) == ("OutOfMemory", "spec.worker.resources.limits.memory")


class FixedBatch(nn.Module):
    """Writes the batch of its example into a reshape."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[4, 1, 8, 8] to [4, 64]."""
        return image.reshape(4, 64) * 2


def test_a_batch_fixed_by_the_module_is_refused_by_name(tmp_path: Path) -> None:
    """The spec would promise 32 images at a time of an engine that takes 4."""
    with pytest.raises(InvalidInput, match=r"spec\.model\.dimensions: the model fixes the size of batch"):
        torch_export.export_module(FixedBatch().eval(), model(CNN), tmp_path, 0)


def test_inputs_that_forward_does_not_take_are_named(tmp_path: Path) -> None:
    """Torch's own message speaks of keyword arguments, not of the spec."""
    spec = model(CNN, inputs=[{"name": "pixels", "dtype": "float32", "shape": ["batch", 1, 8, 8]}])
    with pytest.raises(
        InvalidInput, match=r"spec\.model\.inputs: the module's forward takes image; the spec names pixels"
    ):
        torch_export.export_module(FixedBatch().eval(), spec, tmp_path, 0)


def test_shapes_the_module_cannot_take_name_the_inputs(cnn_weights: Path) -> None:
    """A channel too many would end as a torch traceback."""
    spec = model(CNN, inputs=[{"name": "image", "dtype": "float32", "shape": ["batch", 3, 8, 8]}])
    module = torch_export.build_module(spec, open_checkpoint(source(cnn_weights)), None)
    with pytest.raises(InvalidInput, match=r"spec\.model\.inputs: the module refuses inputs"):
        torch_export.export_module(module, spec, cnn_weights.parent, 0)


def test_weights_that_do_not_fit_name_what_is_missing_and_what_is_too_much(tmp_path: Path, cnn_weights: Path) -> None:
    """A model with half its layers untrained would be published."""
    state = load_file(cnn_weights)
    state["head.extra"] = state.pop("head.bias")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InvalidInput, match=r"missing 'head.bias'; unexpected 'head.extra'"):
        torch_export.build_module(model(CNN), open_checkpoint(source(tmp_path / "model.safetensors")), None)


def test_wrong_sizes_name_the_tensor_and_both_shapes(cnn_weights: Path) -> None:
    """Users would look for the wrong argument."""
    spec = model(CNN, architecture={"callable": "strop_job.zoo.cnn:classifier", "arguments": {"width": 8}})
    with pytest.raises(InvalidInput, match=r"'features.0.weight' has shape \[4, 1, 3, 3\].*\[8, 1, 3, 3\]"):
        torch_export.build_module(spec, open_checkpoint(source(cnn_weights)), None)


def test_nan_weights_are_refused_by_name(tmp_path: Path, cnn_weights: Path) -> None:
    """A diverged checkpoint would be quantized, measured and refused an hour later."""
    state = load_file(cnn_weights)
    state["head.weight"][0, 0] = float("nan")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InvalidInput, match=r"'head.weight' holds NaN or infinity in 1 of"):
        torch_export.build_module(model(CNN), open_checkpoint(source(tmp_path / "model.safetensors")), None)


def test_a_callable_outside_the_image_is_never_called(cnn_weights: Path) -> None:
    """A spec could run any function of any installed module: `os:system` with arguments of its own."""
    spec = model(CNN, architecture={"callable": "os:system", "arguments": {"command": "true"}})
    with pytest.raises(Unsupported, match=r"spec\.model\.architecture\.callable: os:system is not offered"):
        torch_export.build_module(spec, open_checkpoint(source(cnn_weights)), None)


def test_a_callable_the_image_offers_is_called(cnn_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teams could not add architectures to their own worker images."""
    monkeypatch.setenv("STROP_CALLABLES", "tests.nothing:here, json.*")
    spec = model(CNN, architecture={"callable": "json:dumps", "arguments": {"obj": 1}})
    with pytest.raises(InvalidInput, match="returned no torch module"):
        torch_export.build_module(spec, open_checkpoint(source(cnn_weights)), None)


def onnx_model(path: Path, nodes: list[onnx.NodeProto], batch: int | str, shape: tuple[int | str, ...]) -> Path:
    """A graph from `image` [batch, 1, 8, 8] to `y`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


RELU = [helper.make_node("Relu", ["image"], ["y"])]
ONNX_CNN = {**CNN, "uri": "s3://models/cnn/model.onnx", "format": "Onnx", "architecture": None}


def test_an_onnx_file_with_a_fixed_batch_is_refused(tmp_path: Path, export: Export) -> None:
    """The engine would refuse the first real batch in production."""
    path = onnx_model(tmp_path / "m.onnx", RELU, 1, (1, 1, 8, 8))
    with pytest.raises(
        InvalidInput, match=r"spec\.model\.inputs\[0\]\.shape: the model fixes batch of input image to 1"
    ):
        export(model(ONNX_CNN), source(path))


def test_a_batch_baked_into_a_reshape_is_found_by_running_it(tmp_path: Path, export: Export) -> None:
    """The input says dynamic, one node inside says 1: no checker sees it."""
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [1, 64])
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("Reshape", ["image", "shape"], ["y"]),
    ]
    path = onnx_model(tmp_path / "m.onnx", nodes, "n", ("n", 64))
    with pytest.raises(InvalidInput, match=r"spec\.model\.dimensions: the model does not run at batch 4"):
        export(model(ONNX_CNN), source(path))


def test_the_refusal_of_a_baked_batch_names_the_node_and_the_constant(tmp_path: Path, export: Export) -> None:
    """The doctor would know what is to be changed, and the run would say to narrow the dimension."""
    shape = helper.make_tensor("rows", TensorProto.INT64, [2], [4, 64])
    nodes = [
        helper.make_node("Constant", [], ["rows"], value=shape),
        helper.make_node("Reshape", ["image", "rows"], ["y"], name="flat"),
    ]
    path = onnx_model(tmp_path / "m.onnx", nodes, "n", ("n", 64))
    with pytest.raises(InvalidInput, match=r"at batch 1.*Reshape `flat`: entry 0 of `rows` is 4") as refused:
        export(model(ONNX_CNN), source(path))
    assert refused.value.field == "spec.model.dimensions"
    assert "x.shape[0]" in (refused.value.mend or "")


def test_an_output_that_does_not_follow_the_batch_is_refused(tmp_path: Path, export: Export) -> None:
    """A model that answers once for a whole batch would be judged on its first sample only."""
    nodes = [helper.make_node("ReduceMax", ["image"], ["y"], keepdims=1)]
    with pytest.raises(InvalidInput, match="batch is baked into the model"):
        export(model(ONNX_CNN), source(onnx_model(tmp_path / "m.onnx", nodes, "n", (1, 1, 1, 1))))


def test_a_valid_onnx_file_takes_the_specs_dimension_names(tmp_path: Path, export: Export) -> None:
    """Later stages would look for `batch` and find `n`."""
    graph = export(model(ONNX_CNN), source(onnx_model(tmp_path / "m.onnx", RELU, "n", ("n", 1, 8, 8))))
    assert onnx.load(graph.entry).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert graph.facts["opset"] == 17


def test_exporting_an_onnx_file_never_imports_torch(tmp_path: Path) -> None:
    """A quantize-only run would pay seconds and a gigabyte for a library it does not use."""
    onnx_model(tmp_path / "m.onnx", RELU, "n", ("n", 1, 8, 8))
    (tmp_path / "stage").mkdir()
    program = f"""
import json, sys
from pathlib import Path
from strop_api.result import RunRequest
from strop_job import data, tasks
from strop_job.stages import Artifact, ArtifactKind, StageContext
from strop_job.steps.export import export_stage
request = RunRequest.model_validate(json.loads({request(model(ONNX_CNN)).model_dump_json(by_alias=True)!r}))
source = Artifact(ArtifactKind.SOURCE, Path({str(tmp_path)!r}), ("m.onnx",))
context = StageContext(request, Path({str(tmp_path / "stage")!r}), {{"resolve-model": source}}, lambda a, b: None)
export_stage(request.spec).run(context)
print(json.dumps([name for name in sys.modules if name.split(".")[0] == "torch"]))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == []
