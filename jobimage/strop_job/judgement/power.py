"""What the asked gates can tell from the data they are given, reckoned before anything is trained or measured. Pure.

The question is how often a model that lost nothing would pass. A model that lost nothing may still answer some samples
otherwise, rightly as often as wrongly: that share of discordant samples is assumed, and said.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from pydantic import JsonValue

from strop_api.base import percent
from strop_api.checks.evidence import GATE_POWER_UNKNOWN, GATE_UNDERPOWERED
from strop_api.findings import Finding
from strop_api.model import Metric
from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import MetricDropGate
from strop_job.errors import InvalidInput
from strop_job.judgement.figures import percent_text, points_text
from strop_job.judgement.losses import LEAST_GROUPS, assumed_effect
from strop_job.judgement.quantiles import calls_needed
from strop_job.judgement.statistics import (
    LEVEL,
    Floats,
    binomial_cdf,
    difference_score,
    normal_quantile,
    paired_difference,
    ratio_score,
    wilson,
)
from strop_job.judgement.verdicts import at_most, level_for

ZERO_ONE = frozenset({Metric.ACCURACY, Metric.RECALL_AT_1})
"""Metrics whose samples are right or wrong: the chance of passing is known without a measurement."""
UP_TO_ONE = ZERO_ONE | {Metric.F1_MACRO, Metric.MRR}
"""Metrics whose samples cannot lose more than 1."""
DISCORDANT, SHOWN = 0.02, (0.0, 0.02, 0.05)
"""Shares of samples that a lossless model answers otherwise: assumed for a verdict, and shown."""
RIGHT = 0.9
"""Share that the original answers rightly, assumed for a relative bound."""
WANTED = 0.8
"""Chance of passing that the advised number of samples gives."""
WARNED = 0.5
"""A lossless model that passes less often is worth a warning."""
MOST_SAMPLES = 10_000_000
USUAL_CONFIDENCE = "95%"
CELLS, NORMAL_FROM = 400, 1000
"""Numbers of discordant samples looked at; those from which on a fair coin is as good as normal (to 0.1%)."""


@dataclass(frozen=True)
class Margin:
    """A bound on the loss of a metric whose samples are right or wrong, and how sure one must be."""

    bound: float
    """As a share: of all samples, or of the original's metric."""
    level: float | None
    """Two-sided, its end being the one-sided bound asked for; None: the point estimate decides."""
    relative: bool = False
    right: float = RIGHT
    """Share that the original answers rightly; matters for a relative bound alone."""

    def keeps(self, lost: float, gained: float, samples: float) -> bool:
        """Whether the gate passes such counts; as the gate itself decides, without looking for the interval's end."""
        if self.relative and self.bound >= 1:  # nothing loses more than all
            return True
        if self.relative:
            both = self.right * samples - lost
            if self.level is None:
                return at_most((lost - gained) / (both + lost), self.bound)
            return both >= 0 and ratio_score(both, lost, gained, samples, 1 - self.bound) >= self.z
        if self.level is None or lost - gained >= samples * self.bound:
            return self.level is None and at_most((lost - gained) / samples, self.bound)
        return difference_score(lost, gained, samples, self.bound) <= -self.z

    @cached_property
    def z(self) -> float:
        """Of the level."""
        return normal_quantile(self.level or 0.0)


