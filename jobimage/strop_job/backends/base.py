"""What a runtime must offer: compile a graph into an engine, open it, and say what it really computes with."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import JsonValue

from strop_api.model import ModelSource
from strop_api.steps import Precision
from strop_api.targets import Target
from strop_job.stages import Artifact, Report, SharedCache

if TYPE_CHECKING:  # the supervisor reads the vocabulary here, and must stay small
    import numpy as np
    from numpy.typing import NDArray

Arrays = Mapping[str, "NDArray[Any]"]
"""Tensors by name."""
LISTED_LAYERS = 400
"""So many layers stand in the facts, those with the most compute first; the sums are over all."""


class NumberFormat(StrEnum):
    """What a layer's operands are."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    """Weights of 4 bits; the activations are wider."""
    UNKNOWN = "unknown"


ASKED_FORMATS: Mapping[Precision, NumberFormat] = {
    Precision.INT8: NumberFormat.INT8,
    Precision.FP16: NumberFormat.FP16,
    Precision.BF16: NumberFormat.BF16,
    Precision.FP8: NumberFormat.FP8,
    Precision.INT4: NumberFormat.INT4,
}
"""The format in which a layer must run for a precision to be realised."""


@dataclass(frozen=True)
class Layer:
    """One layer of an engine, fused as the runtime runs it."""

    name: str
    operator: str
    """The runtime's own name for the kind of layer."""
    number_format: NumberFormat
    macs: int = 0
    """Multiply-accumulates of one call; 0 for a layer that multiplies nothing."""

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        return {"name": self.name, "operator": self.operator, "format": self.number_format.value, "macs": self.macs}


@dataclass(frozen=True)
class Inspection:
    """What an engine is made of, read from the engine itself, never from what was asked."""

    nodes: Mapping[str, int]
    """Nodes by operator type."""
    layers: tuple[Layer, ...] | None = None
    """In the order they run. None: not inspected."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Input shapes of the inspected call."""
    note: str = ""
    """Why something was not inspected."""
    uncounted: Mapping[str, int] = field(default_factory=dict)
    """Layers that multiply but whose compute is in no figure here, by operator: no share of the whole can be given."""

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one call at the inspected shapes; None when not inspected."""
        return None if self.layers is None else sum(layer.macs for layer in self.layers)

    @property
    def macs_by_format(self) -> dict[str, int]:
        """Multiply-accumulates by number format, those formats only that do some."""
        counted: Counter[str] = Counter()
        for layer in self.layers or ():
            if layer.macs:
                counted[layer.number_format.value] += layer.macs
        return dict(counted)

    def share(self, precision: Precision) -> float | None:
        """Share of the compute that runs at a precision, 0 to 1; None when some was not inspected, or there is none."""
        macs = None if self.uncounted else self.macs
        return self.macs_by_format.get(ASKED_FORMATS[precision].value, 0) / macs if macs else None

    def facts(self) -> dict[str, JsonValue]:
        """As JSON for status and report."""
        heaviest = sorted(self.layers or (), key=lambda layer: -layer.macs)[:LISTED_LAYERS]
        return {
            "inspected": self.layers is not None,
            "nodes": dict(sorted(self.nodes.items())),
            "macs": self.macs,
            "macsByFormat": dict(sorted(self.macs_by_format.items())),
            "layers": [layer.facts() for layer in heaviest],
            "uncounted": dict(sorted(self.uncounted.items())),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "note": self.note,
        }


@dataclass(frozen=True)
class Arithmetic:
    """With what a graph computes, as it is written."""

    integer: bool
    """Some of it in integers (or in 8-bit floats): values are rounded to few levels."""
    half: bool
    """Some of it in fp16 or bf16."""


@dataclass(frozen=True)
class Compilation:
    """All a compiler is given."""

    graph: Artifact
    model: ModelSource
    """Its `dimensions` are the range that the engine must serve."""
    target: Target
    folder: Path
    """Empty; the engine goes here."""
    report: Report
    cache: SharedCache


class Session(Protocol):
    """A loaded model."""

    @property
    def inputs(self) -> "Mapping[str, np.dtype[Any]]":
        """Element type of every input, by its name."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""

    def run(self, inputs: Arrays) -> "dict[str, NDArray[Any]]":
        """One call. Raises InvalidInput when names, types or shapes do not fit the model."""

    def close(self) -> None:
        """Frees the model; the session must not be used afterwards."""


@dataclass(frozen=True)
class CallTimes:
    """One call on a device, in the parts its own clock (such as CUDA events) tells apart."""

    copy_in_microseconds: float
    """Host to device."""
    compute_microseconds: float
    copy_out_microseconds: float
    """Device to host."""
    cuda_graph: bool = False
    """Whether the compute was one replay of a recorded CUDA graph."""


@runtime_checkable
class TimedSession(Protocol):
    """What a Session may also offer; one that does not has no parts to tell apart, and none are reported."""

    def run_timed(self, inputs: Arrays) -> "tuple[dict[str, NDArray[Any]], CallTimes]":
        """One call as `run` does it, and how long its parts took."""

    def capture(self, inputs: Arrays) -> None:
        """Records a CUDA graph for the shapes of these inputs, which later calls replay. Raises Unsupported."""


class Backend(Protocol):
    """One runtime."""

    def check(self, target: Target) -> None:
        """Raises Unsupported when the runtime installed here cannot serve the target."""

    def compile(self, work: Compilation) -> Artifact:
        """A graph becomes an Engine in `work.folder`. Raises InvalidInput for a graph the runtime refuses.

        Facts of every engine: `runtime`, `version`, `sizeBytes`, `inputs` and `outputs` (lists of `name`, `dtype`,
        `shape` with -1 where it is dynamic).
        """

    def open(
        self, engine: Artifact, target: Target, *, threads: int, optimized: bool = True, spinning: bool = True
    ) -> Session:
        """Loads an Engine, or a graph that is compiled in memory.

        `optimized=False` runs a graph as it is written, with no optimization of the compiler: the reference of compile
        parity. `spinning=False` is for several sessions in one process, whose idle threads would otherwise take the
        processor from one another. Raises Unsupported when the device that was asked for is not the one that would run.
        """

    def inspect(self, engine: Artifact, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Inspection:
        """Layers with their number formats, and their compute at the given input shapes."""

    def arithmetic(self, graph: Artifact) -> Arithmetic:
        """What a graph, not yet compiled, computes with."""
