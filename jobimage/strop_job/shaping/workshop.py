"""What a step's handler is given: the module, data, a way to judge it, a way to train it. Imports torch."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.training import RECOVERY, Usual
from strop_api.steps import Step, Training
from strop_job.audit.training import Bounds, tolerance
from strop_job.data import Samples, open_samples
from strop_job.data.samples import Arrays
from strop_job.errors import InvalidInput
from strop_job.models.torch_model import TorchModel, call, load_model
from strop_job.shaping.order import PROGRESS, STOP, STOPPED, ShapingOrder
from strop_job.stages import Artifact
from strop_job.tasks.evaluation import evaluate, fixed_batch
from strop_job.tasks.metrics import MetricSamples
from strop_job.training.checkpoints import CheckpointFile
from strop_job.training.losses import Objective, TaskLoss, on
from strop_job.training.trainer import Learned, Lesson, Stopped, Trainer

EVALUATION_BATCH = 64


@dataclass
class Workshop:
    """One step at work."""

    order: ShapingOrder
    spec: ModelOptimizationSpec
    step: Step
    model: TorchModel
    device: torch.device
    findings: list[Finding] = field(default_factory=list)
    """What the step has to say beyond its figures."""
    _sets: dict[str, Samples] = field(default_factory=dict)
    _baseline: MetricSamples | None = None

    @property
    def module(self) -> nn.Module:
        """The module that is worked on."""
        return self.model.module

    @property
    def field(self) -> str:
        """Where the step stands in the spec."""
        return f"spec.steps[{self.order.step}]"

    @property
    def code(self) -> Path | None:
        """Source file of the architecture."""
        return Path(self.order.code) if self.order.code else None

    def samples(self, role: str) -> Samples:
        """One of `spec.data`. Raises InvalidInput when the spec has it not."""
        source = getattr(self.spec.data, role)
        if source is None or role not in self.order.data:
            raise InvalidInput(f"the step {self.step.name} needs it", field=f"spec.data.{role}", mend="add the set")
        if role not in self._sets:
            self._sets[role] = open_samples(self.order.data[role].artifact, source, self.spec, role)
        return self._sets[role]

    def extra(self, name: str) -> Artifact:
        """What the step names by uri."""
        return self.order.extras[name].artifact

    def original(self) -> TorchModel:
        """The model as the user gave it, loaded anew."""
        return load_model(self.spec.model, self.order.original.artifact, self.code)

    def measure(self, module: nn.Module, role: str = "validation") -> MetricSamples:
        """The spec's metric of a module on a set, in evaluation mode; on no other set than validation is chosen."""
        module.to(self.device).eval()

        def run(inputs: Arrays) -> Arrays:
            with torch.no_grad():
                return {name: _array(value) for name, value in call(module, on(self.device, inputs)).items()}

        return evaluate(self.spec.task, self.samples(role), run, EVALUATION_BATCH)

    def baseline(self) -> MetricSamples:
        """The original's metric on validation data, measured once."""
        if self._baseline is None:
            self._baseline = self.measure(self.original().module)
        return self._baseline

    def train(
        self,
        training: Training,
        objective: Objective | None = None,
        *,
        usual: Usual = RECOVERY,
        start: float | None = None,
        part: str = "",
        share: tuple[float, float] = (0.0, 1.0),
    ) -> Learned:
        """Train the module on the training set; the best weights are in it afterwards, and its findings are ours.

        `part` tells several trainings of one step apart; `share` is the stretch of the step's progress that this takes.
        Raises Stopped when the worker must leave; the checkpoint is written then.
        """
        before, gate = self.baseline(), self.spec.gates.metric_drop
        bounds = Bounds(
            baseline=before.figure,
            higher_is_better=before.higher_is_better,
            tolerance=tolerance(gate, before.figure, before.per_sample),
            epochs=training.epochs,
            usual=usual,
        )
        lesson = Lesson(
            training=training,
            samples=self.samples("training"),
            objective=objective or TaskLoss(self.spec.task, self.device),
            measure=lambda module: self.measure(module).figure,
            bounds=bounds,
            seed=self.spec.seed + self.order.step,
            device=self.device,
            start=start,
        )
        fixed = fixed_batch(lesson.samples)
        if fixed is not None and fixed != training.batch_size:
            raise InvalidInput(
                f"the model takes batches of {fixed} only", field=f"{self.field}.batchSize", mend=f"write {fixed}"
            )
        low, high = share
        learned = Trainer(
            self.model, lesson, self._checkpoint(part), lambda done, said: self.tell(low + (high - low) * done, said)
        ).run()
        self.findings += [found for found in learned.watch.findings if found not in self.findings]
        return learned

    def _checkpoint(self, part: str) -> CheckpointFile:
        path = Path(self.order.checkpoint)
        named = path.with_name(f"{path.name}-{part}") if part else path
        return CheckpointFile(named, self.order.checkpoint_seconds, f"{self.step.name}/{part}")

    def tell(self, share: float, said: str) -> bool:
        """Tell the parent how far the step is; True when it must stop."""
        folder = Path(self.order.folder)
        fresh = folder / f"{PROGRESS}.new"
        fresh.write_text(json.dumps({"share": share, "message": said[:200]}))
        fresh.replace(folder / PROGRESS)
        return (folder / STOP).exists()

    def report(self, share: float, said: str) -> None:
        """As `tell`, where there is nothing to keep. Raises Stopped."""
        if self.tell(share, said):
            raise Stopped

    def stopped(self) -> None:
        """Tell the parent that what could be kept is kept."""
        (Path(self.order.folder) / STOPPED).touch()


Handler = Callable[[Workshop], dict[str, JsonValue]]
"""Does a step to `Workshop.model`; what it returns joins the artifact's facts."""


def _array(value: torch.Tensor) -> "np.ndarray":
    plain = value.detach().cpu()
    return np.asarray((plain.float() if plain.dtype is torch.bfloat16 else plain).numpy())
