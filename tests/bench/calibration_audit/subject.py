"""What the bench compares on: a model, and honest samples that know which source they come from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_api.targets import Target
from strop_job.audit.calibration.observe import Observer
from strop_job.audit.calibration.observed import Observed
from strop_job.audit.calibration.watch import watched
from strop_job.stages import Artifact, ArtifactKind

Arrays = dict[str, NDArray[Any]]
CPU = Target.model_validate({"name": "here", "runtime": "ONNXRuntime", "cpu": {"threads": 2}})


@dataclass
class Subject:
    """One model with its samples."""

    name: str
    graph: Path
    samples: Arrays
    """Inputs of all samples."""
    sources: NDArray[np.int64]
    """[n]: which source each sample comes from."""
    labels: NDArray[np.int64] | None = None
    classes: str | None = None
    """Output with a score for each class."""
    raw: Sequence[Any] = field(default_factory=tuple)
    """[n]: what the samples were made of, such as texts."""
    encode: Callable[..., Arrays] | None = None
    """From `raw` to inputs, with knobs that a mistake turns."""

    def observe(self, samples: Mapping[str, NDArray[Any]], folder: Path) -> Observed:
        """Sample by sample, as the stage does it."""
        folder.mkdir(parents=True)
        artifact = Artifact(ArtifactKind.ONNX_GRAPH, self.graph.parent, (self.graph.name,))
        with watched(artifact, CPU, folder, threads=2) as model:
            observer = Observer(model.session.run, model.outputs, self.classes)
            for at in range(len(next(iter(samples.values())))):
                observer.add({name: array[at : at + 1] for name, array in samples.items()})
        return observer.seen()

    def take(self, rows: NDArray[Any]) -> Arrays:
        """Some samples."""
        return {name: array[rows] for name, array in self.samples.items()}

    @cached_property
    def source_names(self) -> NDArray[np.int64]:
        """Every source once."""
        return np.unique(self.sources)

    def rows_of(self, sources: Sequence[int] | NDArray[Any], count: int, random: np.random.Generator) -> NDArray[Any]:
        """`count` samples of these sources, drawn at random."""
        own = np.flatnonzero(np.isin(self.sources, sources))
        return random.permutation(own)[:count]
