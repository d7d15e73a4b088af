"""Whether the calibration data is like the data the model will meet."""

from strop_api.checks.check import Check
from strop_api.findings import Severity

RANGE = Check(
    "calibration-range",
    "Calibration data on another scale",
    Severity.CRITICAL,
    "An input's values span another range in the calibration data than in the data the model is judged by. Integer "
    "ranges are set by the calibration data: too wide wastes a bit of eight for every factor of two, too narrow clips.",
    "Prepare both sets by the same code: the same scaling to 0..1 or 0..255, mean, standard deviation and units.",
)
CLIPPING = Check(
    "calibration-clipping",
    "Ranges of activations that clip",
    Severity.CRITICAL,
    "With the ranges that the calibration data sets, the model's own activations on reference data are rounded or "
    "clipped so much more than with ranges of the reference data that the quantized model is likely to be wrong.",
    "Take the calibration samples at random from the same source as the data the model will meet.",
)
DISTRIBUTION = Check(
    "calibration-distribution",
    "Calibration data of another kind",
    Severity.CRITICAL,
    "An input, an activation or an output is distributed otherwise over the calibration samples than over the "
    "reference samples, by an effect larger than two honest halves of one data set show.",
    "Compare a few samples of both sets after preprocessing: channel order, normalization, tokenizer, padding, units.",
)
COVERAGE = Check(
    "calibration-coverage",
    "Kinds of input that calibration never saw",
    Severity.CRITICAL,
    "Classes, tokens or categories that are common in the reference data do not occur in the calibration data, so the "
    "activations that only they cause were never observed.",
    "Draw calibration samples at random over all classes, languages and categories, not the head of a sorted file.",
)
DEGENERATE = Check(
    "calibration-degenerate",
    "Calibration data that says nothing",
    Severity.CRITICAL,
    "The calibration samples are all equal, constant or zero. Ranges observed on them are of nothing the model meets.",
    "Check the reader: a failed load often leaves zeros. Use real, distinct samples.",
)
DUPLICATES = Check(
    "calibration-duplicates",
    "Near-duplicates among the calibration samples",
    Severity.MEDIUM,
    "Most calibration samples nearly repeat another one: the set is smaller than its number of samples says.",
    "Drop repeated samples, such as neighbouring frames of one video, and take others instead.",
)
LEAK = Check(
    "calibration-leak",
    "Evaluation samples in the calibration data",
    Severity.HIGH,
    "Samples of the data the model is judged by stand, slightly changed, in the calibration data: the gates then judge "
    "the model on data its ranges were fitted to. Exact copies are refused before this check looks.",
    "Split by source (document, speaker, product), before augmenting, so that relatives stay in one set.",
)
SAMPLE_SIZE = Check(
    "calibration-size",
    "Too few calibration samples",
    Severity.CRITICAL,
    "From so few samples the ends of the ranges are not known: by order statistics, ranges of as many samples drawn "
    "from the reference data may clip so much that quantization noise grows by the stated decibels (95% confidence).",
    "Use more samples; 128 to 512 are usual. How many suffice depends on the tails of the activations.",
)

CHECKS: tuple[Check, ...] = (
    RANGE,
    CLIPPING,
    DISTRIBUTION,
    COVERAGE,
    DEGENERATE,
    DUPLICATES,
    LEAK,
    SAMPLE_SIZE,
)
