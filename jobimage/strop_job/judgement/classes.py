"""What labels and answers say about one another, beyond the share that agrees."""

import math
from dataclasses import dataclass

import numpy as np

from strop_job.judgement.statistics import Ints


@dataclass(frozen=True)
class Agreement:
    """How far answers agree with labels."""

    observed: float
    """Share that agrees."""
    expected: float
    """Share that would agree if the answers, as often as they are given, had nothing to do with the labels."""
    kappa: float
    """(observed - expected) / (1 - expected): 0 by chance, 1 always (Cohen 1960, Educ. Psychol. Meas. 20:37)."""
    error_at_chance: float
    """Standard error of kappa where it is really 0 (Fleiss, Cohen and Everitt 1969, Psychol. Bull. 72:323, eq. 14)."""


def agreement(labels: Ints, answers: Ints) -> Agreement:
    """Of two lists of class numbers, [n] each. One class throughout on either side is agreement by chance: kappa 0."""
    count = len(labels)
    _, codes = np.unique(np.concatenate([labels, answers]), return_inverse=True)
    size = int(codes.max()) + 1
    true, given = (np.bincount(side, minlength=size) / count for side in (codes[:count], codes[count:]))
    observed, expected = float(np.mean(labels == answers)), float(true @ given)
    if expected >= 1:
        return Agreement(observed, expected, 0.0, 0.0)
    spread = expected + expected**2 - float(np.sum(true * given * (true + given)))
    error = math.sqrt(max(spread, 0.0)) / ((1 - expected) * math.sqrt(count))
    return Agreement(observed, expected, (observed - expected) / (1 - expected), error)


def effective_classes(answers: Ints) -> float:
    """exp of the entropy of how often each class is given: 1 for one class, k for k classes equally often."""
    shares = np.unique(answers, return_counts=True)[1] / len(answers)
    return math.exp(-float(np.sum(shares * np.log(shares))))
