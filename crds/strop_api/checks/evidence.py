"""What the measurements of a run say beside its gates."""

from strop_api.checks.check import Check
from strop_api.findings import Severity

WEAK_ORIGINAL = Check(
    "weak-original",
    "An original that is hardly better than guessing",
    Severity.HIGH,
    "Where kappa, the agreement beyond chance, is below 0.2 (`slight`: Landis and Koch, 1977) there is little to lose, "
    "and a gate on the loss protects little.",
    "check weights and preprocessing; train further before optimizing",
)
CONSTANT_PASSES = Check(
    "constant-answer-passes",
    "A gate that a constant answer passes",
    Severity.HIGH,
    "When the most frequent class alone reaches the metric that the gates ask for, a model that always answers it "
    "passes: the gates say nothing about the model.",
    "tighten metricDrop, set metricMin above the share of the most frequent class, or judge by f1_macro",
)
FEW_EVALUATION_SAMPLES = Check(
    "evaluation-too-small",
    "Too few samples to see the loss asked about",
    Severity.MEDIUM,
    "An interval of the loss that reaches further than the gate's bound, to both sides of it, tells a good model from "
    "a bad one by luck.",
    "evaluate on more samples, or widen the bound",
)
ONE_LABEL = Check(
    "evaluation-one-class",
    "One class in the evaluation data",
    Severity.HIGH,
    "Samples of one class say nothing about telling classes apart; mostly a sorted file was cut to its first samples.",
    "shuffle the evaluation data, or leave spec.data.evaluation.samples out",
)
EVALUATION_DUPLICATES = Check(
    "evaluation-duplicates",
    "Evaluation samples that repeat others",
    Severity.HIGH,
    "A repeated sample tells nothing new, yet an interval counts it as another one: ten copies of 100 samples look "
    "like proof by 1,000. Whether the gates can be passed at all is reckoned from the distinct samples.",
    "drop the repeats; or name what was repeated in spec.data.evaluation.groups, so that intervals reckon with it",
)
QUANTIZATION_RUINED = Check(
    "quantization-ruined",
    "A model that quantization ruined",
    Severity.HIGH,
    "Outputs far from the original's (SQNR below 10 dB, cosine below 0.9, or less than 80% the same answers) together "
    "with a metric that surely fell by 5% or more: ranges of some activations do not fit 8 bits, as those of encoders "
    "with a few large channels. Compile parity tells the graph's fault from the compiler's.",
    "keep what has outliers high (excludeNodes, opTypes), calibrate by Percentile, or take ranges anew (Dynamic)",
)
COLLAPSED = Check(
    "predictions-collapsed",
    "Answers collapsed to few classes",
    Severity.CRITICAL,
    "A model that answers mostly one class where the original tells several apart has lost its ranges: a saturated "
    "scale, a clipped activation or a wrong bias.",
    "calibrate on data like the evaluation data, or keep the last layers high by excludeNodes",
)
HARDLY_REALISED = Check(
    "precision-hardly-realised",
    "Most compute not at the precision asked for",
    Severity.MEDIUM,
    "What is quantized in the file and computed in floating point by the engine gains size, not speed.",
    "see the report's layers; set gates.realisedPrecision to refuse it",
)
NOT_FASTER = Check(
    "not-faster",
    "Not faster than without it",
    Severity.MEDIUM,
    "When the interval of the speed-up includes 1 the change has bought no speed that could be measured.",
    "keep the variant that is faster, or set gates.speedup to refuse this one",
)
SPEED_NOT_STATED = Check(
    "speed-not-stated",
    "No speed-up is stated",
    Severity.LOW,
    "Without timings of both, in enough rounds, no ratio is given.",
    "raise spec.benchmark.maxSeconds",
)
SPARSE_WEIGHTS = Check(
    "sparse-weights",
    "What kernels for sparse weights bring",
    Severity.MEDIUM,
    "The same engine was built and timed without sparseWeights: where it is as fast, the flag brings nothing on this "
    "device and at these shapes. Low where it helps, or where that cannot be told.",
    "leave sparseWeights off",
)
LARGER = Check(
    "larger-than-original",
    "Larger than the original",
    Severity.MEDIUM,
    "An optimized engine whose file is larger than the original's carries something twice, such as weights unfolded.",
    "compare the two engines' files; leave out what made it larger",
)
MORE_MEMORY = Check(
    "more-memory-than-original",
    "More memory than the original",
    Severity.MEDIUM,
    "An optimized engine that needs more memory than the original may not fit where the original did.",
    "set gates.peakMemory to refuse it; for ONNXRuntime try memoryArena: false",
)
SUSPICIOUSLY_BETTER = Check(
    "better-than-original",
    "Better than the original",
    Severity.MEDIUM,
    "Rounding weights adds no knowledge: a metric that rises beyond the noise without any training points to data that "
    "was seen before, or to an original that was not run as it should be.",
    "look for evaluation samples among the calibration data, and at the original's preprocessing",
)

GATE_UNDERPOWERED = Check(
    "gate-underpowered",
    "A gate that a good model would mostly fail",
    Severity.HIGH,
    "With few samples a one-sided bound reaches beyond the margin even when nothing was lost: the run is likely to end "
    "as inconclusive after all its work. The chance is reckoned for a model that answers 2% of samples otherwise, as "
    "often for the better.",
    "evaluate on as many samples as are named, widen gates.metricDrop, or lower its confidence",
)
GATE_POWER_UNKNOWN = Check(
    "gate-power-unknown",
    "A gate whose chance of passing is not known",
    Severity.LOW,
    "For a metric that is not made of right and wrong answers it depends on how much the two models differ from sample "
    "to sample, which nothing tells before both are measured.",
    "run it once without confidence: the interval in its report must be shorter than the margin; four times the "
    "samples halve it",
)

CHECKS: tuple[Check, ...] = (
    WEAK_ORIGINAL,
    CONSTANT_PASSES,
    FEW_EVALUATION_SAMPLES,
    ONE_LABEL,
    EVALUATION_DUPLICATES,
    QUANTIZATION_RUINED,
    COLLAPSED,
    HARDLY_REALISED,
    NOT_FASTER,
    SPEED_NOT_STATED,
    SPARSE_WEIGHTS,
    LARGER,
    MORE_MEMORY,
    SUSPICIOUSLY_BETTER,
    GATE_UNDERPOWERED,
    GATE_POWER_UNKNOWN,
)
