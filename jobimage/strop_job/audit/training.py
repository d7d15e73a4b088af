"""Whether training a trained model on helps it or harms it: watched epoch by epoch, and held against calibration alone.

Pure, and of no framework: a training step feeds `TrainingWatch` with what it measured on validation data after each
epoch and stops when it says so; at the end `compare_with_ptq` says which of two quantized models is kept. This release
has no training step: the tests and a bench drive both with real trainings, steps will once there are some.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from strop_api.base import percent
from strop_api.checks import training as checks
from strop_api.findings import Finding
from strop_api.rules.training import LOWEST_RATE, QAT, Usual
from strop_api.targets import MetricDropGate
from strop_job.judgement.evidence import MetricEvidence
from strop_job.judgement.losses import loss_points
from strop_job.judgement.statistics import Floats, Interval, normal_quantile, one_sided

CONFIDENCE = 0.95
"""One-sided, of everything that is said to be beyond noise."""
DEFAULT_POINTS = 1.0
"""The loss that is tolerated where no gate says another: what a run with no gate at all is held to."""
CLIMB = 2.0
"""A loss this many times the worse of where it started and the lowest so far, twice running, diverges."""
NEARLY_CHANCE = 0.9
"""A loss above this share of a guess's is one: a trained model's is far below, even one that is right in a quarter."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch left behind."""

    number: int
    """From 1. 0 is the state before any training: then the loss is the model's over (some) training data as it is."""
    metric: float
    """On validation data, with the quantization simulated."""
    loss: float
    """Mean training loss of the epoch."""
    learning_rate: float
    """The highest of the epoch."""


@dataclass(frozen=True)
class Bounds:
    """What a training is held to."""

    baseline: float
    """The original's metric on the same validation data."""
    higher_is_better: bool
    tolerance: float
    """In the metric's unit: see `tolerance`."""
    epochs: int
    """How many are planned."""
    patience: int = 2
    """Evaluations in a row that must be below before it counts."""
    usual: Usual = QAT
    guess: float | None = None
    """The loss of a uniform guess: log(classes) for a cross entropy in nats. None for losses without one."""

    def behind(self, metric: float) -> float:
        """How far a metric is below `baseline - tolerance`; negative when it is not. NaN is infinitely far."""
        if math.isnan(metric):
            return math.inf
        loss = self.baseline - metric if self.higher_is_better else metric - self.baseline
        return loss - self.tolerance


@dataclass(frozen=True)
class TrainingWatch:
    """What was seen so far. `after` gives the next one; `stop` is the reason to end the training now, if any."""

    bounds: Bounds
    seen: tuple[Epoch, ...] = ()
    findings: tuple[Finding, ...] = field(default=())
    """All that was said so far, each thing once."""
    stop: Finding | None = None

    def after(self, epoch: Epoch) -> "TrainingWatch":
        """With one more epoch looked at. A stop stays."""
        seen = (*self.seen, epoch)
        reason = (
            self.stop or _guesses(self.bounds, epoch) or _diverged(self.bounds, seen) or _forgets(self.bounds, seen)
        )
        found = [
            *out_of_range(epoch.learning_rate, self.bounds.epochs, self.bounds.usual),
            *([reason] if reason else []),
        ]
        return replace(self, seen=seen, stop=reason, findings=_once((*self.findings, *found)))

    @property
    def best(self) -> Epoch | None:
        """The epoch of training whose weights to keep: the best metric, the earliest of equals; None without a number.

        Whether they are better than those before training is for `compare_with_ptq` to say.
        """
        whole = [epoch for epoch in self.seen if epoch.number > 0 and math.isfinite(epoch.metric)]
        sign = 1 if self.bounds.higher_is_better else -1
        return max(whole, key=lambda epoch: sign * epoch.metric, default=None)

    def ended(self) -> "TrainingWatch":
        """After the last epoch: a best metric that is still below `baseline - tolerance` is said, patience or not."""
        best = self.best
        if self.stop is not None or not self.seen or (best is not None and self.bounds.behind(best.metric) <= 0):
            return self
        where = "never a number" if best is None else f"{best.metric:.4g} at best, in epoch {best.number}"
        message = f"validation metric {where}, {_floor(self.bounds)} after all {self.seen[-1].number} epochs"
        return replace(self, findings=_once((*self.findings, checks.FORGETTING.finding(message))))


