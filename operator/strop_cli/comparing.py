"""`strop compare`: the figures of two runs side by side. One is called better only where their intervals are apart."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue, ValidationError
from rich.text import Text

from strop_api.result import Result
from strop_api.status import ArtifactRef, MetricFigures, Speedup, TargetStatus
from strop_cli.door import Door, unreached
from strop_cli.errors import Missing, UnusableInput
from strop_cli.fetching import report_uri
from strop_cli.optimizations import Optimization
from strop_cli.words import aligned, shown
from strop_job.errors import InvalidInput, StoreFailed
from strop_job.judgement.figures import bytes_text, microseconds_text, rate_text
from strop_job.store.objects import ObjectMissing, join

RESULT, LIMIT_BYTES = "result.json", 1 << 20
"""What a run leaves beside its report."""


class Verdict(StrEnum):
    """How the second stands to the first."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    """The intervals overlap."""
    NONE = ""
    """No interval was kept, a figure is absent, or the two cannot be compared."""


TONES = {Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.UNDECIDED: "dim", Verdict.NONE: ""}


@dataclass(frozen=True)
class Side:
    """One run's figures."""

    label: str
    target: TargetStatus
    runtime: str = ""
    """Empty where it is not known, as of an earlier run."""


@dataclass(frozen=True)
class Span:
    """An interval; of an exact figure both ends are the figure."""

    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One figure of both."""

    figure: str
    first: str
    second: str
    verdict: Verdict = Verdict.NONE


def split(word: str) -> tuple[str, str | None]:
    """`NAME` or `NAME@RUN`."""
    name, _, run = word.partition("@")
    return name, run or None


def present(found: Optimization, target: str | None) -> Side:
    """The figures in status. Raises Missing where nothing was measured."""
    measured = [t for t in found.status.targets if target is None or t.name == target]
    if not measured:
        ready = found.ready
        why = f"{ready.reason}" if ready is not None else "not seen yet"
        raise Missing(f"{found.name} has no figures{f' of target {target}' if target else ''} ({why})")
    run = found.status.run
    runtimes = {t.get("name"): str(t.get("runtime", "")) for t in found.spec.get("targets", [])}
    label = f"{found.name}@{run.id}" if run is not None else found.name
    return Side(label, measured[0], runtimes.get(measured[0].name, ""))


def past(found: Optimization, run: str, door: Door) -> Side:
    """The figures that an earlier run left beside its report. Raises CliError."""
    uri = join(report_uri(found, run).rpartition("/")[0], RESULT)
    try:
        result = Result.model_validate_json(door.store.read(uri, LIMIT_BYTES))
    except ObjectMissing:
        raise Missing(
            f"run {run} of {found.name} left no {RESULT}", mend="its report may still have the figures"
        ) from None
    except StoreFailed as failed:
        raise unreached(failed, door, uri) from None
    except (InvalidInput, ValidationError):
        raise UnusableInput(f"{uri} cannot be read") from None
    if result.target is None:
        raise Missing(f"run {run} of {found.name} measured nothing: {result.outcome}: {result.message}")
    return Side(f"{found.name}@{run}", result.target)


def rows(a: Side, b: Side) -> Iterator[Row]:
    """Every figure that one of them has."""
    first, second = a.target, b.target
    yield Row("verdict", str(first.verdict), str(second.verdict))
    if first.metric is not None or second.metric is not None:
        yield from _metric_rows(first.metric, second.metric)
    if first.speedup is not None or second.speedup is not None:
        same = _same_baseline(a, b)
        verdict = _judge(_span(first.speedup), _span(second.speedup), larger=True) if same else Verdict.NONE
        yield Row("speed-up", _speedup(first.speedup), _speedup(second.speedup), verdict)
    yield from _plain_rows(first, second)
    yield from _size_rows(first.artifact or first.built, second.artifact or second.built)
    if first.realised_precision or second.realised_precision:
        yield Row("precision", shown(first.realised_precision or "-"), shown(second.realised_precision or "-"))


def notes(a: Side, b: Side) -> Iterator[str]:
    """What keeps two figures from being compared."""
    first, second = a.target, b.target
    if first.metric is not None and second.metric is not None and not _same_judge(first.metric, second.metric):
        yield "the losses are not compared: metric, original model or evaluation data differ"
    if first.speedup is not None and second.speedup is not None and not _same_baseline(a, b):
        yield "the speed-ups are not compared: their baselines or runtimes differ"
    if first.latency is not None and second.latency is not None:
        yield "a status keeps no interval of latency, throughput and memory: of these neither is called better"
    yield "each figure holds for the machine it was measured on"


def _metric_rows(first: MetricFigures | None, second: MetricFigures | None) -> Iterator[Row]:
    for figure, name in (("of the original", "original"), ("of the engine", "optimized")):
        texts = [f"{m.name} {getattr(m, name)}" if m is not None else "-" for m in (first, second)]
        yield Row(figure, shown(texts[0]), shown(texts[1]))
    comparable = first is not None and second is not None and _same_judge(first, second)
    verdict = _judge(_span(first), _span(second), larger=False) if comparable else Verdict.NONE
    yield Row("loss in points", _loss(first), _loss(second), verdict)


def _size_rows(first: ArtifactRef | None, second: ArtifactRef | None) -> Iterator[Row]:
    if first is not None or second is not None:
        verdict = _judge(_exact(first), _exact(second), larger=False)
        yield Row("engine's size", _size(first), _size(second), verdict)


def _size(engine: ArtifactRef | None) -> str:
    return bytes_text(engine.size_bytes) if engine is not None else "-"


def _exact(engine: ArtifactRef | None) -> Span | None:
    return Span(engine.size_bytes, engine.size_bytes) if engine is not None else None


def _plain_rows(first: TargetStatus, second: TargetStatus) -> Iterator[Row]:
    """Figures of which a status keeps no interval."""
    for name, words in PLAIN:
        texts = words(first), words(second)
        if any(texts):
            yield Row(name, texts[0] or "-", texts[1] or "-")


def _p50(target: TargetStatus) -> str:
    return microseconds_text(target.latency.p50_microseconds) if target.latency is not None else ""


def _p99(target: TargetStatus) -> str:
    p99 = target.latency.p99_microseconds if target.latency is not None else None
    return microseconds_text(p99) if p99 is not None else ""


def _rate(target: TargetStatus) -> str:
    rate = target.throughput
    return f"{rate_text(float(rate.samples_per_second))}, batch {rate.batch}" if rate is not None else ""


def _peak(target: TargetStatus) -> str:
    return bytes_text(target.peak_memory_bytes) if target.peak_memory_bytes is not None else ""


PLAIN: tuple[tuple[str, Callable[[TargetStatus], str]], ...] = (
    ("latency p50", _p50), ("latency p99", _p99), ("throughput", _rate), ("peak memory", _peak),
)  # fmt: skip


def _same_judge(first: MetricFigures, second: MetricFigures) -> bool:
    """The same original on the same data gives the same figure; the data's digest is not in the status."""
    return (first.name, first.original, first.samples) == (second.name, second.original, second.samples)


