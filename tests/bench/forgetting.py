"""Quantization-aware training in small: images of ten classes, a CNN that tells them apart, and faults to plant."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchao.quantization.pt2e import (
    FusedMovingAvgObsFakeQuantize,
    move_exported_model_to_eval,
    move_exported_model_to_train,
)
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)

from strop_api.findings import Finding
from strop_job.audit.training import Bounds, Comparison, Epoch, Kept, TrainingWatch, compare_with_ptq, tolerance
from strop_job.judgement.evidence import MetricEvidence

CLASSES, SIDE, BATCH = 10, 8, 100
TRAINING, VALIDATION = 1500, 1000
NOISE = 0.9
Module = torch.fx.GraphModule
Pixels = tuple[Tensor, Tensor]


class Network(nn.Module):
    """Two convolutions with norms and a linear layer, [batch, 1, 8, 8] to [batch, 10]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.second, self.norm2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width)
        self.head = nn.Linear(2 * width * (SIDE // 2) ** 2, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Scores."""
        image = torch.relu(self.norm1(self.first(image)))
        return self.head(torch.relu(self.norm2(self.second(image))).flatten(1))


@dataclass(frozen=True)
class Original:
    """A trained model, ready for quantization-aware training, and its data."""

    learning: Module
    """With fake quantization, calibrated on training data; norms take the statistics of each batch."""
    judging: Module
    """The same tensors by the same names; norms take the statistics that were learnt."""
    training: Pixels
    validation: Pixels
    correct: np.ndarray
    """Of the float model: 1 for each validation sample it is right about."""


@dataclass(frozen=True)
class Run:
    """How one training is done. A fault is a field that is not its default."""

    epochs: int = 6
    rate: float = 1e-5
    optimizer: str = "AdamW"
    weight_decay: float = 0.0
    subset: int = TRAINING
    spoil: Callable[[Module], None] | None = None
    """Done to the model before its training."""
    each: Callable[[Module], None] | None = None
    """Done to it after each epoch."""
    data: Callable[[Pixels], Pixels] | None = None
    """Done to the training data."""
    ascend: bool = False
    """The sign of the loss is wrong."""


@dataclass
class Outcome:
    """What a training left behind."""

    watch: TrainingWatch
    comparison: Comparison
    after: float
    """Validation metric of the weights kept."""
    ptq: float
    losses: list[float] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        """All that was said."""
        return [*self.watch.findings, *self.comparison.findings]


def images(seed: int, count: int, noise: float) -> Pixels:
    """Ten random templates, shifted by up to a pixel, scaled and under noise."""
    torch.manual_seed(seed)
    templates = torch.randn(CLASSES, 1, SIDE, SIDE)
    labels = torch.randint(0, CLASSES, (count,))
    shifted = torch.stack([torch.roll(templates[int(c)], _shift(), (1, 2)) for c in labels])
    scale = 0.7 + 0.6 * torch.rand(count, 1, 1, 1)
    return scale * shifted + noise * torch.randn_like(shifted), labels


def _shift() -> tuple[int, int]:
    down, right = (int(x) for x in torch.randint(-1, 2, (2,)))
    return down, right


def _batches(data: Pixels, seed: int) -> Iterator[Pixels]:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(data[0])))
    for start in range(0, len(order) - 1, BATCH):
        chosen = order[start : start + BATCH]
        if len(chosen) > 1:
            yield data[0][chosen], data[1][chosen]


@lru_cache(maxsize=16)
def original(seed: int, width: int = 10, noise: float = NOISE) -> Original:
    """Trains the float model for a few epochs and prepares it."""
    everything = images(seed, TRAINING + VALIDATION, noise)
    training = everything[0][:TRAINING], everything[1][:TRAINING]
    validation = everything[0][TRAINING:], everything[1][TRAINING:]
    model = Network(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(6):
        for image, label in _batches(training, epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(image), label).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        correct = _right(model(validation[0]), validation[1])
    return Original(*_prepare(model, training[0][:256]), training, validation, correct)


def _prepare(model: nn.Module, calibration: Tensor) -> tuple[Module, Module]:
    """Both forms. To rewrite one into the other takes a second, as much as many epochs of this size."""
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(model.train(), (calibration[:8],), dynamic_shapes=dynamic).module()
    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config(is_qat=True))
    judging = prepare_qat_pt2e(exported, quantizer)
    learning = copy.deepcopy(judging)
    move_exported_model_to_eval(judging)
    move_exported_model_to_train(learning)
    with torch.no_grad():
        judging(calibration)
    learning.load_state_dict(judging.state_dict())
    return learning, judging