def _once(found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys(found))


def _floor(bounds: Bounds) -> str:
    return f"against {bounds.baseline:.4g} of the original and a tolerance of {bounds.tolerance:.2g}"


def _guesses(bounds: Bounds, epoch: Epoch) -> Finding | None:
    """Before any training the loss is that of a guess. Does the metric agree, or does the data contradict it?"""
    if epoch.number > 0 or bounds.guess is None or epoch.loss < NEARLY_CHANCE * bounds.guess:
        return None
    message = f"loss {epoch.loss:.3g} on training data before any training, where guessing has {bounds.guess:.3g}"
    if bounds.behind(epoch.metric) > 0:
        return checks.UNTRAINED.finding(f"{message}; validation metric {epoch.metric:.4g}, {_floor(bounds)}")
    return checks.CONTRADICTION.finding(f"{message}, though the validation metric is {epoch.metric:.4g}")


def _diverged(bounds: Bounds, seen: tuple[Epoch, ...]) -> Finding | None:
    """A loss (or metric) that is no number at once; one that climbs after two evaluations in a row."""
    last = seen[-1]
    if not math.isfinite(last.loss) or not math.isfinite(last.metric):
        what = f"loss {last.loss:g}" if not math.isfinite(last.loss) else f"validation metric {last.metric:g}"
        return checks.DIVERGENCE.finding(f"{what} after epoch {last.number}, learning rate {last.learning_rate:g}")
    start, lowest = seen[0].loss, min(epoch.loss for epoch in seen)
    bound = CLIMB * max(start, lowest, 0.0)
    climbed = len(seen) > 2 and bound > 0 and all(epoch.loss > bound for epoch in seen[-2:])
    if not climbed or bounds.behind(last.metric) <= 0:
        return None
    message = f"loss {last.loss:.3g} after epoch {last.number}, {last.loss / start:.1f} times what it started with"
    return checks.DIVERGENCE.finding(f"{message}; learning rate {last.learning_rate:g}")


def _forgets(bounds: Bounds, seen: tuple[Epoch, ...]) -> Finding | None:
    """Below for `patience` evaluations, and at the pace of these not back in the epochs that are left.

    The state before training does not count: quantizing may have lost what training is there to recover. Learning
    curves are concave, so a straight line promises too much rather than too little: who is stopped would not have come
    back.
    """
    trained = [epoch for epoch in seen if epoch.number > 0]
    recent = trained[-bounds.patience :]
    gaps = [bounds.behind(epoch.metric) for epoch in recent]
    if len(recent) < bounds.patience or min(gaps) <= 0:
        return None
    left = bounds.epochs - recent[-1].number
    before = [bounds.behind(epoch.metric) for epoch in seen[: len(seen) - len(recent)][-1:]]
    pace = _pace([*before, *gaps])
    if left > 0 and gaps[-1] - pace * left <= 0:
        return None
    last = recent[-1]
    message = (
        f"validation metric {last.metric:.4g} after epoch {last.number} of {bounds.epochs}, {_floor(bounds)}, for "
        f"{len(recent)} evaluations; {f'it gains {pace:.2g} an epoch' if pace > 0 else 'it does not rise'}"
    )
    return checks.FORGETTING.finding(message)


def _pace(gaps: list[float]) -> float:
    """How much of the gap closes in an epoch, least squares over the last few; 0 from one point."""
    if len(gaps) < 2 or not all(map(math.isfinite, gaps)):
        return 0.0
    return -float(np.polyfit(np.arange(len(gaps)), gaps, 1)[0])