def _same_baseline(a: Side, b: Side) -> bool:
    first, second = a.target.speedup, b.target.speedup
    if first is None or second is None or first.over != second.over or a.target.name != b.target.name:
        return False
    return not a.runtime or not b.runtime or a.runtime == b.runtime


def _span(figures: MetricFigures | Speedup | None) -> Span | None:
    if figures is None or figures.low is None or figures.high is None:
        return None
    return Span(float(figures.low), float(figures.high))


def _judge(first: Span | None, second: Span | None, *, larger: bool) -> Verdict:
    """What can be said of the second; `larger`: whether more is better."""
    if first is None or second is None:
        return Verdict.NONE
    if first.low <= second.high and second.low <= first.high:
        return Verdict.NONE if first == second and first.low == first.high else Verdict.UNDECIDED
    return Verdict.BETTER if (second.low > first.high) is larger else Verdict.WORSE


def _speedup(figures: Speedup | None) -> str:
    return f"{figures.ratio}x ({figures.low} to {figures.high})" if figures is not None else "-"


def _loss(figures: MetricFigures | None) -> str:
    if figures is None:
        return "-"
    interval = f" ({figures.low} to {figures.high})" if figures.low is not None and figures.high is not None else ""
    return f"{figures.drop_points}{interval}"


def lines(a: Side, b: Side, width: int | None = None) -> Iterator[Text]:
    """The table, and what must be said beside it."""
    table = [(r.figure, r.first, r.second, Text(r.verdict, TONES[r.verdict])) for r in rows(a, b)]
    yield from (Text(f"{letter}  {shown(side.label)}") for letter, side in (("A", a), ("B", b)))
    yield from aligned(("FIGURE", "A", "B", "B IS"), table, width)
    for words in notes(a, b):
        yield Text(f"note: {words}", "dim")


def document(a: Side, b: Side) -> JsonValue:
    """As JSON: the statuses of both targets, and what was said of each figure."""
    sides: list[JsonValue] = [
        {"run": side.label, "target": json.loads(side.target.model_dump_json(by_alias=True, exclude_none=True))}
        for side in (a, b)
    ]
    figures: list[JsonValue] = [
        {"figure": r.figure, "first": r.first, "second": r.second, "secondIs": str(r.verdict) or None}
        for r in rows(a, b)
    ]
    return {"runs": sides, "figures": figures, "notes": list(notes(a, b))}
