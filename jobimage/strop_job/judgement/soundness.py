"""Whether what was measured can mean what it seems to: said beside the gates, and never a verdict. Pure."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from strop_api.base import percent
from strop_api.checks import evidence as checks
from strop_api.checks.training import UNTRAINED
from strop_api.findings import Finding, Severity
from strop_api.model import Metric
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.combinations import trains
from strop_api.targets import Gates, MetricDropGate, Target
from strop_job.backends.base import ASKED_FORMATS
from strop_job.benchmark.variants import Variant
from strop_job.judgement.case import asked_precision
from strop_job.judgement.classes import agreement, effective_classes
from strop_job.judgement.evidence import Evidence, MetricEvidence
from strop_job.judgement.figures import bytes_text, metric_text, percent_text, points_text
from strop_job.judgement.losses import loss_points, loss_relative, paired_counts
from strop_job.judgement.power import DISCORDANT, USUAL_CONFIDENCE, WANTED, samples_advised
from strop_job.judgement.ruined import ruined
from strop_job.judgement.statistics import LEVEL, Interval, Ints, normal_quantile
from strop_job.judgement.verdicts import level_for
from strop_job.stages import Artifact

DEFAULT_POINTS = "1.0"
"""The bound on the loss where no gate is given at all."""
SLIGHT = 0.2
"""Kappa below this is "slight" agreement (Landis and Koch 1977, Biometrics 33:159)."""
SURE = 0.99
"""Level at which a gain is called beyond noise: said of one honest run in 200."""
COLLAPSE = 0.5
"""Answers are spread over this share of the original's effective classes, or fewer."""
LEAST_FOR_CLASSES = 30
"""Labels below this say nothing about how answers are spread."""
REALISED = 0.5
"""Share of the compute at the asked precision below which it is said, when no gate asks."""
LARGER_BY = 1.02
"""Ratio of file sizes from which the engine is called larger: headers and names are within it."""
MORE_MEMORY_BY = 1.10
"""Ratio of peaks from which memory is called more: two processes of one program differ by a few percent."""


@dataclass(frozen=True)
class Footprint:
    """What the original takes, compiled for the same target. What is None was not measured."""

    size_bytes: int | None = None
    resident_bytes: int | None = None
    device_bytes: int | None = None


@dataclass(frozen=True)
class Look:
    """What one of the checks is given."""

    spec: ModelOptimizationSpec
    target: Target
    seen: Evidence
    original: Footprint

    @property
    def metric(self) -> MetricEvidence | None:
        """The metric, where both figures are numbers."""
        found = self.seen.metric
        whole = found is not None and math.isfinite(found.original) and math.isfinite(found.optimized)
        return found if whole else None

    @property
    def classes(self) -> tuple[Ints, Ints, Ints] | None:
        """Labels, the original's answers, the engine's; None without them, or with too few."""
        found = self.seen.metric.predictions if self.seen.metric is not None else None
        return found if found is not None and len(found[0]) >= LEAST_FOR_CLASSES else None

    @property
    def drop(self) -> MetricDropGate | None:
        """The gate on the loss that applies; None where others are given and it is not."""
        none_given = self.spec.gates == Gates()
        return MetricDropGate(max_points=DEFAULT_POINTS) if none_given else self.spec.gates.metric_drop


def soundness(
    spec: ModelOptimizationSpec, target: Target, seen: Evidence, original: Footprint | None = None
) -> list[Finding]:
    """All that is doubtful about the measurements of a run, in the order of CHECKS."""
    look = Look(spec, target, seen, original or Footprint())
    return [found for check in CHECKS for found in check(look)]


def footprint(original_size_bytes: int | None, benchmark: Artifact | None) -> Footprint:
    """The original's size, and its memory as the benchmark's facts have it; of several looks, the first's."""
    variants = benchmark.facts.get("variants") if benchmark is not None else None
    facts = variants.get(Variant.ORIGINAL) if isinstance(variants, dict) else None
    resident, device = (
        facts.get(name) if isinstance(facts, dict) else None for name in ("peakMemoryBytes", "peakDeviceMemoryBytes")
    )
    return Footprint(
        original_size_bytes,
        resident if isinstance(resident, int) else None,
        device if isinstance(device, int) else None,
    )


# --- the original ---------------------------------------------------------------------------------------------------


