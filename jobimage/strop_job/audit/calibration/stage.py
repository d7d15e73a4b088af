"""The stage `audit-calibration`: calibration data against the data the model is judged by, before quantizing."""

import json
from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.data import DataSource
from strop_api.model import TaskType
from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import Target
from strop_job.audit.calibration.compare import compare
from strop_job.audit.calibration.observe import Observer, prints_of
from strop_job.audit.calibration.observed import Observed
from strop_job.audit.calibration.verdict import Verdict
from strop_job.audit.calibration.watch import Watched, watched
from strop_job.audit.facts import as_facts
from strop_job.backends import TRAITS
from strop_job.batches import batch_size, fitted
from strop_job.data import Batch, Samples, open_samples
from strop_job.errors import InvalidInput
from strop_job.hardware import this_machine
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

NAME = "audit-calibration"
FILE = "calibration.json"
EXPORT = "export"
MOST_SAMPLES = 256
"""Looked at of each set, evenly spread over it."""
MOST_PRINTS = 16_384
"""Evaluation samples that calibration samples are held against one by one: 256 numbers of each are kept."""
READ_ALONE = 4096
"""Up to so many samples a set is read one by one, so that no text is padded for its neighbours' sake."""
READ_TOGETHER, TOGETHER_VALUES = 16, 1 << 16
"""Samples a call where nothing is padded, and how large one may be then: sixteen activations are held of each."""
LISTED = 12
"""Tensors in the facts; all are in the file."""
REFERENCES = ("onnxruntime", "onnxruntime-gpu", "onnx")


def reference_of(spec: ModelOptimizationSpec) -> str:
    """The set that calibration is held against: validation where there is one, so that evaluation is read less."""
    return "validation" if spec.data.validation is not None else "evaluation"


def audit_calibration_stage(spec: ModelOptimizationSpec, target: Target) -> Stage:
    """The exported model and the sets' inputs to a MEASUREMENT. The spec must name calibration data.

    Facts: `findings`, `mismatches` (kinds found, those of severity Low not counted), `reference`, `samples` (looked at,
    by set), `tensors` (ranges and their cost, the dearest first), `duplicates`, `leak`, `size`, `largest` (differences
    of distribution). The file holds every figure. Labels are read of the calibration set alone.
    """
    roles = _roles(spec)
    return Stage(
        name=NAME,
        kind="AuditCalibration",
        version=2,
        run=run_audit,
        parameters={
            "sources": {role: _source(spec, role) for role in roles},
            "reference": reference_of(spec),
            "task": spec.task.model_dump(mode="json", by_alias=True, include={"type", "output", "labels"}),
            "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in spec.model.inputs],
            "dimensions": [dimension.model_dump(mode="json", by_alias=True) for dimension in spec.model.dimensions],
            "runtime": target.runtime.value,
        },
        needs=(EXPORT, *(f"resolve-{role}" for role in roles)),
        libraries=tuple(dict.fromkeys((*TRAITS[target.runtime].libraries, *REFERENCES, "numpy"))),
        weight=0.5,
    )


def _roles(spec: ModelOptimizationSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("calibration", reference_of(spec), "evaluation")))


def _source(spec: ModelOptimizationSpec, role: str) -> JsonValue:
    dumped: JsonValue = _given(spec, role).model_dump(mode="json", by_alias=True, exclude={"uri", "digest"})
    return dumped


def _given(spec: ModelOptimizationSpec, role: str) -> DataSource:
    source: DataSource | None = getattr(spec.data, role)
    if source is None:
        raise InvalidInput(f"there is no {role} data", field=f"spec.data.{role}", mend="name a source")
    return source


def run_audit(context: StageContext) -> Artifact:
    """Both sets through the same model, then one against the other."""
    spec, reference = context.spec, reference_of(context.spec)
    sets = {role: _opened(context, role) for role in _roles(spec)}
    together = _all_alike(spec) or any(len(samples) > READ_ALONE for samples in sets.values())
    look = partial(_look, context, size=batch_size(spec.model, READ_TOGETHER if together else 1))
    with TemporaryDirectory(prefix="audit-", dir=context.folder) as scratch:
        threads = this_machine().threads_for(context.target)  # others would sum in another order
        with watched(context.inputs[EXPORT], context.target, Path(scratch), threads=threads) as model:
            mine = look("calibration", sets["calibration"], model, 0.0)
            theirs = look(reference, sets[reference], model, 0.45)
    context.report(0.9, "looking for evaluation samples among those of calibration")
    held_out = _held_out(context, sets["evaluation"], batch_size(spec.model, READ_TOGETHER if together else 1))
    context.report(0.95, "comparing")
    verdict = compare(mine, theirs, held_out, reference_name=reference, held_out_of=len(sets["evaluation"]))
    counts: dict[str, JsonValue] = {"calibration": len(mine), reference: len(theirs)}
    (context.folder / FILE).write_text(json.dumps({"samples": counts, **verdict.figures}, indent=1, sort_keys=True))
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (FILE,), facts(verdict, reference, counts))


