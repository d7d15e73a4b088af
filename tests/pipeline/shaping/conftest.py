"""A small problem for shaping steps: images of bars, a classifier of the zoo that knows them a little, its files."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from strop_api.data import DataFormat, DataSource, DataSpec
from strop_api.model import (
    Architecture,
    Dimension,
    DType,
    InputTensor,
    Metric,
    ModelFormat,
    ModelSource,
    TaskSpec,
    TaskType,
)
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest, StoreAccess
from strop_api.targets import Cpu, Output, Runtime, Target
from strop_job.errors import Evicted
from strop_job.shaping.stage import shaping_stage
from strop_job.stages import Artifact, ArtifactKind, StageContext

WIDTH, SIZE, CLASSES = 8, 8, 4
ROLES = {"training": (1, 512), "validation": (2, 256), "evaluation": (3, 256)}


def bars(seed: int, count: int) -> dict[str, np.ndarray]:
    """Noisy images with one bar, whose place is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.normal(0, 1.5, (count, 1, SIZE, SIZE)).astype(np.float32)
    for row, label in enumerate(labels):
        images[row, 0, 2 * label : 2 * label + 2] += 1.0
    return {"image": images, "label": labels.astype(np.int64)}


@dataclass
class KeptFiles:
    """Checkpoints in a folder."""

    folder: Path
    saved: list[str] = field(default_factory=list)

    def load(self, folder: Path) -> None:
        for path in self.folder.iterdir():
            shutil.copy(path, folder / path.name)

    def save(self, path: Path) -> None:
        shutil.copy(path, self.folder / path.name)
        self.saved.append(path.name)


@dataclass
class Problem:
    """The spec's parts, and the artifacts that its resolve stages would have made."""

    folder: Path
    inputs: dict[str, Artifact]

    def spec(self, *steps, **changes) -> ModelOptimizationSpec:
        """A spec with these steps."""
        sets = {role: DataSource(uri=f"s3://data/{role}.npz", format=DataFormat.NPZ) for role in ROLES}
        fields = {
            "model": ModelSource(
                uri="s3://models/bars.safetensors",
                format=ModelFormat.SAFETENSORS,
                architecture=Architecture(
                    callable="strop_job.zoo.cnn:classifier",
                    arguments={"channels": 1, "width": WIDTH, "classes": CLASSES},
                ),
                inputs=[InputTensor(name="image", dtype=DType.FLOAT32, shape=["batch", 1, SIZE, SIZE])],
                dimensions=[Dimension(name="batch", min=1, opt=4, max=64)],
            ),
            "task": TaskSpec(type=TaskType.CLASSIFICATION, metric=Metric.ACCURACY, labels="label"),
            "data": DataSpec(**sets),
            "steps": list(steps),
            "targets": [Target(name="cpu", runtime=Runtime.ONNX_RUNTIME, cpu=Cpu(threads=1))],
            "output": Output(uri="s3://engines/bars"),
        }
        return ModelOptimizationSpec.model_validate(fields | changes)

    def run(self, spec, name, *, given=None, checkpoints=None, report=lambda share, said: None) -> Artifact:
        """Carry one step out in its child; `given` is what the step before it yielded."""
        step = next(s for s in spec.steps if s.name == name)
        stage = shaping_stage(step, "before" if given else "resolve-model", spec)
        folder = Path(self.folder) / f"{name}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        request = RunRequest(
            namespace="team", name="bars", uid="uid-1", run_id="0123456789", target="cpu", spec=spec,
            image="strop@test", store=StoreAccess(endpoint="file://local", region="local", records_uri="s3://records"),
        )  # fmt: skip
        inputs = {**self.inputs, **({"before": given} if given else {})}
        kept = {"checkpoints": checkpoints} if checkpoints else {}
        context = StageContext(request, folder, {n: inputs[n] for n in stage.needs}, report, **kept)
        return stage.run(context)


class EvictAfter:
    """Reports that end in an eviction once the training says it is in a certain epoch."""

    def __init__(self, words: str) -> None:
        self.words, self.said = words, []

    def __call__(self, share: float, said: str) -> None:
        self.said.append((share, said))
        if self.words in said:
            raise Evicted("SIGTERM")


@pytest.fixture(scope="session")
def trained_bars(tmp_path_factory) -> Path:
    """The folder of the problem's files: data, and weights after a short training."""
    import torch
    from safetensors.torch import save_file

    from strop_job.zoo.cnn import classifier

    folder = tmp_path_factory.mktemp("bars")
    for role, (seed, count) in ROLES.items():
        np.savez(folder / f"{role}.npz", **bars(seed, count))
    torch.manual_seed(0)
    module = classifier(1, WIDTH, CLASSES)
    data = bars(4, 512)
    images, labels = torch.from_numpy(data["image"]), torch.from_numpy(data["label"])
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(12):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()
    save_file(module.state_dict(), folder / "bars.safetensors")
    return folder


@pytest.fixture
def problem(trained_bars, tmp_path) -> Problem:
    """The problem, with a place to work."""
    inputs = {f"resolve-{role}": Artifact(ArtifactKind.DATA, trained_bars, (f"{role}.npz",)) for role in ROLES}
    inputs["resolve-model"] = Artifact(ArtifactKind.SOURCE, trained_bars, ("bars.safetensors",))
    work = tmp_path / "work"
    work.mkdir()
    return Problem(work, inputs)


@pytest.fixture
def kept_files(tmp_path) -> KeptFiles:
    """A place for checkpoints."""
    folder = tmp_path / "kept"
    folder.mkdir()
    return KeptFiles(folder)


@pytest.fixture
def evict_after():
    """Reports that end in an eviction."""
    return EvictAfter
