"""Whether training helped or harmed, and whether the model was trained at all."""

from strop_api.checks.check import Check
from strop_api.findings import Severity

FORGETTING = Check(
    "training-forgets",
    "Training forgets what the model knew",
    Severity.HIGH,
    "A model that is trained on starts from what it knows; when its validation metric stays below where it started by "
    "more than the tolerance, and does not rise fast enough to come back, further epochs cost time and gain nothing.",
    "lower learningRate to 1/100 of the original training's, and check labels and normalization",
)
DIVERGENCE = Check(
    "training-diverges",
    "Training diverges",
    Severity.HIGH,
    "A loss that is NaN or infinite never comes back; one that climbs far above where it started seldom does.",
    "lower learningRate by 10 or more, and check the training data for NaN",
)
LEARNING_RATE = Check(
    "learning-rate-range",
    "A learning rate out of range",
    Severity.HIGH,
    "Quantization-aware training starts at about 1/100 of the original training's peak, and at most 1/10 (Wu et al., "
    "2020, arXiv:2004.09602, section 5); 0.001 is where most networks start from nothing (Kingma and Ba, 2015).",
    "use 1/100 to 1/10 of the original training's learning rate; 0.00001 to 0.0001 is usual with AdamW",
)
EPOCHS = Check(
    "epochs-range",
    "More epochs than retraining takes",
    Severity.MEDIUM,
    "Quantization-aware training takes about a tenth of the original schedule (Wu et al., 2020, section 5), mostly a "
    "few epochs (McKinstry et al., 2018, arXiv:1809.04191: one); longer runs drift from the original.",
    "train for a few epochs, and set earlyStoppingEpochs",
)
WORSE_THAN_PTQ = Check(
    "qat-worse-than-ptq",
    "Quantization-aware training lost to calibration",
    Severity.HIGH,
    "Training that ends below what calibration alone reaches has cost time and accuracy: the calibrated model is kept.",
    "keep the Static step; or train again with a lower learningRate and correct labels",
)
NO_BETTER_THAN_PTQ = Check(
    "qat-no-better-than-ptq",
    "Quantization-aware training gained nothing",
    Severity.LOW,
    "Where calibration alone is as good within the noise of the validation data, training is not worth its cost.",
    "use method Static",
)
UNTRAINED = Check(
    "untrained-model",
    "A model that guesses",
    Severity.CRITICAL,
    "A model whose answers agree with the labels no more than chance (Cohen, 1960; the error of Fleiss et al., 1969) "
    "has not been trained, is not the one meant, or is fed otherwise than in training. Nothing it loses can be seen.",
    "check the weights, the preprocessing and the numbering of the labels",
)
CONTRADICTION = Check(
    "training-data-contradicts",
    "Training data that contradicts the model",
    Severity.HIGH,
    "Before any training the model's loss on training data is that of a guess, or worse, though it does well on "
    "validation data: the labels are numbered otherwise, or the inputs prepared otherwise, in one of the two sets.",
    "compare the numbering of labels and the normalization of training and validation data",
)

CHECKS: tuple[Check, ...] = (
    FORGETTING,
    DIVERGENCE,
    LEARNING_RATE,
    EPOCHS,
    WORSE_THAN_PTQ,
    NO_BETTER_THAN_PTQ,
    UNTRAINED,
    CONTRADICTION,
)
