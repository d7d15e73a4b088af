"""The stage of a shaping step: the parent's half. It starts the child, passes progress on and keeps checkpoints."""

import errno
import json
import os
import shutil
import stat
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pydantic import JsonValue

from strop_api.optimization import ModelOptimizationSpec
from strop_api.steps import Step
from strop_job.errors import Evicted, InvalidInput
from strop_job.hardware import this_machine
from strop_job.models.exporter import PASSED_ON, environment_in, run_child
from strop_job.shaping.handlers import TECHNIQUES, Technique
from strop_job.shaping.order import FACTS, OUT, PROGRESS, STOP, STOPPED, Given, ShapingOrder
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext
from strop_job.steps.export import CODE_STAGE, SOURCE_STAGE

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 300.0
"""A killed training has lost at most this much."""
PROGRESS_LIMIT_BYTES = 4096
LINK = "the model's code left something that is not a plain file"
LEAVE_SECONDS = 25.0
"""For the checkpoint after SIGTERM; the pod has a minute."""
ACCELERATED = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG")
COMMAND = (sys.executable, "-P", "-s", "-m", "strop_job.shaping.child")


def shaping_stage(step: Step, previous: str, spec: ModelOptimizationSpec, extras: tuple[str, ...] = ()) -> Stage:
    """SOURCE or TORCH_MODEL to TORCH_MODEL; `extras` are the stages that resolved what the step names by uri.

    Facts: `before` and `after` (parameters, zeros, metric, figure, samples), `device`, findings, the technique's own.
    """
    technique = TECHNIQUES[step.type]
    index = next(i for i, s in enumerate(spec.steps) if s.name == step.name)
    model = spec.model
    architecture = model.architecture.model_dump(mode="json", by_alias=True) if model.architecture else None
    sets = tuple(role for role in technique.data if getattr(spec.data, role) is not None)
    code = (CODE_STAGE,) if model.architecture is not None and model.architecture.source is not None else ()
    needs = (previous, SOURCE_STAGE, *(f"resolve-{role}" for role in sets), *extras, *code)
    return Stage(
        name=step.name,
        kind=step.type.value,
        version=technique.version,
        run=partial(run_shaping, index=index, previous=previous, sets=sets, extras=extras, technique=technique),
        parameters={
            **step.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name", "type"}),
            "architecture": architecture,
            "task": spec.task.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "inputs": [t.model_dump(mode="json", by_alias=True) for t in model.inputs],
            "data": {role: _read_as(spec, role) for role in sets},
            "seed": spec.seed + index,
        },
        needs=tuple(dict.fromkeys(needs)),
        libraries=("safetensors", *technique.libraries),
        weight=technique.weight,
    )


def _read_as(spec: ModelOptimizationSpec, role: str) -> JsonValue:
    """How a set is read; what it holds is known by its digest."""
    source = getattr(spec.data, role)
    kept: JsonValue = source.model_dump(mode="json", by_alias=True, exclude={"uri", "digest"}, exclude_defaults=True)
    return kept


def run_shaping(
    context: StageContext,
    index: int,
    previous: str,
    sets: tuple[str, ...],
    extras: tuple[str, ...],
    technique: Technique,
) -> Artifact:
    """Run the step in its child. Raises what the child said was wrong, and Evicted once a checkpoint is kept."""
    step, work = context.spec.steps[index], context.folder / "work"
    work.mkdir()
    context.checkpoints.load(work)
    order = _order(context, index, previous, sets, extras, work)
    watch = _Watch(context, work, order.isolated)
    run_child(
        COMMAND,
        work,
        asdict(order),
        _environment(order, work),
        what=f"step {step.name}",
        waiting=watch.look,
        timeout_seconds=context.spec.active_deadline_seconds,
        untrusted=order.isolated,
    )
    made = json.loads((work / FACTS).read_text())
    for name in made["files"]:
        (work / OUT / name).rename(context.folder / name)
    shutil.rmtree(work)
    return Artifact(ArtifactKind.TORCH_MODEL, context.folder, tuple(made["files"]), made["facts"])


class _Watch:
    """Looks at the child twice a second."""

    def __init__(self, context: StageContext, work: Path, isolated: bool) -> None:
        self._context, self._work, self._isolated = context, work, isolated
        self._seen = {p.name: p.lstat().st_mtime_ns for p in self._checkpoints()}

    def look(self) -> None:
        """Pass progress on, and new checkpoints to the store. After SIGTERM: have the child keep what it has."""
        self._keep()
        try:
            self._context.report(*self._progress())
        except Evicted:
            (self._work / STOP).touch()
            deadline = time.monotonic() + LEAVE_SECONDS
            while time.monotonic() < deadline and not (self._work / STOPPED).exists():
                time.sleep(0.1)
            self._keep()
            raise

    def _progress(self) -> tuple[float, str]:
        try:
            with opened(self._work / PROGRESS) as file:
                said = json.loads(file.read(PROGRESS_LIMIT_BYTES))
            return min(max(float(said["share"]), 0.0), 1.0), str(said["message"])[:200]
        except FileNotFoundError:
            return 0.0, "starting"

    def _checkpoints(self) -> list[Path]:
        return [p for p in self._work.glob(f"{CHECKPOINT}*") if not p.name.endswith(".new")]

    def _keep(self) -> None:
        for path in self._checkpoints():
            changed = path.lstat().st_mtime_ns
            if self._seen.get(path.name) != changed:
                self._save(path)
                self._seen[path.name] = changed

    def _save(self, path: Path) -> None:
        """Keep it; what a locked-in child wrote by way of a copy that it cannot exchange for a link meanwhile."""
        if not self._isolated:
            self._context.checkpoints.save(path)
            return
        copy = self._context.folder / path.name
        with opened(path) as source, copy.open("wb") as own:
            shutil.copyfileobj(source, own)
        self._context.checkpoints.save(copy)
        copy.unlink()


def opened(path: Path) -> BinaryIO:
    """A file that a child wrote, for reading. Raises InvalidInput for a link: it may lead to what the child may not
    read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InvalidInput(LINK, field="spec.model.uri") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise InvalidInput(LINK, field="spec.model.uri")
    return os.fdopen(descriptor, "rb")


def _order(
    context: StageContext, index: int, previous: str, sets: tuple[str, ...], extras: tuple[str, ...], work: Path
) -> ShapingOrder:
    code = context.inputs.get(CODE_STAGE)
    return ShapingOrder(
        spec=context.spec.model_dump(mode="json", by_alias=True),
        step=index,
        model=Given.of(context.inputs[previous]),
        original=Given.of(context.inputs[SOURCE_STAGE]),
        folder=str(work.resolve()),
        checkpoint=str((work / CHECKPOINT).resolve()),
        checkpoint_seconds=CHECKPOINT_SECONDS,
        threads=this_machine().threads,
        data={role: Given.of(context.inputs[f"resolve-{role}"]) for role in sets},
        extras={name: Given.of(context.inputs[name]) for name in extras},
        code=str(code.entry.resolve()) if code is not None else None,
        isolated=code is not None,
    )


def _environment(order: ShapingOrder, work: Path) -> dict[str, str]:
    names = PASSED_ON[:2] if order.isolated else (*PASSED_ON, *ACCELERATED)
    return environment_in(work, names) | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(order.threads))}
