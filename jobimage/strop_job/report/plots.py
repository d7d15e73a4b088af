"""The pictures of a report, each from the document's figures (and raw latencies): one small function per picture."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from strop_api.targets import SpeedupOver
from strop_job.judgement.evidence import Latencies
from strop_job.judgement.figures import (
    bytes_text,
    microseconds_text,
    per_second_text,
    points_text,
    rate_text,
    seconds_text,
)
from strop_job.judgement.headline import PHRASES
from strop_job.report.document import CalibratedTensor, ReportDocument, ThroughputFigure
from strop_job.report.svg import COLORS, drawing, embed

VARIANT_COLORS = {"optimized": COLORS["candidate"], "original": COLORS["baseline"]}
TENSORS_SHOWN = 16
LABEL_LENGTH = 26
SEEN_SHARE = 0.01
"""Of the whole time: the bar of a shorter stage is too short to be seen."""
LOG_FROM_RATIO = 8.0
"""Distributions whose medians lie further apart are drawn on a logarithmic axis."""
ZERO_FROM_RATIO = 1.4
"""Medians further apart than this are drawn from zero, so that lengths tell the ratio; others close up."""
BINS = 90


@dataclass(frozen=True)
class Plot:
    """One picture with the words around it."""

    name: str
    title: str
    caption: str
    svg: Markup


def plots(document: ReportDocument, latencies: Mapping[str, Latencies]) -> Iterator[Plot]:
    """Every picture that there are figures for."""
    for draw in (latency, throughput, metric, speedup, sizes, stages):
        found = draw(document, latencies)
        if found is not None:
            yield found
    yield from calibrations(document)


def latency(document: ReportDocument, latencies: Mapping[str, Latencies]) -> Plot | None:
    """Distributions of latency, one row a variant, medians marked."""
    if not latencies:
        return None
    rows = sorted(latencies.items(), key=lambda item: item[0] == "optimized")
    medians = [found.median for _, found in rows]
    low = min(found.quantile(0.002) for _, found in rows)
    high = max(found.quantile(0.995) for _, found in rows) * 1.02
    ratio = max(medians) / min(medians)
    logarithmic = ratio > LOG_FROM_RATIO
    low = 0.0 if ZERO_FROM_RATIO < ratio <= LOG_FROM_RATIO else low * 0.99
    edges = np.geomspace(low, high, BINS) if logarithmic else np.linspace(low, high, BINS)
    with drawing(0.75 + 0.75 * len(rows)) as (figure, axes):
        for row, (name, found) in enumerate(rows):
            counts, _ = np.histogram(found.microseconds, edges)
            heights = 0.66 * counts / max(counts.max(), 1)
            color = VARIANT_COLORS.get(name, COLORS["other"])
            axes.stairs(heights + row, edges, baseline=row, fill=True, color=color, alpha=0.85, linewidth=0)
            axes.plot([found.median] * 2, [row, row + 0.72], color=COLORS["ink"], linewidth=1.4)
            axes.annotate(
                f"{name}  {microseconds_text(found.median)}",
                (found.median, row + 0.73),
                xytext=(0, 1),
                textcoords="offset points",
                ha=_alignment(found.median, low, high, logarithmic=logarithmic),
                fontsize=9.5,
            )
        axes.set(yticks=[], ylim=(-0.04, len(rows) + 0.05), xscale="log" if logarithmic else "linear")
        axes.set_xlim(low, high)
        _microsecond_ticks(axes, low, high, logarithmic=logarithmic)
        svg = embed(figure, "latency", "Latency distribution of every variant")
    tail = "Calls above the 99.5th percentile lie outside the picture." + (" Log scale." if logarithmic else "")
    return Plot("latency", "Latency per call", f"Bars count calls; the upright line is the median. {tail}", svg)


def throughput(document: ReportDocument, latencies: Mapping[str, Latencies]) -> Plot | None:
    """Samples per second by batch, one line a variant, with intervals; nothing when only one batch size was timed."""
    batches = sorted({row.batch for row in document.throughput})
    if len(batches) < 2:
        return None
    with drawing(2.3) as (figure, axes):
        for name in sorted({row.variant for row in document.throughput}):
            rows = sorted((row for row in document.throughput if row.variant == name), key=lambda row: row.batch)
            color = VARIANT_COLORS.get(name, COLORS["other"])
            places, values = [row.batch for row in rows], [row.samples_per_second for row in rows]
            reach = [[v - r.low for v, r in zip(values, rows, strict=True)]]
            reach.append([r.high - v for v, r in zip(values, rows, strict=True)])
            axes.errorbar(places, values, yerr=np.maximum(reach, 0), color=color, marker="o", markersize=4, capsize=2)
            axes.annotate(name, (places[-1], values[-1]), xytext=(6, 0), textcoords="offset points", va="center")
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: per_second_text(value) if value else "0"))
        axes.set(
            ylim=(0, None), xlim=(batches[0] / 1.15, batches[-1] * (batches[-1] / batches[0]) ** 0.3), xlabel="batch"
        )
        svg = embed(figure, "throughput", "Samples per second by batch size")
    best = max((row for row in document.throughput if row.variant == "optimized"), key=_rate, default=None)
    most = f" The engine's most: {rate_text(_rate(best))} at batch {best.batch}." if best else ""
    caption = f"Samples per second, one call at a time; the bars are 95% intervals.{most}"
    return Plot("throughput", "Throughput by batch", caption, svg)


def metric(document: ReportDocument, latencies: Mapping[str, Latencies]) -> Plot | None:
    """The loss of the metric with its interval, and the bound it was held against."""
    figures = document.metric
    if figures is None:
        return None
    drop = float(figures.drop_points)
    low, high = (float(end) if end is not None else None for end in (figures.low, figures.high))
    bound = _bound_points(document)
    with drawing(1.5) as (figure, axes):
        marks = [value for value in (drop, low, high, bound, 0.0) if value is not None]
        reach = (max(marks) - min(marks)) or 1.0
        axes.set_xlim(min(marks) - 0.15 * reach, max(marks) + 0.15 * reach)
        if bound is not None:
            axes.axvspan(bound, axes.get_xlim()[1], color=COLORS["bad"], alpha=0.12, linewidth=0)
            axes.axvline(bound, color=COLORS["bad"], linewidth=1.3)
            axes.annotate(
                f"bound {points_text(bound)}",
                (bound, 0.98),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=9,
            )
        axes.axvline(0, color=COLORS["line"], linewidth=1)
        if low is not None and high is not None:
            axes.plot([low, high], [0.4, 0.4], color=COLORS["candidate"], linewidth=5, alpha=0.45)
        axes.plot([drop], [0.4], "o", color=COLORS["candidate"], markersize=9)
        axes.annotate(points_text(drop), (drop, 0.4), xytext=(0, 9), textcoords="offset points", ha="center")
        axes.set(yticks=[], ylim=(0, 1.05), xlabel=f"{figures.name}: points lost (right is worse)")
        svg = embed(figure, "metric", f"Loss of {figures.name} with its 95% interval")
    caption = f"Dot: loss on {figures.samples:,} samples. Bar: 95% interval, {document.metric_method}."
    return Plot("metric", f"Loss of {figures.name}", caption, svg)


def speedup(document: ReportDocument, latencies: Mapping[str, Latencies]) -> Plot | None:
    """The ratio of medians with its interval; 1 means no gain."""
    found = document.speedup
    if found is None:
        return None
    ratio, low, high = float(found.ratio), float(found.low), float(found.high)
    bound = next((float(g.bound) for g in document.gates if g.gate == "speedup" and g.bound), None)
    with drawing(1.45) as (figure, axes):
        axes.plot([low, high], [0, 0], color=COLORS["candidate"], linewidth=5, alpha=0.45)
        axes.plot([ratio], [0], "o", color=COLORS["candidate"], markersize=8)
        label = f"{ratio:.2f}x  ({low:.2f} to {high:.2f})"
        axes.annotate(label, (ratio, 0), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9)
        axes.axvline(1, color=COLORS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        if bound is not None:
            axes.axvline(bound, color=COLORS["bad"], linewidth=1.3)
        ends = (low, high, 1.0, bound or 1.0)
        reach = max(ends) - min(ends) or 1.0
        axes.set_xlim(min(ends) - 0.3 * reach, max(ends) + 0.3 * reach)
        axes.set(yticks=[], ylim=(-0.5, 0.8), xlabel="times faster (dashed: no gain)")
        svg = embed(figure, "speedup", "Speed-up with its 95% interval")
    red = " The red line is the gate." if bound is not None else ""
    over = PHRASES[SpeedupOver(found.over)]
    caption = f"Ratio of medians over {over}, on the same runtime; the bar is its 95% interval.{red}"
    return Plot("speedup", "Speed-up", caption, svg)


def sizes(document: ReportDocument, latencies: Mapping[str, Latencies]) -> Plot | None:
    """Bytes of each model on the way, the engine marked."""
    if not document.sizes:
        return None
    rows = [(size.label, size.size_bytes, size.stage == "compile") for size in document.sizes]
    with drawing(0.4 + 0.34 * len(rows)) as (figure, axes):
        colors = [COLORS["candidate"] if engine else COLORS["baseline"] for _, _, engine in rows]
        _bars(axes, [label for label, _, _ in rows], [size for _, size, _ in rows], colors, bytes_text)
        svg = embed(figure, "sizes", "Size of the model at every stage")
    return Plot("sizes", "Size", "Weights and graph together, as stored.", svg)


def stages(document: ReportDocument, latencies: Mapping[str, Latencies]) -> Plot | None:
    """Wall time of each stage; a cached one is pale."""
    if not document.stages:
        return None
    rows = _long_stages(document)
    with drawing(0.4 + 0.3 * len(rows)) as (figure, axes):
        names, seconds, cached_ones = (list(column) for column in zip(*rows, strict=True))
        colors = [COLORS["soft"] if one else COLORS["candidate"] for one in cached_ones]
        _bars(axes, names, seconds, colors, seconds_text)
        svg = embed(figure, "stages", "Time of every stage")
    cached = sum(stage.cached for stage in document.stages)
    note = f" {cached} of {len(document.stages)} came from records (pale: what they had cost)." if cached else ""
    return Plot("stages", "Time by stage", f"Wall time.{note}", svg)


def _long_stages(document: ReportDocument) -> list[tuple[str, float, bool]]:
    """Name, seconds, cached; stages whose bar nobody could see become one row."""
    rows = [(stage.name, stage.seconds, stage.cached) for stage in document.stages]
    least = SEEN_SHARE * sum(seconds for _, seconds, _ in rows)
    short = [row for row in rows if row[1] < least]
    if len(short) < 3:
        return rows
    others = (f"{len(short)} others", sum(row[1] for row in short), all(row[2] for row in short))
    return [*(row for row in rows if row[1] >= least), others]


def calibrations(document: ReportDocument) -> Iterator[Plot]:
    """Ranges seen against ranges quantized, of the tensors where most is cut off."""
    for index, found in enumerate(document.calibration):
        chosen = sorted(found.tensors, key=lambda t: (-t.clipped_share, -_span(t), t.name))[:TENSORS_SHOWN]
        with drawing(0.7 + 0.26 * len(chosen)) as (figure, axes):
            for row, tensor in enumerate(reversed(chosen)):
                axes.plot([tensor.minimum, tensor.maximum], [row, row], color=COLORS["baseline"], linewidth=1.6)
                axes.plot(
                    [tensor.low, tensor.high], [row, row], color=COLORS["candidate"], linewidth=5, solid_capstyle="butt"
                )
            axes.axvline(0, color=COLORS["line"], linewidth=0.8, zorder=0)
            names = distinct([tensor.name for tensor in reversed(chosen)])
            axes.set_yticks(range(len(chosen)), [shorten(name) for name in names])
            axes.tick_params(axis="y", labelsize=8)
            largest = max((max(abs(t.minimum), abs(t.maximum)) for t in chosen), default=0.0)
            smallest = min((_span(t) for t in chosen), default=0.0)
            if smallest > 0 and largest / smallest > 50:
                axes.set_xscale("symlog", linthresh=smallest)
                axes.set_xticks(symmetric_ticks(smallest, largest))
                axes.minorticks_off()
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_ylim(-0.7, len(chosen) - 0.3)
            svg = embed(figure, f"calibration-{index}", f"Calibrated ranges of step {found.step}")
        count = len(found.tensors)
        shown = f"all {count} tensors" if count == len(chosen) else f"the {len(chosen)} of {count} that lose most"
        caption = f"{found.calibrator} on {found.samples:,} samples; {shown}. Thin: seen. Thick: quantized."
        yield Plot(f"calibration-{index}", f"Calibrated ranges: {found.step}", caption, svg)


def symmetric_ticks(smallest: float, largest: float) -> list[float]:
    """At most seven powers of ten on either side of zero, zero among them."""
    low, high = int(np.ceil(np.log10(smallest))), int(np.floor(np.log10(largest)))
    powers = [10.0**e for e in range(low, high + 1)][::-1][:: max(1, (high - low + 3) // 3)][::-1]
    return [*(-power for power in reversed(powers)), 0.0, *powers]


def shorten(name: str) -> str:
    """Long tensor names keep both ends: `encoder.lay…output_0`."""
    half = LABEL_LENGTH // 2
    return name if len(name) <= LABEL_LENGTH else f"{name[: half - 1]}…{name[-half:]}"


def distinct(names: list[str]) -> list[str]:
    """The names without the path segments that all of them begin or end with."""
    split = [name.split("/") for name in names]
    shortest = min((len(parts) for parts in split), default=0)
    start = next((i for i in range(shortest) if len({parts[i] for parts in split}) > 1), 0)
    end = next((i for i in range(shortest - start) if len({parts[-1 - i] for parts in split}) > 1), 0)
    return ["/".join(parts[start : len(parts) - end]) for parts in split]


def _rate(row: ThroughputFigure) -> float:
    return row.samples_per_second


def _span(tensor: CalibratedTensor) -> float:
    return tensor.maximum - tensor.minimum


def _bars(
    axes: Axes, labels: list[str], values: list[float] | list[int], colors: list[str], text: Callable[[float], str]
) -> None:
    """Horizontal bars, first on top, each with its value in words."""
    places = list(range(len(labels)))[::-1]
    axes.barh(places, values, color=colors, height=0.62)
    largest = max(values) or 1
    for place, value in zip(places, values, strict=True):
        axes.annotate(text(value), (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(places, [shorten(label) for label in labels])
    axes.set(xlim=(0, largest * 1.28), xticks=[], ylim=(-0.6, len(labels) - 0.4))
    axes.spines["bottom"].set_visible(False)


def _microsecond_ticks(axes: Axes, low: float, high: float, *, logarithmic: bool) -> None:
    if logarithmic:
        ticks = [m * 10.0**e for e in range(-1, 9) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
        axes.set_xticks(ticks[:: max(1, len(ticks) // 5)])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick_text(value)))


def _tick_text(microseconds: float) -> str:
    return f"{microseconds:g} µs" if microseconds < 1000 else f"{microseconds / 1e3:g} ms"


def _alignment(value: float, low: float, high: float, *, logarithmic: bool) -> str:
    share = np.log(value / low) / np.log(high / low) if logarithmic else (value - low) / (high - low)
    return "left" if share < 0.3 else "right" if share > 0.7 else "center"


def _bound_points(document: ReportDocument) -> float | None:
    """The bound of the gate on the loss, when it is in points."""
    gate = next((g for g in document.gates if g.gate == "metricDrop"), None)
    if gate is None or gate.bound is None or document.metric is None or "of the original" in gate.message:
        return None
    return float(gate.bound)
