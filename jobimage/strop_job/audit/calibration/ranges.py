"""What ranges cost: the noise of 8-bit quantization with one set's ranges on another set's values, in decibels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strop_job.audit.calibration.observed import Floats, Tensor
from strop_job.audit.calibration.sketch import PROBABILITIES

STEPS = 255
"""Steps of an 8-bit range."""
END_WEIGHT = 1e-4
"""Weight of a sample's extreme values: a sketch knows their place, not how many lie there."""
CONFIDENCE = 0.95


def _weights() -> NDArray[np.float64]:
    """Share of a sample's values that each level of its sketch stands for."""
    edges = np.concatenate(([0.0], (PROBABILITIES[1:] + PROBABILITIES[:-1]) / 2, [1.0])).astype(np.float64)
    weights = np.diff(edges)
    weights[[0, -1]] = END_WEIGHT
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


WEIGHTS = _weights()


@dataclass(frozen=True)
class Span:
    """From the smallest to the largest value."""

    low: float
    high: float

    @classmethod
    def of(cls, tensor: Tensor) -> "Span":
        """Over all samples, as MinMax calibration sees it."""
        return cls(float(tensor.quantiles[:, 0].min()), float(tensor.quantiles[:, -1].max()))

    @property
    def step(self) -> float:
        """Distance of two quantized values; zero is always one of them."""
        return (max(self.high, 0.0) - min(self.low, 0.0)) / STEPS


@dataclass(frozen=True)
class Cost:
    """What the calibration set's ranges cost on the reference's values, for one tensor."""

    calibration: Span
    reference: Span
    clipped_share: float
    """Share of the reference's values outside the calibration set's range."""
    excess_decibels: float
    """Quantization noise over that with the reference's own range, of the upper quartile of the samples."""


def noise(values: Floats, span: Span) -> NDArray[np.float64]:
    """[n]: mean squared error of each sample ([n, LEVELS]) in 8 bits: step^2 / 12 inside a span, the miss outside."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    missed = np.maximum(values - high, 0.0) + np.maximum(low - values, 0.0)
    error = np.where(missed > 0.0, missed.astype(np.float64) ** 2, span.step**2 / 12)
    found: NDArray[np.float64] = error @ WEIGHTS
    return found


def cost(calibration: Tensor, reference: Tensor) -> Cost:
    """See Cost."""
    spans = Span.of(calibration), Span.of(reference)
    values = reference.quantiles
    outside = (values < spans[0].low) | (values > spans[0].high)
    return Cost(
        *spans,
        float((outside @ WEIGHTS).mean()),
        excess(values, *spans),
    )


def excess(values: Floats, given: Span, own: Span) -> float:
    """By how many decibels one span is noisier than another, for at least a quarter of the samples.

    A quarter, not the mean: one sample beyond the range, of which every honest set has some where tails are heavy,
    would be all there is in a mean of squares.
    """
    return decibels(float(np.quantile(noise(values, given), 0.75)), float(np.quantile(noise(values, own), 0.75)))


def decibels(one: float, other: float) -> float:
    """10 log10 of the ratio, within +-120."""
    if one <= 0.0 or other <= 0.0:
        return 0.0 if one == other else math.copysign(120.0, one - other)
    return min(max(10 * math.log10(one / other), -120.0), 120.0)


def seen_share(samples: int) -> float:
    """With 95% confidence, the share of samples whose largest value is below the largest of so many.

    The largest of n independent values is below the quantile q with chance q^n (Wilks 1941), whatever the
    distribution: q = 0.05^(1/n). 8 samples say 0.69, 128 say 0.977.
    """
    return float((1 - CONFIDENCE) ** (1 / max(samples, 1)))


def size_cost(reference: Tensor, samples: int) -> float:
    """Excess noise, in decibels, that ranges of `samples` samples like the reference's may cause, with 95% confidence.

    The range's ends are then the order statistics of the reference's own per-sample extremes at `seen_share`.
    """
    share = seen_share(samples)
    lows, highs = reference.quantiles[:, 0], reference.quantiles[:, -1]
    bound = Span(float(np.quantile(lows, 1 - share)), float(np.quantile(highs, share)))
    values = reference.quantiles
    return decibels(float(noise(values, bound).mean()), float(noise(values, Span.of(reference)).mean()))
