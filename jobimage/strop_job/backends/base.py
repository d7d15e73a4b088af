"""What a runtime must offer: compile a graph into an engine, open it, and say what it really computes with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.targets import Target
from strop_job.stages import Artifact, Report

Arrays = Mapping[str, NDArray[Any]]
"""Tensors by name."""


@dataclass(frozen=True)
class Inspection:
    """What an engine is made of, read from the engine itself, never from what was asked."""

    nodes: Mapping[str, int]
    """Nodes by operator type."""
    macs: int | None = None
    """Multiply-accumulates of one call at the inspected shapes. None: not inspected."""
    integer_macs: int | None = None
    """Those of them whose operands are 8-bit integers."""
    half_macs: int | None = None
    """Those of them in fp16."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Input shapes of the inspected call."""
    note: str = ""
    """Why something was not inspected."""

    @property
    def integer_share(self) -> float | None:
        """Share of the compute that runs in 8-bit integers, 0 to 1; None when not inspected or without compute."""
        if not self.macs or self.integer_macs is None:
            return None
        return self.integer_macs / self.macs

    def facts(self) -> dict[str, JsonValue]:
        """As JSON for status and report."""
        return {
            "inspected": self.macs is not None,
            "nodes": dict(sorted(self.nodes.items())),
            "macs": self.macs,
            "integerMacs": self.integer_macs,
            "halfMacs": self.half_macs,
            "integerShare": self.integer_share,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "note": self.note,
        }


class Session(Protocol):
    """A loaded model."""

    @property
    def inputs(self) -> Mapping[str, np.dtype[Any]]:
        """Element type of every input, by its name."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One call. Raises InvalidInput when names, types or shapes do not fit the model."""

    def close(self) -> None:
        """Frees the model; the session must not be used afterwards."""


class Backend(Protocol):
    """One runtime."""

    def check(self, target: Target) -> None:
        """Raises Unsupported when the runtime installed here cannot serve the target."""

    def compile(self, graph: Artifact, target: Target, folder: Path, report: Report) -> Artifact:
        """An OnnxGraph becomes an Engine in `folder`. Raises InvalidInput for a graph the runtime refuses."""

    def open(
        self, engine: Artifact, target: Target, *, threads: int, optimized: bool = True, spinning: bool = True
    ) -> Session:
        """Loads an Engine, or an OnnxGraph that is compiled in memory.

        `optimized=False` runs a graph as it is written, with no graph optimization. `spinning=False` is for several
        sessions in one process, whose idle threads would otherwise take the processor from one another.
        Raises Unsupported when the device that was asked for is not the one that would run.
        """

    def inspect(self, engine: Artifact, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Inspection:
        """Counts nodes, and compute by number format at the given input shapes."""
