"""Rules on single steps and on their order. A meaningless order is refused; a questionable one is a warning."""

from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.rule import Rule, quoted
from strop_api.steps import (
    MEMBERS,
    RESERVED,
    RESERVED_PREFIXES,
    TORCH_STEPS,
    Calibrator,
    DistilStep,
    PruneMethod,
    PruneSchedule,
    PruneStep,
    QuantizeMethod,
    QuantizeStep,
    Step,
    StepType,
)
from strop_api.support import QUANTIZATIONS, Quantization

CALIBRATED = (QuantizeMethod.STATIC, QuantizeMethod.AUTO)

PAIRS: tuple[Quantization, ...] = tuple(dict.fromkeys(pair for pairs in QUANTIZATIONS.values() for pair in pairs))
"""Precisions and methods that go together on some runtime."""

_WIRE = {StepType.FINE_TUNE: "fineTune"}


def wire(kind: StepType) -> str:
    """The member of a step type, as users spell it."""
    return _WIRE.get(kind, MEMBERS[kind])


def _member(kind: StepType) -> Rule:
    def holds(step: Step) -> bool:
        return (step.type is kind) == (getattr(step, MEMBERS[kind]) is not None)

    name = wire(kind)
    return Rule(
        f"{name}-iff-type",
        "spec.steps[]",
        f"(self.type == '{kind}') == has(self.{name})",
        holds,
        f"set {name} exactly when type is {kind} (an empty {{}} takes every default, where all fields have one)",
        f".{name}",
    )


def _name(step: Step) -> bool:
    return step.name not in RESERVED and not step.name.startswith(RESERVED_PREFIXES)


