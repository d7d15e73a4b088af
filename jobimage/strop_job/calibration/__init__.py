"""Calibration: ranges of activations observed on real samples, in memory that does not grow with their number."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import onnx
from pydantic import JsonValue

from strop_api.steps import Calibrator, QuantizeStep
from strop_job.backends import Arrays
from strop_job.calibration.histogram import Extremes, Histogram
from strop_job.calibration.observe import float_tensors, observe
from strop_job.calibration.thresholds import entropy, min_max, percentile
from strop_job.errors import Unsupported

__all__ = ["TensorRange", "calibrate", "float_tensors"]


@dataclass(frozen=True)
class TensorRange:
    """What was seen of one tensor, and what of it is quantized, in the tensor's unit."""

    minimum: float
    maximum: float
    low: float
    high: float
    clipped_share: float
    """Share of the observed values outside [low, high], 0 to 1."""

    def facts(self, name: str) -> dict[str, JsonValue]:
        """As JSON, for the report."""
        return {
            "name": name,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "low": self.low,
            "high": self.high,
            "clippedShare": self.clipped_share,
        }


def calibrate(
    model: onnx.ModelProto,
    tensors: Iterable[str],
    batches: Iterable[Arrays],
    step: QuantizeStep,
    *,
    threads: int,
    done: Callable[[int], None] = lambda samples: None,
) -> Mapping[str, TensorRange]:
    """The range of every tensor by the step's calibrator. `done` is told the number of samples so far.

    Raises InvalidInput for NaN or infinity in data or activations, Unsupported for a calibrator this build lacks.
    """
    if step.calibrator is Calibrator.MIN_MAX:
        extremes = observe(model, tensors, batches, Extremes, threads=threads, done=done)
        return {name: _range(seen, min_max(seen), 0.0) for name, seen in extremes.items()}
    if step.calibrator not in (Calibrator.PERCENTILE, Calibrator.ENTROPY):
        raise Unsupported(
            f"this build has no {step.calibrator} calibrator",
            field="spec.steps[].quantize.calibrator",
            mend="use MinMax, Percentile or Entropy",
        )
    histograms = observe(model, tensors, batches, Histogram, threads=threads, done=done)
    chosen = {name: _chosen(seen, step) for name, seen in histograms.items()}
    return {name: _range(s, chosen[name], s.clipped_share(*chosen[name])) for name, s in histograms.items()}


def _chosen(seen: Histogram, step: QuantizeStep) -> tuple[float, float]:
    if step.calibrator is Calibrator.ENTROPY:
        return entropy(seen)
    return percentile(seen, float(step.percentile))


def _range(seen: Extremes, chosen: tuple[float, float], clipped: float) -> TensorRange:
    low, high = min_max(seen)
    return TensorRange(low, high, *chosen, clipped)
