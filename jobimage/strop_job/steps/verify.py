"""The verify stage: parity of the compiled engine, fidelity to the original, and the task's metric of both."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.model import TaskType
from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import Target
from strop_job.backends import TRAITS, Session, backend_for
from strop_job.batches import batch_size, fitted, resized
from strop_job.benchmark.inputs import optimum_shape
from strop_job.data import Samples, open_samples
from strop_job.errors import InvalidInput
from strop_job.hardware import this_machine
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext
from strop_job.tasks import MetricSamples, evaluate
from strop_job.tasks.evaluation import output_of
from strop_job.verification import parity
from strop_job.verification.divergence import Lab, Suspect, locate
from strop_job.verification.fidelity import Fidelity
from strop_job.verification.rounding import COPIES, shaker_of

ENGINE, ORIGINAL, EXPORT, EVALUATION = "compile", "compile-original", "export", "resolve-evaluation"
SAMPLES_FILE = "samples.npz"
REFERENCES = ("onnxruntime", "onnxruntime-gpu", "onnx")
"""Distributions that compute what an ONNX graph yields, and so what its engine is compared with."""
EVALUATION_BATCH = 16
PARITY_SAMPLES = 32
Arrays = dict[str, NDArray[Any]]


def verify_stage(spec: ModelOptimizationSpec, target: Target, last: str) -> Stage:
    """Engines, graphs and evaluation data to a MEASUREMENT; `last` is the stage whose graph was compiled.

    Facts: `metric` {name, original, optimized, higherIsBetter, samples}, `fidelity` {cosine, agreement, sqnrDecibels},
    `inspection`, `parity` and `originalParity` {shapes, worst, tolerance, passed, reference, and where it failed
    `divergence` {node, operator, tensor, error, with, note}}. Files: `samples.npz` with `original` and `optimized` (a
    figure per sample, paired), for classes also `labels` and both `…_predictions`, with `groups` the group of each.
    """
    model = spec.model
    return Stage(
        name="verify",
        kind="Verify",
        version=4,
        run=partial(run_verify, last=last),
        parameters={
            "task": spec.task.model_dump(mode="json", by_alias=True),
            "evaluation": spec.data.evaluation.model_dump(mode="json", by_alias=True, exclude={"uri", "digest"}),
            "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in model.inputs],
            "dimensions": [dimension.model_dump(mode="json", by_alias=True) for dimension in model.dimensions],
            "target": target.model_dump(mode="json", by_alias=True, exclude={"name", "optional"}),
        },
        needs=tuple(dict.fromkeys((ENGINE, ORIGINAL, EXPORT, last, EVALUATION))),
        libraries=tuple(dict.fromkeys((*TRAITS[target.runtime].libraries, *REFERENCES, "numpy"))),
        hardware=True,
        weight=2.0,
    )


def run_verify(context: StageContext, last: str) -> Artifact:
    """Parity first: figures of an engine that is not its graph would be about something else."""
    samples = open_samples(context.inputs[EVALUATION], context.spec.data.evaluation, context.spec, "evaluation")
    if not len(samples):
        raise InvalidInput("there is no evaluation sample", field="spec.data.evaluation.uri", mend="give at least one")
    with ExitStack() as opened:
        engine = opened.enter_context(_session(context, context.inputs[ENGINE]))
        original = opened.enter_context(_session(context, context.inputs[ORIGINAL]))
        first = _first(context, samples)
        tried = min(PARITY_SAMPLES, len(samples))
        _refuse_not_finite(_broken_answers(context, original, first), f"the first {tried}")
        context.report(0.02, "comparing the engines with their graphs")
        compared = _parity(context, last, engine, original, first)
        fidelity, before, after = evaluate_both(context, samples, engine, original)
    save_samples(context.folder / SAMPLES_FILE, before, after, samples.groups())
    context.report(0.98, "inspecting the engine")
    facts: dict[str, JsonValue] = {
        "metric": metric_facts(before, after),
        "fidelity": fidelity.facts(),
        **compared,
        "inspection": _inspection(context),
        "threads": this_machine().threads_for(context.target),
    }
    return Artifact(ArtifactKind.MEASUREMENT, context.folder, (SAMPLES_FILE,), facts)


@contextmanager
def _session(context: StageContext, artifact: Artifact, *, optimized: bool = True) -> Iterator[Session]:
    """Spinning is off: several sessions take turns in this process."""
    target = context.target
    session = backend_for(target.runtime).open(
        artifact, target, threads=this_machine().threads_for(target), optimized=optimized, spinning=False
    )
    try:
        yield session
    finally:
        session.close()


def _first(context: StageContext, samples: Samples) -> Arrays:
    return next(iter(samples.batches(min(PARITY_SAMPLES, len(samples))))).inputs


def _parity(
    context: StageContext, last: str, engine: Session, original: Session, samples: Arrays
) -> dict[str, JsonValue]:
    """Both engines, each against its own graph; the graph itself is held against the original's engine."""
    compare = partial(_compare, context, samples)
    with _session(context, context.inputs[EXPORT], optimized=False) as plain:
        of_original = compare(Pair(ORIGINAL, EXPORT, original, plain), None, share=0.15)
        if last == EXPORT:
            of_engine = compare(Pair(ENGINE, EXPORT, engine, plain), None, share=0.3)
            return {"parity": of_engine, "originalParity": of_original}
    with _session(context, context.inputs[last], optimized=False) as plain:
        return {
            "parity": compare(Pair(ENGINE, last, engine, plain), original, share=0.3),
            "originalParity": of_original,
        }