def _all_alike(spec: ModelOptimizationSpec) -> bool:
    """Whether every sample has one small size, so that none is padded for its neighbours' sake."""
    axes = [axis for tensor in spec.model.inputs for axis in tensor.shape[1:]]
    values = sum(prod(a for a in tensor.shape[1:] if isinstance(a, int)) for tensor in spec.model.inputs)
    return all(isinstance(axis, int) for axis in axes) and values <= TOGETHER_VALUES


def facts(verdict: Verdict, reference: str, counts: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """What the report shows."""
    ranges, differences = (verdict.figures.get(name) or {} for name in ("ranges", "distributions"))
    small = {name: verdict.figures[name] for name in ("duplicates", "leak", "size") if name in verdict.figures}
    return {
        **as_facts(verdict.findings),
        "mismatches": verdict.mismatches,
        "reference": reference,
        "samples": counts,
        "tensors": _head(ranges, "tensors"),
        "largest": _head(differences, "largest"),
        **small,
    }


def _head(figures: JsonValue, name: str) -> list[JsonValue]:
    rows = figures.get(name) if isinstance(figures, dict) else None
    return rows[:LISTED] if isinstance(rows, list) else []


def _opened(context: StageContext, role: str) -> Samples:
    samples = open_samples(context.inputs[f"resolve-{role}"], _given(context.spec, role), context.spec, role)
    if not len(samples):
        raise InvalidInput(f"there is no {role} sample", field=f"spec.data.{role}.uri", mend="give at least one")
    return samples


def _look(context: StageContext, role: str, samples: Samples, model: Watched, start: float, *, size: int) -> Observed:
    """One set, at most MOST_SAMPLES of it."""
    observer = Observer(model.session.run, model.outputs, _classes(context, model))
    labels: list[NDArray[np.int64]] = []
    seen, most = 0, min(len(samples), MOST_SAMPLES)
    for rows, batch in _spread(samples, size, MOST_SAMPLES):
        kept = {name: array[rows] for name, array in batch.inputs.items()}
        observer.add(fitted(kept, context.spec.model), len(rows))
        if role == "calibration" and batch.labels is not None and batch.labels.dtype.kind in "iu":
            labels.append(np.asarray(batch.labels[rows], np.int64))
        seen += len(rows)
        context.report(start + 0.45 * seen / most, f"looking at {role}, sample {seen} of {most}")
    classes = context.spec.task.type is TaskType.CLASSIFICATION
    return observer.seen(np.concatenate(labels) if labels and classes else None)


def _held_out(context: StageContext, samples: Samples, size: int) -> Observed:
    """Fingerprints of what the model is judged by, of at most MOST_PRINTS samples; labels are not read."""
    found = []
    for rows, batch in _spread(samples, size, MOST_PRINTS):
        kept = {name: array[rows] for name, array in batch.inputs.items()}
        with np.errstate(all="ignore"):  # as where they are observed
            found.append(prints_of(fitted(kept, context.spec.model), len(rows)))
    return Observed({}, {}, np.concatenate(found))


def _classes(context: StageContext, model: Watched) -> str | None:
    if context.spec.task.type is not TaskType.CLASSIFICATION:
        return None
    return context.spec.task.output or model.outputs[0]


def _spread(samples: Samples, size: int, most: int) -> Iterator[tuple[NDArray[np.intp], Batch]]:
    """Batches with the rows of them that are looked at: evenly spread, since files are often sorted."""
    total = len(samples)
    wanted = np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(np.intp))
    start = 0
    for batch in samples.batches(size):
        rows = wanted[(wanted >= start) & (wanted < start + len(batch))] - start
        start += len(batch)
        if len(rows):
            yield rows, batch