def _right(scores: Tensor, labels: Tensor) -> np.ndarray:
    return (scores.argmax(1) == labels).numpy().astype(np.float64)


def _judged(judging: Module, learning: Module) -> Module:
    """The form that is judged, with what was learnt. Ranges are held while it is."""
    judging.load_state_dict(learning.state_dict())
    for observer in judging.modules():
        if isinstance(observer, FusedMovingAvgObsFakeQuantize):
            observer.disable_observer()
    return judging


def _validate(model: Module, data: Pixels) -> np.ndarray:
    """1 for each sample that the quantized model is right about."""
    with torch.no_grad():
        return _right(model(data[0]), data[1])


def _loss(model: Module, data: Pixels) -> float:
    """Mean loss over the first training samples, nothing learnt."""
    first = torch.isfinite(data[0][:512]).all()
    with torch.no_grad():
        return float(F.cross_entropy(model(data[0][:512]), data[1][:512])) if first else math.nan


def _train(model: Module, run: Run, data: Pixels, epoch: int, optimizer: torch.optim.Optimizer) -> float:
    """One epoch; the mean loss."""
    losses = []
    for image, label in _batches(data, 100 + epoch):
        optimizer.zero_grad()
        try:
            loss = F.cross_entropy(model(image), label)
        except RuntimeError as error:  # torch's fake quantization has no scale for NaN
            if "zero_point" not in str(error):
                raise
            return math.nan
        (-loss if run.ascend else loss).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses)) if losses else math.nan


def _optimizer(model: Module, run: Run) -> torch.optim.Optimizer:
    if run.optimizer == "SGD":
        return torch.optim.SGD(model.parameters(), lr=run.rate, momentum=0.9, weight_decay=run.weight_decay)
    return torch.optim.AdamW(model.parameters(), lr=run.rate, weight_decay=run.weight_decay)


def qat(start: Original, run: Run, seed: int, *, stops: bool = True) -> Outcome:
    """Trains as a step would: watched after each epoch, ended when the watch says so, held against calibration."""
    torch.manual_seed(seed)
    model, judging = copy.deepcopy(start.learning), copy.deepcopy(start.judging)
    ptq = _validate(_judged(judging, model), start.validation)
    baseline = float(start.correct.mean())
    bounds = Bounds(baseline, True, tolerance(None, baseline, start.correct), run.epochs, guess=math.log(CLASSES))
    watch = TrainingWatch(bounds)
    if run.spoil is not None:
        run.spoil(model)
    data = (start.training[0][: run.subset], start.training[1][: run.subset])
    data = data if run.data is None else run.data(data)
    optimizer = _optimizer(model, run)
    kept, losses = np.zeros(0), []
    before = _validate(_judged(judging, model), start.validation)
    watch = watch.after(Epoch(0, float(before.mean()), _loss(judging, data), run.rate))
    if watch.stop is not None and stops:
        return Outcome(watch, Comparison(Kept.PTQ, None, ()), float(ptq.mean()), float(ptq.mean()))
    for number in range(1, run.epochs + 1):
        losses.append(_train(model, run, data, number, optimizer))
        if run.each is not None:
            run.each(model)
        right = (
            _validate(_judged(judging, model), start.validation) if math.isfinite(losses[-1]) else np.array([math.nan])
        )
        watch = watch.after(Epoch(number, float(right.mean()), losses[-1], run.rate))
        if watch.best is not None and watch.best.number == number:
            kept = right
        if watch.stop is not None and stops:
            break
    watch = watch.ended()
    after = float(kept.mean()) if len(kept) else math.nan
    both = (ptq, kept) if len(kept) else None
    pair = MetricEvidence("accuracy", float(ptq.mean()), after, True, len(ptq), both)
    return Outcome(watch, compare_with_ptq(pair, seed), after, float(ptq.mean()), losses)


