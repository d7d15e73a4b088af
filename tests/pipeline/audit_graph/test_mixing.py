"""Samples that influence one another: a finding of its own, with the node at which they first do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn

from strop_job.audit.graph import audit_shapes_stage, examine_onnx


class SoftmaxOverBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).softmax(0)


class CentredOnBatch(SoftmaxOverBatch):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x - x.mean(0, keepdim=True))


class AttentionOverBatch(nn.Module):
    """batch_first left out: attention runs over the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        q = self.inner(x).transpose(0, 1)
        return ((q @ q.transpose(-1, -2)).softmax(-1) @ q).transpose(0, 1)


class NormInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class SequenceFirst(nn.Module):
    """A recurrent layer that reads samples as time steps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


TRAINING = {"training": torch.onnx.TrainingMode.TRAINING}
PLANTED = [
    (SoftmaxOverBatch(), "Softmax", {}, "High"), (CentredOnBatch(), "ReduceMean", {}, "High"),
    (AttentionOverBatch(), "MatMul", {}, "High"), (NormInTraining(), "BatchNormalization", TRAINING, "High"),
    (SequenceFirst(), "LSTM", {}, "Low"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "operator", "options", "severity"), PLANTED, ids=lambda v: type(v).__name__)
def test_samples_that_change_each_others_answers_are_found(
    export: Callable[..., Path], module: nn.Module, operator: str, options: dict[str, Any], severity: str
) -> None:
    """A server that batches requests of several users would answer each differently with every neighbour."""
    found = examine_onnx(export(module, {0: "batch"}, **options))
    assert [(one.check, one.severity.value) for one in found] == [("samples-mixed", severity)], found
    assert f"first in {operator}" in found[0].message


def test_ranges_taken_at_run_time_are_told_as_what_they_are(
    make_chain: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    """Dynamic quantization does it, too, by its nature: worth knowing, and no defect."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in (("x", 16), ("y", 4))]
    weight = helper.make_tensor(
        "w", TensorProto.FLOAT, [16, 4], torch.randn(64, generator=torch.manual_seed(0)).tolist()
    )
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    found = examine_onnx(tmp_path / "int8.onnx")
    assert all(one.severity.value == "Low" and one.check == "samples-mixed" for one in found), found


def test_the_stage_says_it_of_a_spec(
    make_chain: Callable[..., onnx.ModelProto], graph_artifact: Any, run_stage: Any, spec_with: Any
) -> None:
    """The run's status must carry it to whoever turns on dynamic batching."""
    model = make_chain("cr")
    model.graph.node.append(helper.make_node("Softmax", ["t9"], ["y"], name="over", axis=0))
    model.graph.node[-2].output[0] = "t9"
    made = run_stage(lambda s: audit_shapes_stage(s, s.targets[0]), spec_with(), export=graph_artifact(model))
    assert [one["check"] for one in made.facts["findings"]] == ["samples-mixed"]
    assert "Softmax `over`" in made.facts["findings"][0]["message"]
