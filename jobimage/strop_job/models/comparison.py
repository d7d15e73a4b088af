"""Does an exported graph compute what the module computed? NumPy alone: both exports use it."""

import numpy as np
from numpy.typing import NDArray

from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.shapes import Sizes, named

TOLERANCE = 1e-3
"""Largest difference allowed, as a share of the output's largest magnitude: float32 rounding stays far below."""
HALF_TOLERANCE = 2e-2
"""The same where an output is float16."""
EXPORTED = "spec.model.architecture"
Outputs = list[NDArray[np.generic]]


def compare(outputs: Outputs, expected: Outputs, at: Sizes) -> float:
    """Largest difference over largest magnitude. Raises Unsupported beyond the tolerance."""
    if len(outputs) != len(expected):
        raise Unsupported(f"the exported graph has {len(outputs)} outputs, the module {len(expected)}", field=EXPORTED)
    worst = max((_difference(a, b, at) for a, b in zip(outputs, expected, strict=True)), default=0.0)
    half = any(b.dtype == np.float16 for b in expected)
    if not worst <= (HALF_TOLERANCE if half else TOLERANCE):
        raise Unsupported(
            f"the exported graph differs from the module by {worst:.2g} of its range at {named(at)}", field=EXPORTED
        )
    return worst


def _difference(output: NDArray[np.generic], expected: NDArray[np.generic], at: Sizes) -> float:
    if output.shape != expected.shape:
        raise InvalidInput(
            f"the exported graph yields shape {list(output.shape)} at {named(at)}, the module {list(expected.shape)}",
            field="spec.model.dimensions",
        )
    if not expected.size:
        return 0.0
    a, b = output.astype(np.float64), expected.astype(np.float64)
    both = np.isnan(a) & np.isnan(b) | (a == b)
    gap = np.where(both, 0.0, np.abs(a - b)).max()
    finite = np.abs(b[np.isfinite(b)])
    return float(gap / max(float(finite.max()) if finite.size else 0.0, 1e-6))
