"""Compile parity: an engine must compute what its own graph says, at every size it will serve."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from strop_api.model import Dimension, ModelSource
from strop_api.targets import Target
from strop_job.backends import Arrays, Session
from strop_job.batches import batch_dimension, resized
from strop_job.stages import ArtifactKind

FLOAT_TOLERANCE = 1e-3
"""Fusion and another order of summation are allowed; another result is not."""
HALF_TOLERANCE = 1e-2
INTEGER_TOLERANCE = 0.1
"""Only where nothing else is known: an integer graph whose float original was not run beside it."""
SHARE_OF_HALF_ERROR = 1.5
"""A compiler may keep FP32 between fused operators where the graph rounds to 16 bits: it then differs from the graph by
the graph's own error, which is measured. BF16 has 8 bits of mantissa, so that a fixed bound would fit FP16 alone."""
TIMES_ROUNDING_NOISE = 2.0
"""An integer graph rounds; where fusion moves a value by an ulp, a rounding tips and its error travels on. That noise
is measured (see `rounding`). Engine over noise: MiniLM-L6 dynamic 0.7, static 0.4 (matrix products) and 0.9 (all
operators), magika 0, 40 residual blocks 0; the same blocks with one layer altered 2.7 to 30."""
LEAST_SHARE_OF_QUANTIZATION_ERROR = 0.25
"""Where a rounding tips seldom, none may have tipped in the copies."""
SHARE_OF_QUANTIZATION_ERROR = 0.75
"""No noise allows more: an engine of another graph has a share of 1 (the unquantized one) or more."""
REFERENCES = {
    ArtifactKind.ONNX_GRAPH: "the same graph run by ONNX Runtime with its optimizations off",
    ArtifactKind.OPENVINO_IR: "the same model run by OpenVINO in floats, its quantizers as elementary operations",
    ArtifactKind.EXPORTED_PROGRAM: "the same program run by PyTorch, operator by operator",
}
"""What an engine is held against, in words, by the kind of graph that it was compiled from."""
SAMPLES_A_POINT = 16
"""Real samples run at each size, in as many calls as that takes."""


@dataclass(frozen=True)
class Point:
    """One size at which the engine and its graph were run."""

    sizes: Mapping[str, int]
    error: float
    """Relative RMS error of the engine against the graph, over all outputs; infinite where forms differ, or where the
    engine yields NaN or infinity and the original does not."""
    quantization_error: float | None
    """The graph's own, against the original; None without an original."""
    rounding_noise: float | None = None
    """The largest relative error of copies of the graph that mean the same, against it; None where none were run."""

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        return {
            "sizes": dict(self.sizes),
            "error": self.error,
            "quantizationError": self.quantization_error,
            "roundingNoise": self.rounding_noise,
        }