NAMES = (
    Rule(
        "names-of-stages",
        "spec.steps[]",
        f"!(self.name in {quoted(sorted(RESERVED))}) && "
        + " && ".join(f"!self.name.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES),
        _name,
        f"every run has stages of these names ({', '.join(sorted(RESERVED))}, {'…, '.join(RESERVED_PREFIXES)}…): "
        "choose another",
        ".name",
    ),
)


def _amount(prune: PruneStep) -> bool:
    return 0 < float(prune.amount.removesuffix("%")) < 100


def _half(prune: PruneStep) -> bool:
    return prune.method is not PruneMethod.TWO_FOUR or prune.amount == "50%"


def _rounds(prune: PruneStep) -> bool:
    return (prune.schedule is PruneSchedule.CUBIC) == (prune.rounds > 1)


def _teacher(distil: DistilStep) -> bool:
    return distil.teacher_digest is None or distil.teacher is not None


PRUNE = (
    Rule(
        "amount-inside",
        "spec.steps[].prune",
        "double(self.amount.replace('%', '')) > 0.0 && double(self.amount.replace('%', '')) < 100.0",
        _amount,
        "amount must lie between 0% and 100%, both excluded",
        ".amount",
    ),
    Rule(
        "two-four-is-half",
        "spec.steps[].prune",
        "self.method != 'TwoFour' || self.amount == '50%'",
        _half,
        "TwoFour removes two of four, always 50%: leave amount out",
        ".amount",
    ),
    Rule(
        "rounds-of-a-schedule",
        "spec.steps[].prune",
        "(self.schedule == 'Cubic') == (self.rounds > 1)",
        _rounds,
        "schedule Cubic takes at least 2 rounds, OneShot exactly 1",
        ".rounds",
    ),
    Rule(
        "digest-of-a-teacher",
        "spec.steps[].distil",
        "!has(self.teacherDigest) || has(self.teacher)",
        _teacher,
        "teacherDigest pins the teacher: name it in teacher",
        ".teacherDigest",
    ),
)


def _pair(step: QuantizeStep) -> bool:
    return Quantization(step.precision, step.method) in PAIRS


def _calibrator(step: QuantizeStep) -> bool:
    return step.calibrator is Calibrator.MIN_MAX or step.method in CALIBRATED


def _percentile(step: QuantizeStep) -> bool:
    return step.percentile == "99.99" or step.calibrator is Calibrator.PERCENTILE


def _percentile_range(step: QuantizeStep) -> bool:
    return 50 <= float(step.percentile) <= 100


def _per_channel(step: QuantizeStep) -> bool:
    return step.per_channel or step.method is not QuantizeMethod.CAST


def _smooth(step: QuantizeStep) -> bool:
    return step.smooth_quant is None or (step.method in CALIBRATED and float(step.smooth_quant) <= 1)


def _group(step: QuantizeStep) -> bool:
    return step.group_size == 128 or step.method is QuantizeMethod.WEIGHT_ONLY


def _training(step: QuantizeStep) -> bool:
    return step.training is None or step.method is QuantizeMethod.QAT


def _budget(step: QuantizeStep) -> bool:
    return step.budget_seconds is None or step.method is QuantizeMethod.AUTO


def _keep_high(step: QuantizeStep) -> bool:
    return step.keep_high is None or step.method is QuantizeMethod.AUTO


_Q = "spec.steps[].quantize"

QUANTIZE = (
    Rule(
        "precision-and-method",
        _Q,
        f"(self.precision + '/' + self.method) in {quoted(f'{p.precision}/{p.method}' for p in PAIRS)}",
        _pair,
        "this precision is not reached by this method; these go together: "
        + ", ".join(f"{p.precision} {p.method}" for p in PAIRS),
        ".method",
    ),
    Rule(
        "calibrator-of-a-calibration",
        _Q,
        "self.calibrator == 'MinMax' || self.method in ['Static', 'Auto']",
        _calibrator,
        "only Static and Auto calibrate: remove calibrator",
        ".calibrator",
    ),
    Rule(
        "percentile-of-the-calibrator",
        _Q,
        "self.percentile == '99.99' || self.calibrator == 'Percentile'",
        _percentile,
        "percentile needs calibrator Percentile",
        ".percentile",
    ),
    Rule(
        "percentile-in-range",
        _Q,
        "double(self.percentile) >= 50.0 && double(self.percentile) <= 100.0",
        _percentile_range,
        "percentile must lie between 50 and 100",
        ".percentile",
    ),
    Rule(
        "scales-of-integers",
        _Q,
        "self.perChannel || self.method != 'Cast'",
        _per_channel,
        "a cast has no scales: remove perChannel",
        ".perChannel",
    ),
    Rule(
        "smooth-quant-of-a-calibration",
        _Q,
        "!has(self.smoothQuant) || (self.method in ['Static', 'Auto'] && double(self.smoothQuant) <= 1.0)",
        _smooth,
        "smoothQuant is a strength from 0 to 1 and needs method Static or Auto",
        ".smoothQuant",
    ),
    Rule(
        "group-size-of-weights",
        _Q,
        "self.groupSize == 128 || self.method == 'WeightOnly'",
        _group,
        "groupSize needs method WeightOnly",
        ".groupSize",
    ),
    Rule(
        "training-of-qat",
        _Q,
        "!has(self.training) || self.method == 'QAT'",
        _training,
        "training needs method QAT; otherwise remove it",
        ".training",
    ),
    Rule(
        "budget-of-auto",
        _Q,
        "!has(self.budgetSeconds) || self.method == 'Auto'",
        _budget,
        "budgetSeconds needs method Auto",
        ".budgetSeconds",
    ),
    Rule(
        "keep-high-of-auto",
        _Q,
        "!has(self.keepHigh) || self.method == 'Auto'",
        _keep_high,
        "keepHigh needs method Auto",
        ".keepHigh",
    ),
)

# The costs of strings in lists that CEL makes are out of bounds: these lists hold booleans.
_MERGES = "self.steps.map(s, s.type == 'Merge')"
_PRUNES = "self.steps.map(s, s.type == 'Prune')"
_COMPACTS = "self.steps.map(s, s.type == 'Compact')"
_SHRINKS = "self.steps.map(s, s.type in ['Prune', 'Compact'])"
_QUANTIZES = "self.steps.map(s, s.type == 'Quantize')"
_CASTS = "self.steps.filter(s, has(s.quantize)).map(s, s.quantize.method == 'Cast')"


def types(spec: ModelOptimizationSpec) -> list[StepType]:
    """The types of the steps, in order."""
    return [step.type for step in spec.steps]


def before(kinds: list[StepType], first: set[StepType], second: set[StepType]) -> bool:
    """Whether every step of the first kinds comes before every step of the second."""
    starts = [at for at, kind in enumerate(kinds) if kind in second]
    return all(at < min(starts) for at, kind in enumerate(kinds) if kind in first) if starts else True


def _merge_first(spec: ModelOptimizationSpec) -> bool:
    return before(types(spec), {StepType.MERGE}, {StepType.PRUNE, StepType.COMPACT})


def _compact_after_prune(spec: ModelOptimizationSpec) -> bool:
    kinds = types(spec)
    compact = kinds.index(StepType.COMPACT) if StepType.COMPACT in kinds else len(kinds)
    return compact == len(kinds) or StepType.PRUNE in kinds[:compact]


def _quantize_last(spec: ModelOptimizationSpec) -> bool:
    return before(types(spec), set(TORCH_STEPS), {StepType.QUANTIZE})


def _casts(spec: ModelOptimizationSpec) -> list[bool]:
    """Of every quantize step, whether it is a cast."""
    return [step.quantize.method is QuantizeMethod.CAST for step in spec.steps if step.quantize is not None]


def _integer_once(spec: ModelOptimizationSpec) -> bool:
    return _casts(spec).count(False) <= 1


def _cast_last(spec: ModelOptimizationSpec) -> bool:
    casts = _casts(spec)
    return casts == sorted(casts)


ORDER = (
    Rule(
        "merge-before-prune",
        "spec",
        f"!has(self.steps) || {_SHRINKS}.indexOf(true) == -1 || {_MERGES}.lastIndexOf(true) < {_SHRINKS}.indexOf(true)",
        _merge_first,
        "adapters fit the unpruned weights: Merge must come before Prune and Compact",
        ".steps",
    ),
    Rule(
        "compact-after-prune",
        "spec",
        f"!has(self.steps) || {_COMPACTS}.indexOf(true) == -1 || "
        f"({_PRUNES}.indexOf(true) >= 0 && {_PRUNES}.indexOf(true) < {_COMPACTS}.indexOf(true))",
        _compact_after_prune,
        "Compact removes what a mask has zeroed: put a Prune step before it",
        ".steps",
    ),
    Rule(
        "quantize-last",
        "spec",
        f"!has(self.steps) || {_QUANTIZES}.indexOf(true) == -1 || "
        f"{_QUANTIZES}.indexOf(true) > {_QUANTIZES}.lastIndexOf(false)",
        _quantize_last,
        "what is quantized can no longer be merged, pruned or trained: Quantize steps come last",
        ".steps",
    ),
    Rule(
        "quantize-to-integers-once",
        "spec",
        f"!has(self.steps) || {_CASTS}.filter(c, !c).size() <= 1",
        _integer_once,
        "a model is quantized once: keep one Quantize step whose method is not Cast",
        ".steps",
    ),
    Rule(
        "cast-after-quantize",
        "spec",
        f"!has(self.steps) || {_CASTS}.lastIndexOf(false) == -1 || {_CASTS}.indexOf(true) == -1 || "
        f"{_CASTS}.indexOf(true) > {_CASTS}.lastIndexOf(false)",
        _cast_last,
        "ranges are observed in full precision: Cast comes after the other Quantize step",
        ".steps",
    ),
)

STEPS = (*NAMES, *(_member(kind) for kind in StepType), *PRUNE, *QUANTIZE, *ORDER)
