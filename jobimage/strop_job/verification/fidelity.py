"""How close two models' outputs are, accumulated sample by sample. Never called accuracy: no label is looked at."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

SQNR_LIMIT_DECIBELS = 200.0
"""Identical outputs have an infinite ratio, which JSON cannot say."""


@dataclass
class Fidelity:
    """Sums over the samples seen so far. The first axis of every array is the sample."""

    classes: bool
    """The last axis holds scores of classes, so that the top class can be compared."""
    samples: int = 0
    not_finite: int = 0
    """Samples for which the candidate yields NaN or infinity; they count as all zeros."""
    cosine_sum: float = 0.0
    numbers: int = 0
    """Most numbers of one sample. A single one has a sign and no direction: its cosine would be 1 whatever it is."""
    agreed: int = 0
    compared: int = 0
    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: NDArray[Any], value: NDArray[Any]) -> None:
        """One batch of the original's outputs and the candidate's, of equal shapes."""
        a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (reference, value))
        broken: NDArray[np.bool_] = ~np.all(np.isfinite(b), axis=1)
        b = np.where(np.expand_dims(broken, 1), 0.0, b)
        self.not_finite += int(broken.sum())
        self.samples += len(a)
        self.numbers = max(self.numbers, a.shape[1])
        self.cosine_sum += float(cosines(a, b).sum())
        self.signal += float(np.sum(a * a))
        self.noise += float(np.sum((a - b) ** 2))
        if self.classes:
            whole = np.isfinite(np.asarray(value, np.float64)).all(axis=-1)
            same = whole & (np.argmax(reference, axis=-1) == np.argmax(value, axis=-1))
            self.agreed, self.compared = self.agreed + int(same.sum()), self.compared + same.size

    def facts(self) -> dict[str, JsonValue]:
        """`sqnrDecibels`; `cosine` (mean) of vectors; for classes `agreement` (share with the same top class)."""
        figures: dict[str, JsonValue] = {
            "samples": self.samples,
            "notFinite": self.not_finite,
            "sqnrDecibels": sqnr_decibels(self.signal, self.noise),
        }
        if self.numbers > 1:
            figures["cosine"] = self.cosine_sum / self.samples
        if self.compared:
            figures["agreement"] = self.agreed / self.compared
        return figures


def cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine similarity of paired rows; two zero rows are alike (1), one zero row is not (0)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    similar = np.divide(np.sum(a * b, axis=1), norms, out=np.zeros(len(a)), where=norms > 0)
    return np.where(both_zero, 1.0, similar)


def sqnr_decibels(signal: float, noise: float) -> float:
    """Signal-to-quantization-noise ratio, 10 log10(signal / noise), held within the limit on both sides."""
    if noise == 0:
        return SQNR_LIMIT_DECIBELS
    if signal == 0:
        return -SQNR_LIMIT_DECIBELS
    return max(-SQNR_LIMIT_DECIBELS, min(SQNR_LIMIT_DECIBELS, 10 * math.log10(signal / noise)))