def sizes_to_try(model: ModelSource) -> list[dict[str, int]]:
    """All dimensions at their min, opt and max, and two odd sizes between; without repeats."""
    rules = (
        lambda d: d.min,
        lambda d: d.opt,
        lambda d: d.max,
        lambda d: _odd(d, (d.min + d.opt) // 2),
        lambda d: _odd(d, (d.opt + d.max) // 2),
    )
    tried = {tuple(rule(d) for d in model.dimensions) for rule in rules}
    return [dict(zip((d.name for d in model.dimensions), sizes, strict=True)) for sizes in sorted(tried)]


def _odd(dimension: Dimension, near: int) -> int:
    """An odd size near one, in bounds where there is one: no multiple of a vector's width."""
    odd = near if near % 2 else near + 1
    return odd if odd <= dimension.max else max(dimension.min, dimension.max - 1)


def compare(
    engine: Session,
    graph: Session,
    original: Session | None,
    samples: Arrays,
    model: ModelSource,
    sizes: Mapping[str, int],
    copies: Sequence[Session] = (),
) -> Point:
    """Runs all on the same real samples, resized. `copies` of the graph differ in the last bits of its constants."""
    batch = batch_dimension(model)
    rows = batch if isinstance(batch, int) else sizes[batch.name]
    signal = noise = own_signal = own_noise = 0.0
    moved = [(0.0, 0.0) for _ in copies]
    for call in range(math.ceil(SAMPLES_A_POINT / rows)):
        inputs = resized(samples, model, sizes, first=call * rows)
        expected = graph.run(inputs)
        wanted = expected if original is None else original.run(inputs)
        signal, noise = _add((signal, noise), wanted, expected, engine.run(inputs))
        own_signal, own_noise = _add((own_signal, own_noise), wanted, wanted, expected)
        moved = [_add(s, wanted, expected, copy.run(inputs)) for s, copy in zip(moved, copies, strict=True)]
    own = None if original is None else _relative(own_signal, own_noise)
    rounding = max((_relative(*sums) for sums in moved), default=None)
    return Point(dict(sizes), _relative(signal, noise), own, rounding)


def tolerance(points: list[Point], *, integer: bool, half: bool) -> float:
    """The largest relative error that compiling may add, for a graph that computes in integers, or in 16-bit floats."""
    if not integer and not half:
        return FLOAT_TOLERANCE
    own = _root_mean_square(point.quantization_error for point in points)
    if not integer:
        return max(HALF_TOLERANCE, SHARE_OF_HALF_ERROR * (own or 0.0))
    if own is None:
        return INTEGER_TOLERANCE
    noise = _root_mean_square(point.rounding_noise for point in points)
    if noise is None:
        return max(FLOAT_TOLERANCE, SHARE_OF_QUANTIZATION_ERROR * own)
    least = LEAST_SHARE_OF_QUANTIZATION_ERROR * own
    return max(FLOAT_TOLERANCE, min(SHARE_OF_QUANTIZATION_ERROR * own, max(least, TIMES_ROUNDING_NOISE * noise)))


def _root_mean_square(errors: Iterable[float | None]) -> float | None:
    """Of those that are known and finite; None when none is."""
    known = [error for error in errors if error is not None and math.isfinite(error)]
    return float(np.sqrt(np.mean(np.square(known)))) if known else None


def rounds_inputs(target: Target) -> bool:
    """Whether FP32 products may be made of TF32 inputs, of 10 bits of mantissa like FP16: accelerators' default."""
    return target.accelerator is not None and (target.tensorrt is None or target.tensorrt.tf32)


def nearest_failure(points: list[Point], bound: float) -> Point | None:
    """The point with the least to compute among those beyond the bound."""
    failed = [point for point in points if not point.error <= bound]
    return min(failed, key=lambda point: math.prod(point.sizes.values()), default=None)


def facts(points: list[Point], bound: float) -> dict[str, JsonValue]:
    """`shapes`, `worst` error and `tolerance`; whether that is good enough is a gate's business.

    An infinite error, which facts say as None, is the worst there is.
    """
    worst = max(point.error for point in points)
    return {"shapes": [point.facts() for point in points], "worst": worst, "tolerance": bound, "passed": worst <= bound}


def _add(sums: tuple[float, float], original: Arrays, expected: Arrays, found: Arrays) -> tuple[float, float]:
    """Adds the energy of the expected outputs and of the differences. Each output counts alike, whatever its scale.

    A value that is not finite is an infinite error, unless the original has the very same one there: at sizes that
    are not the user's, a sample may be cut to nothing but padding.
    """
    signal, noise = sums
    for name, reference in expected.items():
        value, wanted = found.get(name), original.get(name)
        if value is None or wanted is None or not value.shape == reference.shape == wanted.shape:
            return signal, math.inf
        a, b, own = (np.asarray(x, np.float64) for x in (reference, value, wanted))
        counted = np.isfinite(own)
        if not (np.isfinite(a[counted]).all() and np.isfinite(b[counted]).all()):
            return signal, math.inf
        if not all(np.array_equal(x[~counted], own[~counted], equal_nan=True) for x in (a, b)):
            return signal, math.inf
        scale = float(np.sum(np.square(a[counted]))) or 1.0
        signal += 1.0
        noise += float(np.sum(np.square(a[counted] - b[counted]))) / scale
    return signal, noise


def _relative(signal: float, noise: float) -> float:
    if math.isinf(noise):
        return math.inf
    return math.sqrt(noise / signal) if signal else 0.0
