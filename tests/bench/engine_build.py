"""`python engine_build.py JOB`: one model for one runtime by the stages of a run, in a process that does nothing else.

The job names model, runtime and precision (`fp32`, `half`, `int8`) and the folder for what is made. Prints one JSON
object: the engine's kind, folder and files, and seconds. Where a runtime has a timing cache the engine is compiled once
more with what the first compilation left in it.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from engine_models import HALF, MODELS, Model

from strop_api.result import RunRequest
from strop_api.steps import Step
from strop_api.targets import Runtime
from strop_job.backends import TRAITS, Compilation, backend_for
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext
from strop_job.steps.export import export_stage
from strop_job.steps.quantize import quantize_stage

CALIBRATION_SAMPLES = 128
TIMING_CACHES = frozenset({Runtime.TENSORRT, Runtime.TENSORRT_RTX})
"""Runtimes whose API has a timing cache; TensorRT-RTX's is a no-op."""


class MemoryCache:
    """A shared cache of this process alone."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """What was left."""
        return self.kept.get(name)

    def update(self, name: str, merge: Callable[[bytes | None], bytes]) -> None:
        """Leaves the merged bytes."""
        self.kept[name] = merge(self.kept.get(name))


def request_of(model: Model, runtime: Runtime, recipe: Mapping[str, Any] | None) -> RunRequest:
    """A run's request with the recipe as its one step."""
    spec = model.optimization(runtime)
    if recipe is not None:
        step = Step.model_validate({"name": "step", "type": "Quantize", "quantize": dict(recipe)})
        spec = spec.model_copy(update={"steps": [step]})
    return RunRequest.model_validate(
        {
            "namespace": "bench",
            "name": model.name,
            "uid": "u",
            "run_id": "0123456789",
            "target": "here",
            "spec": spec,
            "image": "none",
            "store": {"endpoint": "none", "region": "none", "records_uri": "s3://records/r"},
        }
    )


def do(stage: Stage, request: RunRequest, folder: Path, inputs: Mapping[str, Artifact]) -> Artifact:
    """One stage in a folder of its own, as a run does it."""
    place = folder / stage.name
    place.mkdir(parents=True)
    wanted = {name: inputs[name] for name in stage.needs}
    return stage.run(StageContext(request, place, wanted, lambda share, message: None))


def graph(request: RunRequest, model: Model, folder: Path, exports: Path) -> Artifact:
    """The graph that is compiled: exported, and quantized where the spec has a step."""
    spec, target = request.spec, request.spec.targets[0]
    made = {"export": export(request, model, exports), "resolve-calibration": calibration(model, folder)}
    if not spec.steps:
        return made["export"]
    return do(quantize_stage(spec.steps[0], "export", spec, target), request, folder, made)


def export(request: RunRequest, model: Model, exports: Path) -> Artifact:
    """The model as one graph; made once for all runtimes that start from the same kind."""
    runtime = request.spec.targets[0].runtime
    kind, folder = TRAITS[runtime].starts_from, exported(model, runtime, exports)
    place, kept = folder.parent, folder.parent / "export.json"
    if not kept.exists():
        made = do(export_stage(request.spec, kind), request, place, {"resolve-model": source(model, place / "source")})
        kept.write_text(json.dumps({"files": made.files, "facts": dict(made.facts)}))
    found = json.loads(kept.read_text())
    return Artifact(kind, folder, tuple(found["files"]), found["facts"])


def exported(model: Model, runtime: Runtime, exports: Path) -> Path:
    """Where the export for a runtime lies."""
    return exports / f"{model.name}-{TRAITS[runtime].starts_from}" / "export"


def source(model: Model, folder: Path) -> Artifact:
    """The model's files."""
    folder.mkdir(parents=True, exist_ok=True)
    return Artifact(ArtifactKind.SOURCE, folder, model.source(folder))


def calibration(model: Model, folder: Path) -> Artifact:
    """The calibration samples as a data set of a run."""
    place = folder / "calibration"
    place.mkdir(parents=True, exist_ok=True)
    np.savez(place / "calibration.npz", **model.samples(CALIBRATION_SAMPLES, 0))
    return Artifact(ArtifactKind.DATA, place, ("calibration.npz",))


def calibration_batches(model: Model, size: int = 8) -> Iterator[dict[str, np.ndarray]]:
    """The same samples for a tool used by hand."""
    arrays = model.samples(CALIBRATION_SAMPLES, 0)
    for start in range(0, CALIBRATION_SAMPLES, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def compiled(request: RunRequest, made: Artifact, folder: Path) -> tuple[Artifact, float, float | None]:
    """The engine, and the seconds of a cold compilation and of one that finds the timings of the first."""
    cache = MemoryCache()
    engine, cold = compile_once(request, made, folder / "engine", cache)
    if request.spec.targets[0].runtime not in TIMING_CACHES:
        return engine, cold, None
    return engine, cold, compile_once(request, made, folder / "again", cache)[1]


def compile_once(request: RunRequest, made: Artifact, place: Path, cache: MemoryCache) -> tuple[Artifact, float]:
    """One compilation and its seconds."""
    target = request.spec.targets[0]
    backend = backend_for(target.runtime)
    place.mkdir()
    work = Compilation(made, request.spec.model, target, place, lambda share, message: None, cache)
    start = time.perf_counter()
    engine = backend.compile(work)
    return engine, time.perf_counter() - start


def main(job: Mapping[str, str]) -> None:
    """Builds and prints."""
    model, runtime, folder = MODELS[job["model"]], Runtime(job["runtime"]), Path(job["folder"])
    recipe = {"fp32": None, "half": HALF.get(runtime), "int8": model.recipes.get(runtime)}[job["precision"]]
    request, exports = request_of(model, runtime, recipe), Path(job["exports"])
    made = graph(request, model, folder, exports)
    engine, cold, again = compiled(request, made, folder)
    said = {
        "kind": engine.kind.value,
        "folder": str(engine.folder),
        "files": engine.files,
        "facts": dict(engine.facts),
        "cold": cold,
        "again": again,
        "size": sum((engine.folder / name).stat().st_size for name in engine.files),
        "exported": str(exported(model, runtime, exports)),
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
