"""From what was observed to the range that is quantized: one function per calibrator."""

import numpy as np
from numpy.typing import NDArray

from strop_job.calibration.histogram import BINS_PER_SIDE, Counts, Extremes, Histogram

QUANTIZED_LEVELS = 128
"""Levels per candidate range in the entropy search, as in TensorRT's and MXNet's calibrators."""
ENTROPY_BINS_PER_SIDE = 1024
SMOOTHING = 1e-4


def min_max(seen: Extremes) -> tuple[float, float]:
    """Everything that was seen."""
    return (seen.minimum, seen.maximum) if seen.size else (0.0, 0.0)


def percentile(seen: Histogram, percent: float) -> tuple[float, float]:
    """The smallest symmetric range that keeps `percent` (0 to 100) of the magnitudes, cut to what was seen."""
    kept = np.cumsum(seen.magnitudes())
    at = int(np.searchsorted(kept, percent / 100 * kept[-1]))
    return _within(seen, (at + 1) * seen.width)


def entropy(seen: Histogram) -> tuple[float, float]:
    """The symmetric range whose quantized distribution diverges least from the observed one (Kullback-Leibler).

    Migacz, "8-bit inference with TensorRT", GTC 2017; details as in ONNX Runtime's EntropyCalibrater.
    """
    if not seen.magnitude:
        return min_max(seen)
    counts, width = _coarse(seen)
    return _within(seen, entropy_half_bins(counts) * width)


def _within(seen: Histogram, threshold: float) -> tuple[float, float]:
    low, high = min_max(seen)
    return max(-threshold, low), min(threshold, high)


def _coarse(seen: Histogram) -> tuple[Counts, float]:
    """The occupied part of the histogram, merged to at most 1,024 bins a side."""
    used = int(np.ceil(seen.magnitude / seen.width)) or 1
    merge = 1 << max(0, (used - 1) // ENTROPY_BINS_PER_SIDE).bit_length()
    half = -(-used // merge)
    counts = seen.counts[BINS_PER_SIDE - half * merge : BINS_PER_SIDE + half * merge]
    return counts.reshape(-1, merge).sum(axis=1), seen.width * merge


def entropy_half_bins(counts: Counts, levels: int = QUANTIZED_LEVELS) -> int:
    """How many bins either side of zero the best range spans. `counts` is symmetric around its middle.

    The same search as ONNX Runtime's `HistogramCollector.get_entropy_threshold`, in arrays instead of loops.
    """
    zero = counts.size // 2
    candidates = range(levels // 2, zero + 1)
    if len(candidates) < 2:
        return zero
    sums = np.concatenate(([0], np.cumsum(counts)))
    divergences = [
        _divergence(counts, sums, zero - half, min(zero + half + 1, counts.size), levels) for half in candidates
    ]
    return candidates[int(np.argmin(divergences))]


def _divergence(counts: Counts, sums: Counts, start: int, end: int, levels: int) -> float:
    """KL divergence of one candidate range from its quantized form; infinite when undefined."""
    inside = counts[start:end]
    reference = inside.astype(np.int64)
    reference[0] += sums[start]
    reference[-1] += sums[-1] - sums[end]
    per_level = inside.size // levels
    whole = per_level * levels
    level_sums = inside[:whole].reshape(levels, per_level).sum(axis=1)
    level_sums[-1] += inside[whole:].sum()
    occupied = (reference[:whole] != 0).reshape(levels, per_level).sum(axis=1)
    spread = np.where(occupied > 0, level_sums / np.maximum(occupied, 1), 0).astype(np.int64)
    quantized = np.zeros(inside.size, np.int64)
    quantized[:whole] = np.repeat(spread, per_level)
    p, q = _smooth(reference), _smooth(quantized)
    if p is None or q is None:
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


def _smooth(counts: Counts) -> NDArray[np.float32] | None:
    """Moves a little mass onto the zeros, so that the divergence is defined."""
    zeros = counts == 0
    occupied = counts.size - int(zeros.sum())
    if not occupied:
        return None
    share = SMOOTHING * (counts.size - occupied) / occupied
    smoothed = counts.astype(np.float32) + np.where(zeros, np.float32(SMOOTHING), np.float32(-share))
    return smoothed if (smoothed > 0).all() else None
