"""The values that move through a run: stages, what they are given, what they yield. The spine's own vocabulary.

A stage is a pure description plus one function; it never looks at the store. The pipeline finds its record, or gives
it a fresh folder and commits what it yields. What decides its bytes stands in `parameters`, `needs` and `libraries`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_api.targets import Target

Facts = Mapping[str, JsonValue]
"""What a stage found out, as JSON: figures with units in their names, digests, versions."""


SILENT_SECONDS = 900.0
"""Between two reports of a stage that runs a model call by call: time for one call, or for loading an engine."""
WHOLE_SECONDS = 3600.0
"""For what is one step that reports nothing on its way: a library's call over a whole graph or data set, or a file on
its way from or to the store (64 GiB at 20 MB/s)."""


def finite(value: JsonValue) -> JsonValue:
    """The value with None for every float that JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


class ArtifactKind(StrEnum):
    """What a folder of files is; steps and backends declare what they accept and yield."""

    SOURCE = "Source"
    """Model files as the user gave them: ONNX, safetensors or TorchExport, not yet read."""
    TORCH_MODEL = "TorchModel"
    EXPORTED_PROGRAM = "ExportedProgram"
    ONNX_GRAPH = "OnnxGraph"
    """`model.onnx`, perhaps with `model.onnx.data` beside it."""
    OPENVINO_IR = "OpenVinoIR"
    ENGINE = "Engine"
    """What a backend's `open` loads; the entry file is `files[0]`."""
    BUNDLE = "Bundle"
    """Files for a server, a registry or a device, published beside the engine."""
    DATA = "Data"
    """Samples, read by `strop_job.data`."""
    MEASUREMENT = "Measurement"
    """Raw samples and figures; no model."""
    REPORT = "Report"


@dataclass(frozen=True)
class Artifact:
    """Files of one kind in one folder. `files` are relative POSIX paths; the first is the entry point."""

    kind: ArtifactKind
    folder: Path
    files: tuple[str, ...]
    facts: Facts = field(default_factory=dict)
    """NaN and infinity become None here, as they would in a record: the first run and a cached one read the same."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", {name: finite(value) for name, value in self.facts.items()})

    @property
    def entry(self) -> Path:
        """The file to open."""
        return self.folder / self.files[0]


Report = Callable[[float, str], None]
"""Tells the share of the stage that is done (0 to 1) and what it is doing; raises Evicted after SIGTERM."""


class SharedCache(Protocol):
    """Bytes that the runs of one namespace share and may lose at any time, such as a compiler's timing cache."""

    def read(self, name: str) -> bytes | None:
        """The newest bytes under a name; None when there are none."""

    def update(self, name: str, merge: Callable[[bytes | None], bytes]) -> None:
        """Replaces the bytes by `merge(newest)`; once more, with newer ones, whenever another writer was faster."""


class NoCache:
    """Remembers nothing."""

    def read(self, name: str) -> bytes | None:
        """None."""

    def update(self, name: str, merge: Callable[[bytes | None], bytes]) -> None:
        """Nothing."""


class Checkpoints(Protocol):
    """What an unfinished stage keeps, so that its next attempt need not start over."""

    def load(self, folder: Path) -> None:
        """Puts the files that an earlier attempt kept into the folder, which is empty."""

    def save(self, path: Path) -> None:
        """Keeps a file in the place of its namesake."""


class NoCheckpoints:
    """Keeps nothing."""

    def load(self, folder: Path) -> None:
        """Nothing."""

    def save(self, path: Path) -> None:
        """Nothing."""


@dataclass(frozen=True)
class StageContext:
    """All a stage may use."""

    request: RunRequest
    folder: Path
    """Empty; what the stage yields must lie here."""
    inputs: Mapping[str, Artifact]
    """By the names of `Stage.needs`, already on the disk."""
    report: Report
    cache: SharedCache = field(default_factory=NoCache)
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)

    @property
    def spec(self) -> ModelOptimizationSpec:
        """The resource's spec."""
        return self.request.spec

    @property
    def target(self) -> Target:
        """The target this run serves."""
        return next(t for t in self.spec.targets if t.name == self.request.target)


@dataclass(frozen=True)
class Stage:
    """One unit of work with a record of its own."""

    name: str
    """Unique in the plan: `resolve-model`, `export`, the step's name, `compile`, `benchmark` …"""
    kind: str
    """Which handler; part of the record's key together with `version`."""
    version: int
    """Raised whenever the handler's result changes for the same parameters."""
    run: Callable[[StageContext], Artifact]
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    """Everything of the spec that decides the result."""
    needs: tuple[str, ...] = ()
    """Stages whose artifacts are read."""
    libraries: tuple[str, ...] = ()
    """Distributions whose versions shape the bytes, such as `onnxruntime`."""
    hardware: bool = False
    """The result depends on the processor: its fingerprint joins the key."""
    max_age_seconds: int | None = None
    """A record older than this is made again (measurements)."""
    weight: float = 1.0
    """Expected share of the run's time, for the percentage."""
    measuring: bool = False
    """Nobody may disturb the machine while it runs."""
    silence_seconds: float = SILENT_SECONDS
    """A stage that reports nothing for so long hangs: the pod's health turns red."""
