"""Torch programs, which Inductor compiles: their symbolic shapes are read, and they are run as they are written."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from strop_job.audit.graph import audit_shapes_stage
from strop_job.models.signature import Input, Output, Signature
from strop_job.models.torch_programs import save_program
from strop_job.stages import Artifact, ArtifactKind

Write = Callable[..., Artifact]


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)[:, :8])


class Mixing(Scores):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(0)


@pytest.fixture
def program(tmp_path: Path) -> Write:
    """A program of [batch, 8, 8, 8], or of a fixed batch."""

    def write(module: nn.Module, *, fixed: int | None = None) -> Artifact:
        batch: Mapping[int, Any] = {} if fixed else {0: torch.export.Dim("batch", min=1, max=9)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.export.export(
                module.eval(), (), {"x": torch.randn(fixed or 4, 8, 8, 8)}, dynamic_shapes={"x": batch}
            )
        signature = Signature(
            (Input("x", "float32", (fixed or "batch", 8, 8, 8)),),
            (Output("y", "float32", (fixed or -1, 4)),),
            {} if fixed else {"batch": (1, 9)},
        )
        save_program(made, tmp_path / "model.pt2", signature)
        return Artifact(ArtifactKind.EXPORTED_PROGRAM, tmp_path, ("model.pt2",))

    return write


@pytest.mark.parametrize(
    ("module", "fixed", "expected"),
    [(Scores(), None, set()), (Mixing(), None, {"samples-mixed"}), (Scores(), 4, {"fixed-axis", "baked-batch"})],
    ids=["honest", "mixing", "fixed"],
)
def test_programs_are_audited_as_graphs_are(
    program: Write, run_stage: Any, spec_with: Any, module: nn.Module, fixed: int | None, expected: set[str]
) -> None:
    """The trap is the same whatever the runtime; an Inductor target must not go unwatched."""
    spec = spec_with(targets=[{"name": "cpu", "runtime": "Inductor", "cpu": {"threads": 1}}])
    made = run_stage(lambda s: audit_shapes_stage(s, s.targets[0]), spec, export=program(module, fixed=fixed))
    assert {one["check"] for one in made.facts["findings"]} == expected
