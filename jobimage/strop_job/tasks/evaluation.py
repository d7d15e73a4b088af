"""Runs a model over labelled samples and judges what it answers."""

from collections.abc import Callable, Iterator

import numpy as np

from strop_api.model import Metric, TaskSpec, TaskType
from strop_job.data.samples import Array, Arrays, Batch, Samples
from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.architectures import find_callable
from strop_job.tasks.metrics import (
    LABELS,
    OUTPUT,
    MetricSamples,
    checked_classes,
    classification,
    mean_of,
    predicted_classes,
    refused,
    regression_errors,
    retrieval,
    retrieval_ranks,
)

Run = Callable[[Arrays], Arrays]
"""Inputs to outputs, by name; outputs in the model's order."""


def evaluate(task: TaskSpec, samples: Samples, run: Run, batch_size: int) -> MetricSamples:
    """The metric of `run` on the samples.

    Raises Unsupported for a metric that does not go with the task or is not in this release, InvalidInput for labels
    that do not fit the outputs.
    """
    judge = JUDGES.get(task.type)
    if judge is None or (task.metric is Metric.CUSTOM) != (task.type is TaskType.CUSTOM):
        raise (
            refused(task)
            if judge
            else Unsupported(
                f"the task {task.type.value} is not in this release",
                field="spec.task.type",
                mend=f"one of {_offered()}",
            )
        )
    return judge(task, samples.batches(fixed_batch(samples) or batch_size), _padded(run, fixed_batch(samples)))


def fixed_batch(samples: Samples) -> int | None:
    """The batch size a model is fixed to: then every call must have exactly that many rows."""
    first = samples.reading.inputs[0].shape[:1]
    if first and isinstance(first[0], int):
        return first[0]
    dimension = samples.reading.dimensions.get(str(first[0])) if first else None
    return dimension.max if dimension and dimension.min == dimension.max else None


def output_of(task: TaskSpec, outputs: Arrays) -> Array:
    """The output that is judged."""
    if task.output is None:
        return next(iter(outputs.values()))
    if task.output not in outputs:
        raise InvalidInput(f"the model has no output {task.output!r}; it has {', '.join(outputs)}", field=OUTPUT)
    return outputs[task.output]


def _classification(task: TaskSpec, batches: Iterator[Batch], run: Run) -> MetricSamples:
    labels, predictions = [], []
    for batch in batches:
        output = output_of(task, run(batch.inputs))
        predictions.append(predicted_classes(output))
        labels.append(checked_classes(_labels(batch), output.shape[1]))
    return classification(task, np.concatenate(labels), np.concatenate(predictions))


def _regression(task: TaskSpec, batches: Iterator[Batch], run: Run) -> MetricSamples:
    errors = [regression_errors(task, output_of(task, run(b.inputs)), _labels(b)) for b in batches]
    return mean_of(task, np.concatenate(errors))


def _retrieval(task: TaskSpec, batches: Iterator[Batch], run: Run) -> MetricSamples:
    queries, documents = [], []
    for batch in batches:
        if batch.documents is None:
            raise InvalidInput("retrieval needs a column with documents", field=LABELS)
        queries.append(output_of(task, run(batch.inputs)))
        documents.append(output_of(task, run(batch.documents)))
    return retrieval(task, retrieval_ranks(np.concatenate(queries), np.concatenate(documents)))


def _custom(task: TaskSpec, batches: Iterator[Batch], run: Run) -> MetricSamples:
    if task.callable is None:
        raise InvalidInput(
            "a custom metric needs its callable", field="spec.task.callable", mend="name one of the image"
        )
    judge = find_callable(task.callable, field="spec.task.callable")
    figures = []
    for batch in batches:
        figure = np.asarray(judge(run(batch.inputs), _labels(batch)), np.float64)
        if figure.shape != (len(batch),):
            raise InvalidInput(
                f"{task.callable} returned shape {list(figure.shape)} for {len(batch)} samples, not one figure each",
                field="spec.task.callable",
            )
        figures.append(figure)
    return mean_of(task, np.concatenate(figures))


JUDGES: dict[TaskType, Callable[[TaskSpec, Iterator[Batch], Run], MetricSamples]] = {
    TaskType.CLASSIFICATION: _classification,
    TaskType.REGRESSION: _regression,
    TaskType.RETRIEVAL: _retrieval,
    TaskType.CUSTOM: _custom,
}


def _offered() -> str:
    return ", ".join(t.value for t in JUDGES)


def _labels(batch: Batch) -> Array:
    if batch.labels is None:
        raise InvalidInput("the samples have no labels", field=LABELS, mend="add the array or column")
    return batch.labels


def _padded(run: Run, size: int | None) -> Run:
    """`run` for a model of fixed batch size: short batches are filled with their last row, the surplus cut off."""
    if size is None:
        return run

    def filled(inputs: Arrays) -> Arrays:
        count = len(next(iter(inputs.values())))
        if count == size:
            return run(inputs)
        rows = np.minimum(np.arange(size), count - 1)
        return {name: value[:count] for name, value in run({n: v[rows] for n, v in inputs.items()}).items()}

    return filled
