"""Original and optimized side by side: what was measured of both, and what became of it. In words, for people."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from strop_api.status import MetricFigures
from strop_api.targets import SpeedupOver
from strop_job.benchmark.variants import Variant
from strop_job.judgement.evidence import Latencies
from strop_job.judgement.figures import bytes_text, metric_text, microseconds_text
from strop_job.judgement.headline import compare, loss_text, speed_text
from strop_job.judgement.statistics import LEVEL

QUANTILES = (("latency p50", 0.5), ("latency p90", 0.9))


@dataclass(frozen=True)
class Row:
    """One figure of both; `change` is empty where nothing is stated."""

    figure: str
    original: str
    optimized: str
    change: str = ""


def side_by_side(
    metric: MetricFigures | None,
    latencies: Mapping[str, Latencies],
    original_bytes: int,
    optimized_bytes: int,
    seed: int,
) -> tuple[Row, ...]:
    """Metric, latency, and size of the compiled models; what was not measured has no row."""
    size = Row(
        "size", bytes_text(original_bytes), bytes_text(optimized_bytes), _size_change(original_bytes, optimized_bytes)
    )
    return (*_metric(metric), *_latencies(latencies, seed), size)


def _metric(metric: MetricFigures | None) -> Iterator[Row]:
    if metric is not None:
        before, after = (metric_text(float(figure)) for figure in (metric.original, metric.optimized))
        yield Row(metric.name, before, after, loss_text(metric))


def _latencies(latencies: Mapping[str, Latencies], seed: int) -> Iterator[Row]:
    original, optimized = latencies.get(Variant.ORIGINAL), latencies.get(Variant.OPTIMIZED)
    if original is None or optimized is None:
        return
    compared = compare(latencies, SpeedupOver.ORIGINAL, LEVEL, seed)
    for name, share in QUANTILES:
        before, after = (microseconds_text(found.quantile(share)) for found in (original, optimized))
        change = (compared if isinstance(compared, str) else speed_text(compared)) if share == 0.5 else ""
        yield Row(name, before, after, change)


def _size_change(before: int, after: int) -> str:
    if not before or after == before:
        return ""
    return f"{abs(after / before - 1):.0%} {'smaller' if after < before else 'larger'}"
