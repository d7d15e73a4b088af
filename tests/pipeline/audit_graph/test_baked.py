"""Batches and lengths baked into graphs: planted in many ways and found by node and constant; honest graphs pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from strop_job.audit.graph import examine_onnx

BATCH, LENGTH, WIDTH = 8, 16, 12


class ViewOfEight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(LENGTH * WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.view(8, -1))


class ReshapeByPython(ViewOfEight):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.reshape(int(x.shape[0]), LENGTH * WIDTH))


class ExpandedPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, LENGTH, WIDTH))
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.positions.expand(8, -1, -1)).mean(1)


class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.token.repeat(8, 1, 1), x], dim=1))[:, 0]


class FirstState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(8, WIDTH)
        for step in range(3):
            state = self.cell(x[:, step], state)
        return state


class TwoAttentions(nn.Module):
    """Heads and batch are the same number: what is the batch must be told from what is not."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for query in self.queries:
            split = query(x).view(4, LENGTH, 4, 4).transpose(1, 2)
            x = (split @ split.transpose(-1, -2)).softmax(-1) @ split
            x = x.transpose(1, 2).reshape(4, LENGTH, 16)
        return x


class FirstEight(ViewOfEight):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x[:8].flatten(1))


class GroupedBatch(nn.Module):
    """Batch times length in one number: 128."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.reshape(128, WIDTH)).reshape(8, LENGTH, WIDTH)


class FixedPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, LENGTH, WIDTH))
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.positions)


class FixedMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.triu(torch.full((LENGTH, LENGTH), -1e4), 1))

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ x.transpose(-1, -2)) + self.mask).softmax(-1) @ x


class LengthInView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.inner(x).view(x.shape[0], 16, 3, 4).transpose(1, 2)
        return heads.transpose(1, 2).flatten(2)


BATCHES = [
    (ViewOfEight(), "Reshape", {}), (ReshapeByPython(), "Reshape", {}), (ExpandedPositions(), "Expand", {}),
    (ClassToken(), "Tile", {}), (FirstState(), "Add", {}), (TwoAttentions(), "Reshape", {"shape": (4, LENGTH, 16)}),
    (FirstEight(), "Slice", {}), (GroupedBatch(), "Reshape", {}),
]  # fmt: skip
LENGTHS = [(FixedPositions(), "Add"), (FixedMask(), "Add"), (LengthInView(), "Reshape")]


@pytest.mark.parametrize(("module", "operator", "options"), BATCHES, ids=lambda value: type(value).__name__)
def test_a_baked_batch_is_found_and_the_node_named(
    export: Callable[..., Path], module: nn.Module, operator: str, options: dict[str, Any]
) -> None:
    """A model would go out that fails, or answers with other rows, at every batch but the example's."""
    found = examine_onnx(export(module, {0: "batch"}, **options))
    assert [(one.check, one.severity.value) for one in found] == [("baked-batch", "High")], found
    assert operator in found[0].message
    assert "with it live" in found[0].message


@pytest.mark.parametrize(("module", "operator"), LENGTHS, ids=lambda value: type(value).__name__)
def test_a_baked_length_is_found_and_the_node_named(
    export: Callable[..., Path], module: nn.Module, operator: str
) -> None:
    """A model would go out that fails at every length but the example's."""
    found = examine_onnx(export(module, {0: "batch", 1: "length"}))
    assert [one.check for one in found] == ["baked-size"], found
    assert operator in found[0].message