@dataclass(frozen=True)
class Pair:
    """An engine and the graph it was compiled from: the stages that made them, and both opened."""

    made: str
    written: str
    engine: Session
    graph: Session


def _compare(
    context: StageContext, samples: Arrays, pair: Pair, original: Session | None, *, share: float
) -> dict[str, JsonValue]:
    model, graph = context.spec.model, context.inputs[pair.written]
    found = backend_for(context.target.runtime).arithmetic(graph)
    points = []
    with ExitStack() as opened:
        copies = _copies(context, graph, opened) if found.integer and original is not None else ()
        for sizes in parity.sizes_to_try(model):
            points.append(parity.compare(pair.engine, pair.graph, original, samples, model, sizes, copies))
            context.report(share, f"compared at {', '.join(f'{n}={s}' for n, s in sizes.items()) or 'the fixed shape'}")
    half = found.half or parity.rounds_inputs(context.target)
    bound = parity.tolerance(points, integer=found.integer, half=half)
    facts = parity.facts(points, bound) | {"reference": parity.REFERENCES.get(graph.kind, "")}
    failed = parity.nearest_failure(points, bound)
    if failed is None:
        return facts
    suspect = Suspect(context.inputs[pair.made], graph, resized(samples, model, failed.sizes), bound)
    return facts | {"divergence": _divergence(context, suspect, share)}


def _copies(context: StageContext, graph: Artifact, opened: ExitStack) -> tuple[Session, ...]:
    """The graph with other last bits, run as it is written; none of a kind that nobody shakes."""
    shake = shaker_of(graph)
    if shake is None:
        return ()
    made = []
    for seed in range(COPIES):
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="copy-", dir=context.folder)))
        made.append(opened.enter_context(_session(context, shake(graph, seed, folder), optimized=False)))
    return tuple(made)


def _divergence(context: StageContext, suspect: Suspect, share: float) -> dict[str, JsonValue]:
    """Which layer it is: a person would look for it for days."""
    context.report(share, "looking for the layer that diverges")
    lab = Lab(
        backend_for(context.target.runtime),
        context.target,
        context.spec.model,
        this_machine().threads_for(context.target),
        context.folder,
        lambda _, message: context.report(share, message),
        context.cache,
    )
    return locate(suspect, lab).facts()


def evaluate_both(
    context: StageContext, samples: Samples, engine: Session, original: Session
) -> tuple[Fidelity, MetricSamples, MetricSamples]:
    """Both models on the same samples in the same order; the original's outputs wait on the disk, not in memory."""
    task = context.spec.task
    size = batch_size(context.spec.model, EVALUATION_BATCH)
    fidelity = Fidelity(classes=task.type is TaskType.CLASSIFICATION)
    passes = 2 if task.type is TaskType.RETRIEVAL else 1
    calls = passes * math.ceil(len(samples) / size)
    broken: Counter[str] = Counter()
    with TemporaryFile(dir=context.folder) as spool:

        def first(inputs: Arrays) -> Arrays:
            outputs = _run(context, original, inputs)
            broken.update(_not_finite(outputs))
            np.save(spool, output_of(task, outputs), allow_pickle=False)
            return outputs

        def second(inputs: Arrays) -> Arrays:
            outputs = _run(context, engine, inputs)
            fidelity.add(np.load(spool, allow_pickle=False), output_of(task, outputs))
            return outputs

        before = evaluate(task, samples, _told(context, first, 0.3, calls, "the original"), size)
        _refuse_not_finite(broken, f"{len(samples)}")
        spool.seek(0)
        after = evaluate(task, samples, _told(context, second, 0.65, calls, "the engine"), size)
    return fidelity, before, after