def lossless_power(margin: Margin, samples: int, discordant: float) -> float:
    """Chance that a model passes that answers a share `discordant` of samples otherwise, half of them better.

    Sums the binomial number of discordant samples and, for each, of those that are lost. Numbers that come up less than
    once in a million altogether are left out, and where there are many only every n-th is looked at.
    """
    if discordant == 0:
        return float(margin.keeps(0, 0, samples))
    spread = math.sqrt(samples * discordant * (1 - discordant))
    first, last = (round(samples * discordant + side * (5.5 * spread + 4)) for side in (-1, 1))
    first, last = max(0, first), min(samples, last)
    chances, step = _binomial(samples, discordant, first, last), 1 + (last - first) // CELLS
    cells = [(at + step // 2, chances[at - first : at - first + step].sum()) for at in range(first, last + 1, step)]
    return float(sum(chance * _passing(margin, min(count, last), samples) for count, chance in cells))


def _passing(margin: Margin, changed: int, samples: int) -> float:
    """Chance that the gate passes when so many samples changed, each for the worse or the better alike."""
    low, high = -1, changed
    while low < high:  # the most that may be lost
        middle = (low + high + 1) // 2
        low, high = (middle, high) if margin.keeps(middle, changed - middle, samples) else (low, middle - 1)
    if low < 0 or low >= changed:
        return float(low >= 0)
    if changed > NORMAL_FROM:
        return NormalDist(changed / 2, math.sqrt(changed) / 2).cdf(low + 0.5)
    return float(binomial_cdf(changed, 0.5)[low])


def _binomial(trials: int, share: float, first: int, last: int) -> Floats:
    """P(X = k) for k from `first` to `last`."""
    fixed, odds = math.lgamma(trials + 1) + trials * math.log1p(-share), math.log(share / (1 - share))
    logs = [fixed - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * odds for k in range(first, last + 1)]
    chances: Floats = np.exp(np.array(logs))
    return chances


def samples_needed(margin: Margin, discordant: float, power: float, start: int = 1) -> int | None:
    """The fewest samples, to 2%, with which a lossless model passes so often; None above MOST_SAMPLES."""
    low, high = start, start
    while lossless_power(margin, high, discordant) < power:
        low, high = high, high * 2
        if high > MOST_SAMPLES:
            return None
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if lossless_power(margin, middle, discordant) >= power else (middle, high)
    return high


# --- the gates of a spec --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Power:
    """How often a model that lost nothing passes a gate."""

    gate: str
    samples: int
    passes: tuple[tuple[float, float], ...]
    """Share of samples that it answers otherwise, and the chance that it passes."""
    needed: int | None
    """Samples with which it passes in WANTED of runs at DISCORDANT; None when MOST_SAMPLES would not do."""

    def facts(self) -> dict[str, JsonValue]:
        """For the report."""
        return {
            "gate": self.gate,
            "samples": self.samples,
            "lossless": [{"discordant": share, "passes": chance} for share, chance in self.passes],
            "samplesNeeded": self.needed,
        }


def drop_power(spec: ModelOptimizationSpec, samples: int) -> Power | None:
    """Of gates.metricDrop; None without the gate, and for a metric whose samples are not right or wrong."""
    gate = spec.gates.metric_drop
    if gate is None or spec.task.metric not in ZERO_ONE:
        return None
    margin = _margin(gate)
    passes = tuple((share, lossless_power(margin, samples, share)) for share in SHOWN)
    needed = samples_needed(margin, DISCORDANT, WANTED) if gate.confidence is None else samples_advised(gate)
    return Power("metricDrop", samples, passes, needed)


def samples_advised(gate: MetricDropGate, discordant: float = DISCORDANT) -> int | None:
    """Samples with which a lossless model passes in WANTED of runs; a gate without confidence is taken to have 95%.

    `discordant` is the share of samples that it answers otherwise. The one source of such figures, before a run and
    after it. None when MOST_SAMPLES would not do.
    """
    asked = gate if gate.confidence is not None else gate.model_copy(update={"confidence": USUAL_CONFIDENCE})
    return samples_needed(_margin(asked), discordant, WANTED)


def power_findings(spec: ModelOptimizationSpec, samples: int, groups: int | None = None) -> list[Finding]:
    """What must be said of the asked gates, given so many samples in so many groups (None: all independent).

    Raises InvalidInput for a gate with a confidence that even a model equal to the original could not pass.
    """
    for refuse in (_refuse_few_groups, _refuse_drop, _refuse_min, _refuse_latency):
        refuse(spec, samples, groups)
    return [*_underpowered(spec, samples, groups), *_unknown(spec, samples)]


def _underpowered(spec: ModelOptimizationSpec, samples: int, groups: int | None) -> Iterator[Finding]:
    found = drop_power(spec, samples)
    chances = dict(found.passes) if found else {}
    if found is None or chances[DISCORDANT] >= WARNED:
        return
    rest = [(share, chance) for share, chance in found.passes if share != DISCORDANT]
    others = ", ".join(f"{percent_text(chance)} if {share:.0%} do" for share, chance in rest)
    needed = f"{WANTED:.0%} takes about {found.needed:,} samples" if found.needed else "no number would do"
    grouped = "; less, as samples of a group hang together" if groups is not None else ""
    yield GATE_UNDERPOWERED.finding(
        f"metricDrop: on {samples:,} samples a model that lost nothing passes {percent_text(chances[DISCORDANT])} of "
        f"runs if {DISCORDANT:.0%} of its answers differ ({others}){grouped}; {needed}"
    )


def _unknown(spec: ModelOptimizationSpec, samples: int) -> Iterator[Finding]:
    gate, metric = spec.gates.metric_drop, spec.task.metric
    if gate is not None and gate.confidence is not None and metric not in ZERO_ONE:
        yield GATE_POWER_UNKNOWN.finding(
            f"metricDrop: how often a model that lost nothing passes on {samples:,} samples depends on how much "
            f"{metric.value} differs between the two models from sample to sample; this run's interval will tell it"
        )


def _refuse_few_groups(spec: ModelOptimizationSpec, samples: int, groups: int | None) -> None:
    asked = [gate for gate in (spec.gates.metric_drop, spec.gates.metric_min) if gate and gate.confidence is not None]
    if asked and groups is not None and groups < LEAST_GROUPS:
        raise InvalidInput(
            f"{samples:,} samples in {groups} groups bear no confidence",
            field="spec.data.evaluation.groups",
            mend=f"evaluate on {LEAST_GROUPS} groups at least, or ask for no confidence",
        )


def _refuse_drop(spec: ModelOptimizationSpec, samples: int, groups: int | None) -> None:
    """No sample differs and the bound is not kept all the same."""
    gate = spec.gates.metric_drop
    if gate is None or gate.confidence is None or spec.task.metric not in UP_TO_ONE:
        return
    margin, effect = _margin(gate, right=1.0), assumed_effect(samples, groups)
    if margin.keeps(0, 0, samples / effect):
        return
    most = paired_difference(0, 0, samples / effect, margin.level or LEVEL).high
    least = math.ceil(margin.z**2 * (1 - margin.bound) / margin.bound * effect) if margin.bound > 0 else None
    enough = f"evaluate on at least {least:,} samples, or widen the bound" if least else "ask for more than 0"
    raise InvalidInput(
        f"even a model that answers just as the original would not pass: {_counted(samples, groups)} exclude no loss "
        f"below {points_text(most * 100)} points at {gate.confidence} confidence",
        field="spec.gates.metricDrop",
        mend=f"{enough}, or ask for no confidence",
    )


def _refuse_min(spec: ModelOptimizationSpec, samples: int, groups: int | None) -> None:
    """Every answer is right and the bound is not reached all the same."""
    gate = spec.gates.metric_min
    if gate is None or gate.confidence is None or spec.task.metric not in ZERO_ONE:
        return
    effective = samples / assumed_effect(samples, groups)
    sure = wilson(effective, effective, level_for(gate.confidence, "metricMin")).low
    if sure < float(gate.min):
        raise InvalidInput(
            f"even a model that is always right would not pass: {_counted(samples, groups)} show no {spec.task.metric} "
            f"above {sure:.4g} at {gate.confidence} confidence",
            field="spec.gates.metricMin",
            mend="evaluate on more samples, lower the bound, or ask for no confidence",
        )


def _refuse_latency(spec: ModelOptimizationSpec, samples: int, groups: int | None) -> None:
    """All looks together have fewer calls than the bound needs."""
    gate, looks = spec.gates.latency, spec.benchmark.max_looks
    if gate is None or gate.confidence is None:
        return
    share = 0.99 if gate.p99_max_microseconds is not None else 0.5
    needed = calls_needed(share, level_for(gate.confidence, "latency", looks, looks))
    if spec.benchmark.calls * looks < needed:
        raise InvalidInput(
            f"no engine would pass: a p99 is bounded at {gate.confidence} confidence by {needed:,} calls or more, and "
            f"{spec.benchmark.calls:,} in each of at most {looks} looks are fewer",
            field="spec.benchmark.calls",
            mend=f"raise it to {math.ceil(needed / looks):,} at least; calls that hang together need more",
        )


def _margin(gate: MetricDropGate, right: float = RIGHT) -> Margin:
    level = None if gate.confidence is None else level_for(gate.confidence, "metricDrop")
    if gate.max_relative is not None:
        return Margin(percent(gate.max_relative), level, relative=True, right=right)
    return Margin(float(gate.max_points or 0) / 100, level)


def _counted(samples: int, groups: int | None) -> str:
    return f"{samples:,} samples" + (f" in {groups:,} groups" if groups is not None else "")
