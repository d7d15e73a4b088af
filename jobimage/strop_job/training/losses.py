"""The loss of each task, from a module's outputs and labels to one number that can be minimized. Imports torch."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from strop_api.model import Metric, TaskSpec, TaskType
from strop_job.data.samples import Array, Arrays, Batch
from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.torch_model import call
from strop_job.tasks.metrics import LABELS, OUTPUT, checked_classes

CONTRAST = 20.0
"""Inverse temperature of cosines in a contrastive loss (Reimers and Gurevych, 2019: sentence-transformers' default)."""
SUMS_TO_ONE = 1e-3
"""Rows of non-negative numbers whose sums are this close to 1 are taken for probabilities."""


class Objective(Protocol):
    """What is minimized."""

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor:
        """The mean loss of a batch, with a gradient."""

    @property
    def extra(self) -> nn.Module | None:
        """What is trained beside the module and thrown away afterwards; None mostly."""


class TaskLoss:
    """The task's own loss, on labels."""

    extra: nn.Module | None = None

    def __init__(self, task: TaskSpec, device: torch.device) -> None:
        if task.type not in LOSSES:
            raise Unsupported(
                f"the task {task.type.value} has no loss to train with",
                field="spec.task.type",
                mend=f"training steps serve {', '.join(t.value for t in LOSSES)}",
            )
        self._task, self._device, self._loss = task, device, LOSSES[task.type]

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor:
        """Raises InvalidInput for labels that do not fit the outputs."""
        output = chosen(self._task, call(module, on(self._device, batch.inputs)))
        return self.of(module, batch, output)

    def of(self, module: nn.Module, batch: Batch, output: Tensor) -> Tensor:
        """The loss of an output that is known already."""
        return self._loss(self._task, module, batch, output)


def chosen(task: TaskSpec, outputs: Mapping[str, Tensor]) -> Tensor:
    """The output that is judged."""
    if task.output is None:
        return next(iter(outputs.values()))
    if task.output not in outputs:
        raise InvalidInput(f"the model has no output {task.output!r}; it has {', '.join(outputs)}", field=OUTPUT)
    return outputs[task.output]


def on(device: torch.device, arrays: Arrays) -> dict[str, Tensor]:
    """The arrays as tensors on a device."""
    return {name: torch.from_numpy(value).to(device, non_blocking=True) for name, value in arrays.items()}


def log_probabilities(output: Tensor) -> Tensor:
    """Of scores [batch, classes]: their log-softmax, or their logarithm where they are probabilities already."""
    single = output.float()
    sums = single.detach().sum(dim=-1)
    if bool((single.detach() >= 0).all()) and bool(((sums - 1).abs() < SUMS_TO_ONE).all()):
        return single.clamp_min(torch.finfo(torch.float32).tiny).log()
    return single.log_softmax(dim=-1)


def _classification(task: TaskSpec, module: nn.Module, batch: Batch, output: Tensor) -> Tensor:
    labels = torch.from_numpy(checked_classes(labels_of(batch), output.shape[-1])).to(output.device)
    return nn.functional.nll_loss(log_probabilities(output), labels)


def _regression(task: TaskSpec, module: nn.Module, batch: Batch, output: Tensor) -> Tensor:
    labels = torch.from_numpy(labels_of(batch).astype("float32")).to(output.device)
    if output.numel() != labels.numel():
        raise InvalidInput(f"the output has shape {list(output.shape)}, the labels {list(labels.shape)}", field=LABELS)
    gap = output.float().reshape(labels.shape) - labels
    return gap.abs().mean() if task.metric is Metric.MAE else (gap**2).mean()


def _retrieval(task: TaskSpec, module: nn.Module, batch: Batch, output: Tensor) -> Tensor:
    """Each row's own document against those of the other rows (Henderson et al., 2017, arXiv:1705.00652)."""
    if batch.documents is None:
        raise InvalidInput("retrieval needs a column with documents", field=LABELS)
    documents = chosen(task, call(module, on(output.device, batch.documents)))
    cosines = nn.functional.normalize(output, dim=-1) @ nn.functional.normalize(documents, dim=-1).T
    return nn.functional.cross_entropy(CONTRAST * cosines, torch.arange(len(output), device=output.device))


LOSSES: dict[TaskType, Callable[[TaskSpec, nn.Module, Batch, Tensor], Tensor]] = {
    TaskType.CLASSIFICATION: _classification,
    TaskType.REGRESSION: _regression,
    TaskType.RETRIEVAL: _retrieval,
}


def labels_of(batch: Batch) -> Array:
    """The labels; InvalidInput without."""
    if batch.labels is None:
        raise InvalidInput("the samples have no labels", field=LABELS, mend="add the array or column")
    return batch.labels
