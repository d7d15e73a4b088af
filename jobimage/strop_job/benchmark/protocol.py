"""What the parent and a benchmark child say to one another: one JSON object a line, in strict turns."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_api.targets import Target
from strop_job.backends.base import CallTimes
from strop_job.stages import Artifact, ArtifactKind

OPTIMUM = "optimum"
"""The set of inputs at the tuned shape."""


@dataclass(frozen=True)
class Setup:
    """All a child needs to load its variant."""

    engine: Artifact
    target: Target
    threads: int
    spinning: bool
    """Whether idle threads of the pool may spin between calls."""
    inputs: Path
    """A folder with one `<set>.npz` a set of inputs; a set has one array per input."""

    def write(self, path: Path) -> None:
        """Written by the parent."""
        engine = {**asdict(self.engine), "folder": str(self.engine.folder), "facts": dict(self.engine.facts)}
        document = {
            "engine": engine,
            "target": self.target.model_dump(mode="json", by_alias=True, exclude_none=True),
            "threads": self.threads,
            "spinning": self.spinning,
            "inputs": str(self.inputs),
        }
        path.write_text(json.dumps(document))

    @classmethod
    def read(cls, path: Path) -> "Setup":
        """Read by the child."""
        document = json.loads(path.read_text())
        engine = document["engine"]
        return cls(
            engine=Artifact(
                ArtifactKind(engine["kind"]), Path(engine["folder"]), tuple(engine["files"]), engine["facts"]
            ),
            target=Target.model_validate(document["target"]),
            threads=document["threads"],
            spinning=document["spinning"],
            inputs=Path(document["inputs"]),
        )


def write_inputs(folder: Path, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Lays a set of inputs where a child finds it."""
    np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def read_inputs(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    """A set of inputs, by the names of the model's inputs."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@dataclass(frozen=True)
class Turn:
    """The baton: run so many calls, then rest."""

    warmup: int
    """Calls that are not timed: caches and clock belong to whoever ran last."""
    calls: int
    """Timed calls."""
    budget_seconds: float
    """Start no further call after this long."""
    inputs: str = OPTIMUM
    """Which set of inputs."""
    apart: bool = False
    """Time the parts of every call instead of the whole, where the session can."""

    def line(self) -> bytes:
        """For the child's standard input."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class Answer:
    """The baton comes back: what was timed, and how quiet the child was while it waited."""

    microseconds: tuple[float, ...] = ()
    parts: tuple[CallTimes, ...] = ()
    """Of a turn whose parts were asked for; empty when the session cannot tell them."""
    busy_seconds: float = 0.0
    """Wall time of the turn's calls, warm-up included."""
    waited_seconds: float = 0.0
    """Wall time for which another variant had the baton before this turn."""
    waited_cpu_seconds: float = 0.0
    """CPU time used in it."""
    peak_memory_bytes: int = 0
    """Largest resident memory of the child so far."""
    bare_memory_bytes: int = 0
    """Resident memory with interpreter and runtime imported, before the engine was loaded."""
    error: str = ""
    """Why it cannot go on; the child ends after saying so."""

    def line(self) -> bytes:
        """For the parent."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Answer":
        """Raises ValueError for anything that is not an answer."""
        document: dict[str, Any] = json.loads(line)
        parts = tuple(CallTimes(**part) for part in document["parts"])
        return cls(**{**document, "microseconds": tuple(document["microseconds"]), "parts": parts})
