"""Observers of activations: the step's calibrator, as torchao's quantizer wants it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver

from strop_api.steps import Calibrator, QuantizeStep
from strop_job.calibration.histogram import Histogram, NotFiniteError
from strop_job.calibration.thresholds import entropy, percentile
from strop_job.errors import InvalidInput

# mypy: disable-error-code="misc"
# torchao is not followed by the type checker, so its observers are Any.

SMALLEST_SCALE = 2**-12
"""As in torchao's own recipe for x86."""
FIELD = "spec.data.calibration.uri"


class RangeObserver(MinMaxObserver):
    """Keeps a histogram of fixed size; the range is what a calibrator makes of it."""

    def __init__(self, percent: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.percent, self.seen = percent, Histogram()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Takes one more tensor."""
        try:
            self.seen.add(values.detach().numpy())
        except NotFiniteError as error:
            raise not_finite() from error
        return values

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and zero point of the chosen range."""
        low, high = entropy(self.seen) if self.percent is None else percentile(self.seen, self.percent)
        self.min_val.fill_(low)
        self.max_val.fill_(high)
        found: tuple[torch.Tensor, torch.Tensor] = super().calculate_qparams()
        return found


def observer_for(step: QuantizeStep) -> Any:
    """Makes observers for the step's calibrator. MSE is torchao's search for the least square error."""
    makers: Mapping[Calibrator, Any] = {
        Calibrator.MIN_MAX: MinMaxObserver.with_args(eps=SMALLEST_SCALE),
        Calibrator.MSE: HistogramObserver.with_args(eps=SMALLEST_SCALE),
        Calibrator.ENTROPY: RangeObserver.with_args(eps=SMALLEST_SCALE),
        Calibrator.PERCENTILE: RangeObserver.with_args(eps=SMALLEST_SCALE, percent=float(step.percentile)),
    }
    return makers[step.calibrator]


def activation_observers(module: torch.fx.GraphModule) -> dict[str, Any]:
    """The observers of a prepared module by the tensor they watch; one that watches several goes by the first."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for node in module.graph.nodes:
        observer = module.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(observer, MinMaxObserver | HistogramObserver) and id(observer) not in seen:
            seen.add(id(observer))
            if observer.dtype == torch.uint8:
                found[node.args[0].name] = observer
    return found


def range_facts(name: str, observer: Any) -> dict[str, Any]:
    """What was seen of a tensor and what of it is quantized. Raises InvalidInput when it held NaN or infinity."""
    seen = getattr(observer, "seen", None)
    low_seen = seen.minimum if seen else float(observer.min_val)
    high_seen = seen.maximum if seen else float(observer.max_val)
    if not np.isfinite([low_seen, high_seen]).all():
        raise not_finite()
    scale, zero = (float(value) for value in observer.calculate_qparams())
    low, high = (observer.quant_min - zero) * scale, (observer.quant_max - zero) * scale
    return {
        "name": name,
        "minimum": low_seen,
        "maximum": high_seen,
        "low": max(low, low_seen),
        "high": min(high, high_seen),
        "clippedShare": _clipped(observer, low, high),
    }


def _clipped(observer: Any, low: float, high: float) -> float:
    """Share of the values outside of the range; none with MinMax."""
    if isinstance(observer, RangeObserver):
        return observer.seen.clipped_share(low, high)
    if not isinstance(observer, HistogramObserver):
        return 0.0
    counts = observer.histogram.numpy()
    edges = np.linspace(float(observer.min_val), float(observer.max_val), counts.size + 1)
    return float(counts[(edges[1:] <= low) | (edges[:-1] >= high)].sum() / max(float(counts.sum()), 1.0))


def not_finite() -> InvalidInput:
    """The error for NaN and infinity while calibrating."""
    return InvalidInput(
        "an activation holds NaN or infinity on the calibration data",
        field=FIELD,
        mend="check the data's scale and the weights",
    )