def guesses(look: Look) -> Iterator[Finding]:
    """The original's answers agree with the labels by chance alone, or little more."""
    classes = look.classes
    if classes is None or len(np.unique(classes[0])) < 2:
        return
    labels, answers, _ = classes
    found = agreement(labels, answers)
    words = f"the original agrees with {len(labels):,} labels in {percent_text(found.observed)}"
    chance = f"by chance it would in {percent_text(found.expected)}"
    if found.kappa <= normal_quantile(LEVEL) * found.error_at_chance:
        yield UNTRAINED.finding(f"{words}, {chance}: it cannot be told from guessing")
    elif found.kappa < SLIGHT:
        yield checks.WEAK_ORIGINAL.finding(f"{words}, {chance}: kappa is {found.kappa:.2f}")


def finds_nothing(look: Look) -> Iterator[Finding]:
    """Retrieval: the answer is found no more often than among documents in random order."""
    metric = look.metric
    if metric is None or metric.name not in (Metric.RECALL_AT_1, Metric.MRR) or metric.samples < LEAST_FOR_CLASSES:
        return
    count = metric.samples
    first = metric.name == Metric.RECALL_AT_1
    chance = 1 / count if first else sum(1 / rank for rank in range(1, count + 1)) / count
    spread = math.sqrt(chance / count) if first else _spread_of_mrr(count, chance)
    if metric.original <= chance + normal_quantile(LEVEL) * spread:
        yield UNTRAINED.finding(
            f"the original's {metric.name} is {metric_text(metric.original)} over {count:,} documents; random order "
            f"gives {metric_text(chance)}: it cannot be told from guessing"
        )


def _spread_of_mrr(count: int, mean: float) -> float:
    """Standard error of the mean reciprocal rank, ranks uniform."""
    squares = sum(1 / rank**2 for rank in range(1, count + 1)) / count
    return math.sqrt(max(squares - mean**2, 0.0) / count)


# --- the evaluation data --------------------------------------------------------------------------------------------


def one_label(look: Look) -> Iterator[Finding]:
    """All labels are the same."""
    found = look.seen.metric.predictions if look.seen.metric is not None else None
    if found is not None and len(found[0]) > 1 and len(np.unique(found[0])) == 1:
        yield checks.ONE_LABEL.finding(f"all {len(found[0]):,} evaluation labels are class {int(found[0][0])}")


def constant_passes(look: Look) -> Iterator[Finding]:
    """The most frequent class alone would pass every gate on the metric."""
    metric, classes = look.metric, look.classes
    if metric is None or classes is None or metric.name != Metric.ACCURACY or len(np.unique(classes[0])) < 2:
        return
    _, counts = np.unique(classes[0], return_counts=True)
    share = float(counts.max() / counts.sum())
    asked = [bound for bound in (_least_by_drop(look, metric), _least_by_minimum(look)) if bound is not None]
    if asked and max(asked) <= share:
        yield checks.CONSTANT_PASSES.finding(
            f"the gates ask for an accuracy of {max(asked):.3g}, and always answering the most frequent class has "
            f"{share:.3g}"
        )


def _least_by_drop(look: Look, metric: MetricEvidence) -> float | None:
    gate = look.drop
    return None if gate is None else metric.original - _margin(gate, metric)


def _least_by_minimum(look: Look) -> float | None:
    gate = look.spec.gates.metric_min
    return None if gate is None else float(gate.min)


def _margin(gate: MetricDropGate, metric: MetricEvidence) -> float:
    """The loss that a gate allows, in the metric's unit."""
    if gate.max_relative is not None:
        return percent(gate.max_relative) * abs(metric.original)
    return float(gate.max_points or 0) / 100


def too_few_samples(look: Look) -> Iterator[Finding]:
    """The interval of the loss has the bound inside, and reaches further than it. Names how many samples would do."""
    metric, gate = look.metric, look.drop
    if metric is None or gate is None or _decided(look, metric, gate):
        return
    interval, margin = loss_points(metric, LEVEL, look.spec.seed), _margin(gate, metric) * 100
    if interval is None or margin <= 0:
        return
    reach = (interval.high - interval.low) / 2
    if reach > margin:
        yield checks.FEW_EVALUATION_SAMPLES.finding(
            f"{metric.samples:,} samples tell the loss of {metric.name} to within {points_text(reach)} points, and the "
            f"gate asks about {points_text(margin)}; {_enough(metric, gate, reach / margin)}",
            severity=Severity.HIGH if reach > 3 * margin else None,
        )


def _decided(look: Look, metric: MetricEvidence, gate: MetricDropGate) -> bool:
    """Whether the bound lies outside the interval that the gate is held against."""
    level = level_for(gate.confidence, "metricDrop")
    if gate.max_relative is not None:
        interval, bound = loss_relative(metric, level, look.spec.seed), percent(gate.max_relative)
    else:
        interval, bound = loss_points(metric, level, look.spec.seed), float(gate.max_points or 0)
    return interval is not None and not interval.low <= bound < interval.high