# --- faults ---------------------------------------------------------------------------------------------------------


def _weights(model: Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.ndim > 1]


def _fresh(model: Module) -> None:
    for weight in _weights(model):
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))


def _fresh_last(model: Module) -> None:
    nn.init.kaiming_uniform_(_weights(model)[-1], a=math.sqrt(5))


def _fresh_first(model: Module) -> None:
    nn.init.kaiming_uniform_(_weights(model)[0], a=math.sqrt(5))


def _wrong_norms(model: Module) -> None:
    """Statistics of the norms as of data on another scale."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.add_(1.0)
        if name.endswith("running_var"):
            buffer.mul_(20.0)


def _narrow_ranges(model: Module) -> None:
    """Ranges that were observed on zeros: nearly all is clipped, and nobody observes again."""
    for observer in model.modules():
        if isinstance(observer, FusedMovingAvgObsFakeQuantize) and not observer.is_per_channel:
            for end in (observer.activation_post_process.min_val, observer.activation_post_process.max_val):
                end.mul_(0.02)
            observer.disable_observer()
            observer.enable_observer = lambda *_: None  # type: ignore[method-assign]


def _shuffled(data: Pixels) -> Pixels:
    return data[0], data[1][torch.randperm(len(data[1]))]


def _third_shuffled(data: Pixels) -> Pixels:
    third = len(data[1]) // 3
    return data[0], torch.cat([data[1][:third][torch.randperm(third)], data[1][third:]])


def _off_by_one(data: Pixels) -> Pixels:
    return data[0], (data[1] + 1) % CLASSES


def _one_class(data: Pixels) -> Pixels:
    return data[0][data[1] == 3], data[1][data[1] == 3]


def _two_classes(data: Pixels) -> Pixels:
    return data[0][data[1] < 2], data[1][data[1] < 2]


def _unscaled(data: Pixels) -> Pixels:
    return 255 * (data[0] * 0.2 + 0.5), data[1]


def _inverted(data: Pixels) -> Pixels:
    return -data[0], data[1]


def _nan(data: Pixels) -> Pixels:
    spoiled = data[0].clone()
    spoiled[17, 0, 0, 0] = math.nan
    return spoiled, data[1]


FAULTS: dict[str, Run] = {
    "rate-1000-times": Run(rate=1e-1),
    "sgd-rate-100-times": Run(rate=1.0, optimizer="SGD"),
    "no-warm-start": Run(spoil=_fresh),
    "first-layer-anew": Run(spoil=_fresh_first),
    "last-layer-anew": Run(spoil=_fresh_last),
    "shuffled-labels": Run(data=_shuffled, rate=3e-4),
    "third-of-labels-shuffled": Run(data=_third_shuffled, rate=1e-3),
    "labels-off-by-one": Run(data=_off_by_one, rate=1e-4),
    "one-class": Run(data=_one_class, rate=3e-4),
    "two-classes": Run(data=_two_classes, rate=3e-4),
    "unscaled-inputs": Run(data=_unscaled, rate=1e-4),
    "inverted-inputs": Run(data=_inverted, rate=3e-4),
    "nan-in-data": Run(data=_nan),
    "wrong-frozen-norms": Run(each=_wrong_norms),
    "ranges-of-zeros": Run(spoil=_narrow_ranges),
    "wrong-sign": Run(ascend=True, rate=1e-4),
    "weight-decay": Run(rate=1e-3, weight_decay=100.0),
    "long-on-few-samples": Run(epochs=40, rate=1e-2, subset=64),
}
"""What goes wrong in practice, each planted in an otherwise honest run."""

HONEST: tuple[Run, ...] = tuple(
    Run(epochs=epochs, rate=rate, optimizer=optimizer)
    for optimizer, rates in (("AdamW", (1e-6, 1e-5, 3e-5, 1e-4)), ("SGD", (1e-4, 1e-3)))
    for rate in rates
    for epochs in (3, 6)
)
"""Rates and lengths as they are recommended."""


def shortened(run: Run, epochs: int) -> Run:
    """The same run with at most so many epochs."""
    return replace(run, epochs=min(run.epochs, epochs))
