"""What a shaping child is told and what it leaves: paths and words, no torch."""

from dataclasses import dataclass, field
from pathlib import Path

from strop_job.stages import Artifact, ArtifactKind

FACTS, PROGRESS, STOP, STOPPED = "facts.json", "progress.json", "stop", "stopped"
"""Beside the order: what was found out; how far it is; written by the parent to end it; written when it has."""
OUT = "out"
"""Folder of the files that the step yields."""


@dataclass(frozen=True)
class Given:
    """An artifact as JSON; paths are absolute."""

    kind: str
    folder: str
    files: list[str]

    @classmethod
    def of(cls, artifact: Artifact) -> "Given":
        """Taken from the parent's."""
        return cls(artifact.kind.value, str(artifact.folder.resolve()), list(artifact.files))

    @property
    def artifact(self) -> Artifact:
        """As the child reads it."""
        return Artifact(ArtifactKind(self.kind), Path(self.folder), tuple(self.files))


@dataclass(frozen=True)
class ShapingOrder:
    """One step, with everything that it may read."""

    spec: dict[str, object]
    """`ModelOptimizationSpec`, dumped."""
    step: int
    """Position of the step in `spec.steps`."""
    model: Given
    """SOURCE, or the TORCH_MODEL of an earlier step."""
    original: Given
    """SOURCE: the model as the user gave it."""
    folder: str
    """Where the child writes."""
    checkpoint: str
    """File of the last checkpoint; there when an earlier attempt left one."""
    checkpoint_seconds: float
    """Time between two checkpoints."""
    threads: int
    data: dict[str, Given] = field(default_factory=dict)
    """Sets of `spec.data`, by role."""
    extras: dict[str, Given] = field(default_factory=dict)
    """What the step itself names by uri, such as `teacher` or `adapter-0`."""
    code: str | None = None
    """Source file of the architecture's callable, when it is not the image's."""
    isolated: bool = False
    """Locked in: no environment, no network, no other file."""