def tolerance(gate: MetricDropGate | None, baseline: float, per_sample: Floats | None) -> float:
    """How far below the original a validation metric may lie before it counts, in the metric's unit.

    The gate's margin (DEFAULT_POINTS without one), or the noise of the validation set where that is larger: the
    one-sided 95% reach of the original's own mean, s / sqrt(n). Paired differences are mostly less noisy.
    """
    margin = DEFAULT_POINTS / 100
    if gate is not None and gate.max_points is not None:
        margin = max(0.0, float(gate.max_points) / 100)
    elif gate is not None and gate.max_relative is not None:
        margin = percent(gate.max_relative) * abs(baseline)
    if per_sample is None or len(per_sample) < 2:
        return margin
    noise = normal_quantile(one_sided(CONFIDENCE)) * float(np.std(per_sample, ddof=1)) / math.sqrt(len(per_sample))
    return max(margin, noise)


def out_of_range(learning_rate: float, epochs: int, usual: Usual = QAT) -> Iterator[Finding]:
    """A learning rate or a number of epochs that retraining does not take; see `strop_api.rules.training`."""
    if learning_rate > usual.highest_rate * (1 + 1e-9):
        message = (
            f"learning rate {learning_rate:g}: above {usual.highest_rate:g} a model is trained anew, not trained on"
        )
        yield checks.LEARNING_RATE.finding(message)
    elif 0 <= learning_rate < LOWEST_RATE:
        message = f"learning rate {learning_rate:g}: below {LOWEST_RATE:g} a step is lost in the rounding of weights"
        yield checks.LEARNING_RATE.finding(message, mend="raise learningRate; 0.00001 is usual")
    if epochs > usual.most_epochs:
        yield checks.EPOCHS.finding(f"{epochs} epochs: more than {usual.most_epochs} are seldom needed")


class Kept(StrEnum):
    """Which of two quantized models goes on."""

    QAT = "QAT"
    PTQ = "PTQ"


@dataclass(frozen=True)
class Comparison:
    """Training held against calibration alone, on the same validation samples."""

    kept: Kept
    loss: Interval | None
    """Points that training lost against calibration, its interval at the one-sided confidence; None without samples."""
    findings: tuple[Finding, ...]


def compare_with_ptq(pair: MetricEvidence, seed: int, confidence: float = CONFIDENCE) -> Comparison:
    """Keeps the calibrated model unless training made a better one; worse beyond noise is a High finding.

    `pair.original` is the calibrated model's metric on validation data, `pair.optimized` the trained one's. Paired: the
    score interval or the bootstrap that the gate on the loss uses. Training that is better, or as good, is kept.
    """
    interval = loss_points(pair, one_sided(confidence), seed)
    loss = pair.loss * 100
    if math.isnan(loss) or not math.isfinite(pair.optimized):
        kept = Kept.PTQ if not math.isfinite(pair.optimized) else Kept.QAT
        broken = f"{pair.name} after training is {pair.optimized:g}, {pair.original:.4g} after calibration alone"
        found = (checks.WORSE_THAN_PTQ.finding(broken),) if kept is Kept.PTQ else ()
        return Comparison(kept, interval, found)
    words = f"{pair.name} {pair.optimized:.4g} after training, {pair.original:.4g} after calibration alone"
    ends = (
        "" if interval is None else f" ({confidence:.0%} one-sided: {interval.low:.2g} to {interval.high:.2g} points)"
    )
    if interval is not None and interval.low > 0:
        message = f"{words}: worse beyond the noise of {pair.samples:,} validation samples{ends}"
        return Comparison(Kept.PTQ, interval, (checks.WORSE_THAN_PTQ.finding(message),))
    kept = Kept.PTQ if loss > 0 else Kept.QAT
    if interval is not None and interval.high < 0:
        return Comparison(kept, interval, ())
    message = f"{words}: no better beyond the noise of {pair.samples:,} validation samples{ends}"
    return Comparison(kept, interval, (checks.NO_BETTER_THAN_PTQ.finding(message),))
