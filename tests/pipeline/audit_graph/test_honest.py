"""Graphs with nothing wrong: no audit may say anything of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from strop_job.audit.graph import audit_shapes_stage, audit_zeros_stage, examine_onnx
from strop_job.zoo import bert, cnn

SMALL = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 64, "max_position_embeddings": 64}  # fmt: skip


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16 * 12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.reshape(x.shape[0], -1))


class HeadsLikeTheBatch(nn.Module):
    """Eight heads, and eight samples in the example: a number that is no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.inner(x).unflatten(-1, (8, 2)).transpose(1, 2)
        return ((heads @ heads.transpose(-1, -2)).softmax(-1) @ heads).transpose(1, 2).flatten(2)


def test_what_torch_exports_with_dynamic_axes_is_clean(exported: Callable[..., Path]) -> None:
    """A doctor that cries wolf is not called again."""
    batch, both = {0: "batch"}, {0: "batch", 1: "length"}
    ids = torch.ones(3, 16, dtype=torch.int64)
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    models: list[tuple[nn.Module, tuple[Any, ...], tuple[Any, ...]]] = [
        (cnn.classifier(width=8), (torch.randn(4, 1, 8, 8),), (batch,)),
        (Flattened(), (torch.randn(8, 16, 12),), (batch,)),
        (HeadsLikeTheBatch(), (torch.randn(8, 16, 16),), (both,)),
        (bert.sentence_encoder(**SMALL), (ids, ids), (both, both)),
        (encoder, (torch.randn(3, 16, 16),), (both,)),
    ]
    torch.backends.mha.set_fastpath_enabled(False)
    for module, example, axes in models:
        assert examine_onnx(exported(module, example, axes)) == [], type(module).__name__


def test_magika_as_it_is_shipped_is_clean(magika_model: Path) -> None:
    """So is a model that others trained and exported, with a tool that is not torch."""
    assert examine_onnx(magika_model) == []


def test_a_traced_model_that_keeps_its_shapes_is_clean(export: Callable[..., Path]) -> None:
    """The old exporter bakes nothing in by itself: only what Python computes."""
    assert examine_onnx(export(Flattened(), {0: "batch"})) == []


@pytest.mark.parametrize("kinds", ["cr", "crcac"])
def test_the_stages_find_nothing_in_an_honest_graph(
    make_chain: Callable[..., onnx.ModelProto], graph_artifact: Any, run_stage: Any, spec_with: Any, kinds: str
) -> None:
    """A finding in every run's status would be read by nobody."""
    graph = graph_artifact(make_chain(kinds))
    shapes = run_stage(lambda s: audit_shapes_stage(s, s.targets[0]), spec_with(), export=graph)
    zeros = run_stage(lambda s: audit_zeros_stage(s, s.targets[0]), spec_with(), export=graph)
    assert shapes.facts["findings"] == zeros.facts["findings"] == []
    assert zeros.facts["zeros"]["share"] < 0.01