def _broken_answers(context: StageContext, session: Session, inputs: Arrays) -> Counter[str]:
    """Samples that a model answers with NaN or infinity, by output; in calls of a size that it takes."""
    count, size = len(next(iter(inputs.values()))), batch_size(context.spec.model, EVALUATION_BATCH)
    cuts = ({name: array[at : at + size] for name, array in inputs.items()} for at in range(0, count, size))
    return sum((_not_finite(_run(context, session, cut)) for cut in cuts), Counter[str]())


def _not_finite(outputs: Arrays) -> Counter[str]:
    """Samples with NaN or infinity, by output."""
    floats = {name: array for name, array in outputs.items() if array.dtype.kind == "f" and array.ndim}
    rows = {name: np.isfinite(array.reshape(len(array), -1)).all(axis=1) for name, array in floats.items()}
    return Counter({name: int((~whole).sum()) for name, whole in rows.items() if not whole.all()})


def _refuse_not_finite(broken: Counter[str], samples: str) -> None:
    """An original that answers with NaN is no measure of anything: whatever the engine does, nothing is lost."""
    if broken:
        outputs = " and ".join(f"`{name}` for {count} of {samples} samples" for name, count in sorted(broken.items()))
        raise InvalidInput(
            f"the original model yields NaN or infinity on the evaluation data: in output {outputs}",
            field="spec.model.uri",
            mend="check the weights and the scale of the data",
        )


def _run(context: StageContext, session: Session, inputs: Arrays) -> Arrays:
    """One call; a batch below the model's minimum is filled up and its surplus cut off."""
    count = len(next(iter(inputs.values())))
    whole = fitted(inputs, context.spec.model)
    outputs = session.run(whole)
    return outputs if len(next(iter(whole.values()))) == count else {n: a[:count] for n, a in outputs.items()}


def _told(context: StageContext, run: Any, start: float, calls: int, whom: str) -> Any:
    """`run`, with its progress reported over 0.33 of the stage."""
    done = 0

    def told(inputs: Arrays) -> Arrays:
        nonlocal done
        outputs: Arrays = run(inputs)
        done += 1
        context.report(start + 0.33 * min(1.0, done / calls), f"evaluating {whom}, call {done} of {calls}")
        return outputs

    return told


def metric_facts(before: MetricSamples, after: MetricSamples) -> dict[str, JsonValue]:
    """The task's metric of both, as facts."""
    return {
        "name": before.name,
        "original": before.figure,
        "optimized": after.figure,
        "higherIsBetter": before.higher_is_better,
        "samples": before.count,
    }


def save_samples(
    path: Path, before: MetricSamples, after: MetricSamples, groups: NDArray[np.str_] | None = None
) -> None:
    """What intervals are made from: a figure per sample, or labels and predictions; and the groups, numbered from 0."""
    arrays: dict[str, NDArray[Any]] = {}
    if before.per_sample is not None and after.per_sample is not None:
        arrays |= {"original": before.per_sample, "optimized": after.per_sample}
    if before.labels is not None and before.predictions is not None and after.predictions is not None:
        arrays |= {"labels": before.labels}
        arrays |= {"original_predictions": before.predictions, "optimized_predictions": after.predictions}
    if groups is not None:
        arrays["groups"] = np.unique(groups, return_inverse=True)[1]
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _inspection(context: StageContext) -> dict[str, JsonValue]:
    shapes: Mapping[str, tuple[int, ...]] = {
        tensor.name: optimum_shape(tensor, context.spec.model) for tensor in context.spec.model.inputs
    }
    engine = context.inputs[ENGINE]
    return backend_for(context.target.runtime).inspect(engine, context.target, shapes).facts()