def _enough(metric: MetricEvidence, gate: MetricDropGate, times: float) -> str:
    """How many samples would do: of right and wrong answers as the power of a gate is reckoned, else as it scales."""
    counts = paired_counts(metric)
    if counts is None or metric.groups is not None:
        return f"about {_rounded_up(metric.samples * times**2):,} such samples would"
    _, lost, gained, samples = counts
    differ = max(DISCORDANT, (lost + gained) / samples)
    needed = samples_advised(gate, differ)
    if needed is None:
        return "no number would do"
    sure = gate.confidence or USUAL_CONFIDENCE
    return (
        f"{WANTED:.0%} of lossless models show it at {sure} confidence with about {needed:,} samples, if "
        f"{percent_text(differ)} of their answers differ"
    )


def _rounded_up(count: float) -> int:
    """To two digits: an estimate must not look exact."""
    step: int = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / step) * step


# --- the engine -----------------------------------------------------------------------------------------------------


def collapsed(look: Look) -> Iterator[Finding]:
    """The engine answers with far fewer classes than the original, or with no class at all."""
    if look.classes is None:
        return
    _, before, after = look.classes
    nothing = float(np.mean(after < 0))
    if nothing > 0:
        yield checks.COLLAPSED.finding(f"the engine's scores are NaN for {percent_text(nothing)} of the samples")
        return
    spread, left = effective_classes(before), effective_classes(after)
    values, counts = np.unique(after, return_counts=True)
    if spread < 1.5 or left - 1 > COLLAPSE * (spread - 1):
        return
    most = f"class {int(values[counts.argmax()])} for {percent_text(counts.max() / counts.sum())} of the samples"
    yield checks.COLLAPSED.finding(
        f"the engine answers {most}; its answers are spread over {left:.1f} classes, the original's over {spread:.1f}"
    )


def ruined_by_quantization(look: Look) -> Iterator[Finding]:
    """Outputs far from the original's and a metric that surely fell, after a step that quantizes."""
    yield from ruined(look.spec, look.target, look.seen, look.metric)


def suspiciously_better(look: Look) -> Iterator[Finding]:
    """The engine is better than the original beyond noise, and nothing was trained."""
    metric = look.metric
    if metric is None or any(trains(step) for step in look.spec.steps):
        return
    interval: Interval | None = loss_points(metric, SURE, look.spec.seed)
    if interval is not None and interval.high < 0:
        yield checks.SUSPICIOUSLY_BETTER.finding(
            f"{metric.name} is {points_text(-metric.loss * 100)} points better than the original's "
            f"({SURE:.0%} {points_text(-interval.high)} to {points_text(-interval.low)}), and no step trains"
        )


def hardly_realised(look: Look) -> Iterator[Finding]:
    """Less than half of the compute runs at the precision asked for last, and no gate asks."""
    asked, seen = asked_precision(look.spec), look.seen.inspection
    macs, by_format = seen.get("macs"), seen.get("macsByFormat")
    if asked is None or look.spec.gates.realised_precision is not None:
        return
    if not isinstance(macs, int) or macs <= 0 or not isinstance(by_format, dict) or seen.get("uncounted"):
        return
    share = by_format.get(ASKED_FORMATS[asked].value, 0) / macs
    if share < REALISED:
        yield checks.HARDLY_REALISED.finding(
            f"{percent_text(share)} of the multiply-accumulates run in {asked}, which the last Quantize step asked for"
        )


def larger(look: Look) -> Iterator[Finding]:
    """The engine's file is larger than the original's, and something was done to make it smaller."""
    before, after = look.original.size_bytes, look.seen.engine_size_bytes
    if look.spec.steps and before and after is not None and after > LARGER_BY * before:
        yield checks.LARGER.finding(f"the engine takes {bytes_text(after)}, the original {bytes_text(before)}")


def more_memory(look: Look) -> Iterator[Finding]:
    """The engine's peak is above the original's."""
    capacity, on_device = look.seen.capacity, look.target.accelerator is not None
    before = look.original.device_bytes if on_device else look.original.resident_bytes
    after = capacity.held_bytes(on_device=on_device) if capacity is not None else None
    if look.spec.steps and before and after is not None and after > MORE_MEMORY_BY * before:
        where = "of device memory" if on_device else "resident"
        yield checks.MORE_MEMORY.finding(
            f"peak {bytes_text(after)} {where}, against {bytes_text(before)} of the original"
        )


Check = Callable[[Look], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    guesses,
    finds_nothing,
    one_label,
    constant_passes,
    too_few_samples,
    collapsed,
    ruined_by_quantization,
    suspiciously_better,
    hardly_realised,
    larger,
    more_memory,
)
