"""What every script of this folder prints: one JSON line a figure, {name, value, unit, low, high, n, baseline}."""

import json
import statistics
from collections.abc import Sequence

DIGITS = 5


def emit(
    name: str,
    unit: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    n: int = 1,
    baseline: float | None = None,
) -> None:
    """Print one figure: `n` measurements behind it, `low` and `high` their spread or interval, if any.

    `baseline` is what the value is to be held against, in the same unit.
    """
    figures = {"value": value, "low": low, "high": high, "baseline": baseline}
    rounded = {key: None if figure is None else round(float(figure), DIGITS) for key, figure in figures.items()}
    line = {"name": name, "value": rounded["value"], "unit": unit, "low": rounded["low"], "high": rounded["high"]}
    print(json.dumps({**line, "n": n, "baseline": rounded["baseline"]}), flush=True)


def emit_spread(name: str, unit: str, values: Sequence[float], baseline: float | None = None) -> None:
    """Print the median of repeated measurements, with the smallest and the largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    emit(name, unit, middle, low=low, high=high, n=len(values), baseline=baseline)
