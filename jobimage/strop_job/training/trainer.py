"""The training loop: deterministic, resumable between any two batches, watched after every epoch. Imports torch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from strop_api.steps import Training
from strop_job.audit.training import Bounds, Epoch, TrainingWatch
from strop_job.data.samples import Batch, Samples
from strop_job.errors import InvalidInput
from strop_job.models.torch_model import TorchModel
from strop_job.training import feeding
from strop_job.training.checkpoints import CheckpointFile, Position, State
from strop_job.training.losses import Objective
from strop_job.training.schedule import rate

CLIP_NORM = 1.0
"""Gradients are scaled down to this norm (Pascanu et al., 2013, arXiv:1211.5063)."""


@dataclass(frozen=True)
class Lesson:
    """What is trained, on what, and how."""

    training: Training
    samples: Samples
    objective: Objective
    measure: Callable[[nn.Module], float]
    """The validation metric, larger or smaller as `bounds` says."""
    bounds: Bounds
    seed: int
    device: torch.device
    after_step: Callable[[], None] = lambda: None
    """Called after every optimizer step, such as to keep masked weights zero."""
    start: float | None = None
    """The metric before training, where it is known already."""


@dataclass(frozen=True)
class Learned:
    """How a training went; the module holds the best weights."""

    curve: tuple[dict[str, float], ...]
    """One entry an epoch, from 0 (before training): number, loss, metric, learningRate."""
    best: int
    """The epoch that was kept; 0 when no epoch was better than the start."""
    watch: TrainingWatch
    resumed: bool
    seconds: float


class Stopped(Exception):  # noqa: N818 - no error: it was asked for
    """The training was asked to stop; a checkpoint is written."""


Tell = Callable[[float, str], bool]
"""Told the share that is done and what is being done; True when the training shall stop."""


class Trainer:
    """One training from its start, or from where a checkpoint left it, to its end."""

    def __init__(self, model: TorchModel, lesson: Lesson, kept: CheckpointFile, tell: Tell) -> None:
        self._model, self._lesson, self._kept, self._tell = model, lesson, kept, tell
        self._module = model.module.to(lesson.device)
        extra = lesson.objective.extra
        self._extra = extra.to(lesson.device) if extra is not None else None
        half = lesson.device.type == "cuda"
        self._dtype = torch.bfloat16 if half and torch.cuda.is_bf16_supported() else torch.float16
        self._half = half
        self._scaler = torch.amp.GradScaler(lesson.device.type, enabled=half and self._dtype is torch.float16)
        trained = [*self._module.parameters(), *(self._extra.parameters() if self._extra is not None else ())]
        decay = float(lesson.training.weight_decay)
        self._optimizer = torch.optim.AdamW(trained, lr=self._nominal, weight_decay=decay)
        self._batches = feeding.count(lesson.samples, lesson.training.batch_size)
        self._steps = self._batches * lesson.training.epochs
        self._watch = TrainingWatch(lesson.bounds)
        self._state = State(Position(), {})
        self._began = time.monotonic()
        _refuse_useless(lesson.samples)

    def run(self) -> Learned:
        """Train. Raises Stopped when `tell` asks for it, InvalidInput for data that the loss cannot take."""
        resumed = self._resume()
        if not resumed:
            self._first_look()
        while self._state.position.epoch <= self._lesson.training.epochs and not self._over():
            self._epoch()
        self._module.load_state_dict(self._state.tensors["best"])
        self._module.eval()
        self._model.apply_masks()
        curve = tuple(self._state.curve)
        return Learned(curve, self._state.best, self._watch.ended(), resumed, self._seconds())

    def _resume(self) -> bool:
        found = self._kept.load()
        if found is None:
            return False
        self._state = found
        self._module.load_state_dict(found.tensors["module"])
        self._optimizer.load_state_dict(found.tensors["optimizer"])
        self._scaler.load_state_dict(found.tensors["scaler"])
        if self._extra is not None:
            self._extra.load_state_dict(found.tensors["extra"])
        for entry in found.curve:
            self._watch = self._watch.after(_epoch_of(entry))
        return True

    def _first_look(self) -> None:
        """The state before training: its metric, and its loss on a batch."""
        start = self._lesson.start if self._lesson.start is not None else self._lesson.measure(self._module.eval())
        size = self._lesson.training.batch_size
        first = next(feeding.shuffled(self._lesson.samples, size, seed=self._lesson.seed, epoch=1))
        with torch.no_grad():
            loss = float(self._lesson.objective(self._module.eval(), first))
        self._note({"number": 0, "loss": loss, "metric": start, "learningRate": self._nominal})
        self._state.tensors["best"] = _copied(self._module)

    @property
    def _nominal(self) -> float:
        return float(self._lesson.training.learning_rate)

    def _over(self) -> bool:
        """Whether the watch, or early stopping, ends it before the last epoch."""
        patience = self._lesson.training.early_stopping_epochs
        done = self._state.position.epoch - 1
        return self._watch.stop is not None or (patience is not None and done - self._state.best >= patience)

    def _epoch(self) -> None:
        position = self._state.position
        order = feeding.shuffled(
            self._lesson.samples,
            self._lesson.training.batch_size,
            seed=self._lesson.seed,
            epoch=position.epoch,
            start=position.batch,
        )
        peak = 0.0
        for batch in order:
            peak = max(peak, self._step(batch))
            self._pause_if_asked()
        self._finish_epoch(peak)

    def _step(self, batch: Batch) -> float:
        """One optimizer step; its learning rate."""
        position = self._state.position
        lr = rate(self._nominal, position.step, self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._module.train()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._lesson.device.type, dtype=self._dtype, enabled=self._half):
            loss = self._lesson.objective(self._module, batch)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), CLIP_NORM)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._model.apply_masks()
        self._lesson.after_step()
        position.loss_sum += float(loss.detach())
        position.batch += 1
        position.step += 1
        return lr

    def _finish_epoch(self, peak: float) -> None:
        position = self._state.position
        metric = self._lesson.measure(self._module.eval())
        mean = position.loss_sum / max(position.batch, 1)
        self._note({"number": position.epoch, "loss": mean, "metric": metric, "learningRate": peak})
        if self._better(metric):
            self._state.best, self._state.tensors["best"] = position.epoch, _copied(self._module)
        self._state.position = replace(position, epoch=position.epoch + 1, batch=0, loss_sum=0.0)
        self._pause_if_asked(said=f"epoch {position.epoch} of {self._lesson.training.epochs}: {_figures(mean, metric)}")

    def _better(self, metric: float) -> bool:
        best = next(entry["metric"] for entry in self._state.curve if entry["number"] == self._state.best)
        if not math.isfinite(metric):
            return False
        better = metric > best if self._lesson.bounds.higher_is_better else metric < best
        return better or not math.isfinite(best)

    def _note(self, entry: dict[str, float]) -> None:
        self._state.curve.append(entry)
        self._watch = self._watch.after(_epoch_of(entry))

    def _pause_if_asked(self, said: str = "") -> None:
        position = self._state.position
        words = said or f"epoch {position.epoch} of {self._lesson.training.epochs}, loss {self._mean():.4g}"
        stop = self._tell(position.step / max(self._steps, 1), words)
        if stop or self._kept.due:
            self._checkpoint()
        if stop:
            raise Stopped

    def _mean(self) -> float:
        return self._state.position.loss_sum / max(self._state.position.batch, 1)

    def _checkpoint(self) -> None:
        self._state.position.seconds = self._seconds()
        self._began = time.monotonic()
        tensors: dict[str, Any] = {
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "extra": self._extra.state_dict() if self._extra is not None else {},
        }
        self._state.tensors |= tensors
        self._kept.save(self._state)

    def _seconds(self) -> float:
        return self._state.position.seconds + time.monotonic() - self._began


def _refuse_useless(samples: Samples) -> None:
    if len(samples) == 0:
        raise InvalidInput("the training set is empty", field="spec.data.training.uri")
    if samples.one_label():
        raise InvalidInput(
            "all its samples have the same label",
            field="spec.data.training.uri",
            mend="training needs samples of every class: check how the set was cut out",
        )


def _epoch_of(entry: dict[str, float]) -> Epoch:
    return Epoch(int(entry["number"]), entry["metric"], entry["loss"], entry["learningRate"])


def _copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _figures(loss: float, metric: float) -> str:
    return f"loss {loss:.4g}, validation metric {metric:.4g}"
