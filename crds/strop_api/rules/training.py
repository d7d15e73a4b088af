"""What is usual when a trained model is trained on: ranges of learning rates and epochs, with their sources."""

from typing import NamedTuple


class Usual(NamedTuple):
    """What a kind of training mostly takes."""

    highest_rate: float
    """Above it the model is trained anew rather than trained on."""
    most_epochs: int
    """Above it the run drifts from the original."""


FROM_NOTHING = 1e-3
"""Adam's own default (Kingma and Ba, 2015), at which most networks are trained from random weights."""
LOWEST_RATE = 1e-7
"""Below it a step of Adam, whose size is the learning rate, is lost in the last bit of a weight near 1 (2**-24)."""

QAT = Usual(FROM_NOTHING / 10, 30)
"""Starts at 1/100 of the original peak and takes a tenth of the schedule (Wu et al., 2020, arXiv:2004.09602, section
5). A tenth of the peak is the most, and a third of ImageNet's usual 90 epochs."""
RECOVERY = Usual(FROM_NOTHING, 90)
"""Fine-tuning and distillation after a prune go on at the original's own rate at most (Renda et al., 2020,
arXiv:2003.02389), for its whole schedule at most: ImageNet's usual 90 epochs."""
