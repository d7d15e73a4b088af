"""Metrics: from outputs and labels to one figure a sample. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strop_api.model import Metric, TaskSpec
from strop_job.errors import InvalidInput, Unsupported
from strop_job.judgement.statistics import macro_f1

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

LOWER_IS_BETTER = frozenset({Metric.MSE, Metric.MAE, Metric.PERPLEXITY})
LABELS, OUTPUT = "spec.task.labels", "spec.task.output"
SCORES_BLOCK = 512
"""Queries compared with all documents at a time."""


@dataclass(frozen=True)
class MetricSamples:
    """A metric with what it was made of."""

    name: str
    figure: float
    higher_is_better: bool
    count: int
    per_sample: Floats | None
    """Figures whose mean is the metric; None for a metric that is no mean (f1_macro)."""
    labels: NDArray[np.int64] | None = None
    """Classification: the true classes."""
    predictions: NDArray[np.int64] | None = None
    """Classification: the predicted classes, -1 where the output was NaN."""


def higher_is_better(task: TaskSpec) -> bool:
    """The metric's direction."""
    if task.metric is Metric.CUSTOM:
        if task.direction is None:
            raise InvalidInput("a custom metric has no direction", field="spec.task.direction", mend="state it")
        return task.direction == "Maximize"
    return task.metric not in LOWER_IS_BETTER


def mean_of(task: TaskSpec, per_sample: Floats) -> MetricSamples:
    """A metric that is the mean of its figures."""
    return MetricSamples(
        task.metric.value, float(per_sample.mean()), higher_is_better(task), len(per_sample), per_sample
    )


def predicted_classes(output: Array) -> NDArray[np.int64]:
    """The largest score's position, [batch, classes] to [batch]; -1, never right, where a score is NaN."""
    if output.ndim != 2 or output.shape[1] < 2:
        raise Unsupported(
            f"the output has shape {list(output.shape)}; classification needs [batch, classes]",
            field=OUTPUT,
            mend="name the output with the scores of at least two classes",
        )
    classes: NDArray[np.int64] = output.argmax(axis=1).astype(np.int64)
    return np.where(np.isnan(output.astype(np.float32)).any(axis=1), -1, classes)


def checked_classes(labels: Array, classes: int) -> NDArray[np.int64]:
    """Labels as class numbers; InvalidInput unless they are whole numbers in [0, `classes`)."""
    flat = labels.reshape(len(labels), -1)
    if labels.dtype.kind not in "iub" or flat.shape[1] != 1:
        raise InvalidInput(
            f"labels are {labels.dtype.name} of shape {list(labels.shape[1:])} a sample, not class numbers",
            field=LABELS,
        )
    numbers = flat[:, 0].astype(np.int64)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= classes):
        raise InvalidInput(
            f"labels run from {numbers.min()} to {numbers.max()}; the model has {classes} classes",
            field=LABELS,
            mend="number the classes as the model does, from 0",
        )
    return numbers


def classification(task: TaskSpec, labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> MetricSamples:
    """Accuracy, or the unweighted mean of the classes' F1."""
    if task.metric is Metric.ACCURACY:
        correct = (labels == predictions).astype(np.float64)
        return MetricSamples("accuracy", float(correct.mean()), True, len(labels), correct, labels, predictions)
    if task.metric is Metric.F1_MACRO:
        figure = macro_f1(labels, predictions)
        return MetricSamples("f1_macro", figure, True, len(labels), None, labels, predictions)
    raise refused(task)


def regression_errors(task: TaskSpec, output: Array, labels: Array) -> Floats:
    """Squared or absolute error of each sample, averaged over its outputs; infinite where the output is NaN."""
    if output.size != labels.size:
        raise InvalidInput(f"the output has shape {list(output.shape)}, the labels {list(labels.shape)}", field=LABELS)
    gap = (output.reshape(len(labels), -1).astype(np.float64)) - labels.reshape(len(labels), -1).astype(np.float64)
    if task.metric not in (Metric.MSE, Metric.MAE):
        raise refused(task)
    errors: Floats = (gap**2 if task.metric is Metric.MSE else np.abs(gap)).mean(axis=1)
    return np.where(np.isnan(errors), np.inf, errors)


def retrieval_ranks(queries: Array, documents: Array) -> NDArray[np.int64]:
    """The rank, from 1, of each row's own document by cosine among all documents. A tie counts against it.

    `queries` and `documents` are [n, d]. A vector with NaN ranks last.
    """
    count = len(queries)
    rows, columns = _unit(queries), _unit(documents)
    ranks = np.empty(count, np.int64)
    for start in range(0, count, SCORES_BLOCK):
        scores = rows[start : start + SCORES_BLOCK] @ columns.T
        here = np.arange(start, min(start + SCORES_BLOCK, count))
        own = scores[np.arange(len(here)), here]
        ranks[here] = np.where(np.isnan(own), count, (~(scores < own[:, None])).sum(axis=1))
    return ranks


def retrieval(task: TaskSpec, ranks: NDArray[np.int64]) -> MetricSamples:
    """Recall at 1, or the mean reciprocal rank."""
    if task.metric is Metric.RECALL_AT_1:
        return mean_of(task, (ranks == 1).astype(np.float64))
    if task.metric is Metric.MRR:
        return mean_of(task, 1.0 / ranks)
    raise refused(task)


def refused(task: TaskSpec) -> Unsupported:
    """The error for a metric that does not go with the task."""
    return Unsupported(
        f"the metric {task.metric.value} is not measured for the task {task.type.value}",
        field="spec.task.metric",
        mend="Classification: accuracy, f1_macro; Regression: mse, mae; Retrieval: recall_at_1, mrr; Custom: custom",
    )


def _unit(vectors: Array) -> NDArray[np.float32]:
    if vectors.ndim != 2:
        raise Unsupported(
            f"the output has shape {list(vectors.shape)}; retrieval needs one vector a text", field=OUTPUT
        )
    single = vectors.astype(np.float32)
    norms: NDArray[np.float32] = np.linalg.norm(single, axis=1, keepdims=True).astype(np.float32)
    return np.asarray(single / np.maximum(norms, np.float32(1e-12)), np.float32)
