"""What the report says and in which order, apart from how it looks: headline, tiles, and the table of measurements."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from strop_api.checks import CATALOGUE
from strop_api.findings import Severity
from strop_api.result import Outcome
from strop_api.status import GateStatus, GateVerdict
from strop_api.targets import SpeedupOver
from strop_job.judgement.figures import (
    bytes_text,
    metric_text,
    microseconds_text,
    points_text,
    seconds_text,
)
from strop_job.judgement.headline import PHRASES
from strop_job.outcome import BUILT
from strop_job.report.capacity import capacity_rows
from strop_job.report.document import ReportDocument
from strop_job.report.truth import closeness_rows, inspection_rows

__all__ = ["bytes_text", "microseconds_text", "seconds_text"]

VERDICTS = {
    GateVerdict.PASSED: ("good", "✓", "Passed"),
    GateVerdict.MISSED: ("bad", "✗", "Missed"),
    GateVerdict.INCONCLUSIVE: ("bad", "≈", "Inconclusive"),
    GateVerdict.NOT_MEASURED: ("warn", "?", "Not measured"),
}
"""Tone, sign and word of each verdict: never colour alone."""

SEVERITIES = {
    Severity.CRITICAL: ("bad", "✗"),
    Severity.HIGH: ("bad", "!"),
    Severity.MEDIUM: ("warn", "!"),
    Severity.LOW: ("plain", "i"),
}
"""Tone and sign of each severity; the word stands beside them."""

HEADLINES = {
    Outcome.PUBLISHED: ("good", "✓", "Published"),
    Outcome.GATE_MISSED: ("bad", "✗", "Gate missed"),
    Outcome.NOT_MEASURED: ("warn", "?", "Not measured"),
    Outcome.INVALID_INPUT: ("bad", "✗", "Invalid input"),
    Outcome.UNSUPPORTED: ("bad", "✗", "Not supported"),
    Outcome.STORE_FAILED: ("warn", "!", "Store failed"),
    Outcome.DISK_FULL: ("bad", "✗", "Disk full"),
    Outcome.EVICTED: ("warn", "!", "Evicted"),
    Outcome.FAILED: ("bad", "✗", "Failed"),
}

GATE_NAMES = {
    "compileParity": "Compile parity",
    "calibration": "Calibration data",
    "metricDrop": "Metric drop",
    "metricMin": "Metric",
    "speedup": "Speed-up",
    "latency.p50MaxMicroseconds": "Latency p50",
    "latency.p99MaxMicroseconds": "Latency p99",
    "throughput": "Throughput",
    "size": "Size",
    "peakMemory": "Peak memory",
    "fidelity.cosineMin": "Fidelity: cosine",
    "fidelity.agreementMin": "Fidelity: agreement",
    "fidelity.sqnrMinDecibels": "Fidelity: SQNR",
    "realisedPrecision": "Realised precision",
}


NAME_LENGTH = 56


@dataclass(frozen=True)
class Headline:
    """The first thing a reader sees."""

    tone: str
    sign: str
    title: str
    text: str


@dataclass(frozen=True)
class Tile:
    """One headline figure."""

    label: str
    value: str
    detail: str
    tone: str = ""


def headline(report: ReportDocument) -> Headline:
    """The outcome, and what missed."""
    tone, sign, title = HEADLINES[report.outcome]
    missed = [gate for gate in report.gates if gate.verdict is not GateVerdict.PASSED]
    if report.built is not None:
        why = report.message.removeprefix(BUILT)
        return Headline(tone, sign, "Built, not measured", f"{sentence(why)} Ready stays false.")
    if report.outcome is Outcome.GATE_MISSED:
        names = ", ".join(gate_name(g.gate) for g in missed if g.verdict is not GateVerdict.NOT_MEASURED)
        kept = "Nothing was published."
        return Headline(tone, sign, f"{title}: {names}", f"{sentence(report.message)} {kept}")
    return Headline(tone, sign, title, sentence(report.message))


def tiles(report: ReportDocument) -> list[Tile]:
    """Speed-up, metric, latency, size: whatever was measured."""
    return [*_speed_tile(report), *_metric_tile(report), *_latency_tile(report), *_size_tile(report)]


def worst_first(report: ReportDocument) -> list[GateStatus]:
    """What did not pass comes first; otherwise the judgement's own order."""
    order = (GateVerdict.MISSED, GateVerdict.INCONCLUSIVE, GateVerdict.NOT_MEASURED, GateVerdict.PASSED)
    return sorted(report.gates, key=lambda gate: order.index(gate.verdict))


def measured(report: ReportDocument) -> list[tuple[str, str]]:
    """How it was measured, as rows of label and text."""
    return [*_condition_rows(report), *closeness_rows(report), *inspection_rows(report)]


def gate_name(gate: str) -> str:
    """For people."""
    return GATE_NAMES.get(gate, gate)


def counted(report: ReportDocument) -> str:
    """How many findings there are, the worst first: `Findings: 1 High, 2 Medium.`; empty without any."""
    each = Counter(found.severity for found in report.findings)
    named = ", ".join(f"{each[severity]} {severity}" for severity in Severity if each[severity])
    return f"Findings: {named}." if named else ""


def spans(text: str) -> Markup:
    """Names between backticks as code; all else, and what is inside, is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def check_title(name: str) -> str:
    """For people; a check that this release does not know is called by its name."""
    return CATALOGUE[name].title if name in CATALOGUE else name


def check_explained(name: str) -> str:
    """Why it matters; empty for a check that this release does not know."""
    return CATALOGUE[name].explanation if name in CATALOGUE else ""


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def short_digest(digest: str) -> str:
    """`sha256:` and twelve digits."""
    return digest[:19]


def shorten(name: str) -> str:
    """The end of a long name: what tells layers of one model apart stands there."""
    return name if len(name) <= NAME_LENGTH else "…" + name[1 - NAME_LENGTH :]


def sentence(text: str) -> str:
    """With a capital and an end; what begins with a name, such as a field's, keeps it as it is."""
    first = text.partition(" ")[0]
    text = first[:1].upper() + text[1:] if first.isalpha() and first.islower() else text
    return text if not text or text.endswith((".", "?", "!")) else text + "."


def _tone(report: ReportDocument, *gates: str) -> str:
    """The worst verdict among the gates a tile stands for."""
    found = [gate.verdict for gate in report.gates if gate.gate in gates]
    return max((VERDICTS[v][0] for v in found), key=("", "good", "warn", "bad").index, default="")


def _speed_tile(report: ReportDocument) -> Iterator[Tile]:
    if report.speedup is not None:
        low, high = float(report.speedup.low), float(report.speedup.high)
        detail = f"95% {low:.2f} to {high:.2f}, over {PHRASES[SpeedupOver(report.speedup.over)]}"
        tone = _tone(report, "speedup") or ("bad" if high < 1 else "warn" if low <= 1 else "good")
        yield Tile("Speed-up", f"{float(report.speedup.ratio):.2f}x", detail, tone)


def _metric_tile(report: ReportDocument) -> Iterator[Tile]:
    found = report.metric
    if found is None:
        return
    drop = float(found.drop_points)
    detail = f"{metric_text(float(found.original))} → {metric_text(float(found.optimized))}, {found.samples:,} samples"
    label = f"{found.name} {'lost' if drop >= 0 else 'gained'}"
    yield Tile(label, f"{points_text(abs(drop))} pts", detail, _tone(report, "metricDrop", "metricMin"))


def _latency_tile(report: ReportDocument) -> Iterator[Tile]:
    found = report.latency
    if found is None:
        return
    p99 = found.p99_microseconds
    tail = f"p99 {microseconds_text(p99)}, " if p99 is not None else ""
    tone = _tone(report, "latency.p50MaxMicroseconds", "latency.p99MaxMicroseconds")
    median = next((v.p50_microseconds for v in report.variants if v.name == "optimized"), found.p50_microseconds)
    yield Tile("Latency p50", microseconds_text(median), f"{tail}{found.calls:,} calls", tone)


def _size_tile(report: ReportDocument) -> Iterator[Tile]:
    by_stage = {size.stage: size.size_bytes for size in report.sizes}
    engine, original = by_stage.get("compile"), by_stage.get("compile-original")
    if engine is None:
        return
    detail = f"{engine / original:.0%} of {bytes_text(original)}" if original else ""
    yield Tile("Engine size", bytes_text(engine), detail, _tone(report, "size"))


def _condition_rows(report: ReportDocument) -> Iterator[tuple[str, str]]:
    seen = report.conditions
    hardware = report.provenance.get("hardware")
    if isinstance(hardware, dict):
        processor = str(hardware.get("cpu_model") or hardware.get("cpuModel") or "")
        yield "Processor", ", ".join(part for part in (processor, str(hardware.get("arch", ""))) if part)
    if "threads" in seen:
        yield "Threads", f"{seen['threads']}, spinning {seen.get('spinning', 'unknown')}"
    if isinstance(shapes := seen.get("shapes"), dict):
        yield "Inputs", "; ".join(f"{name} {shape}" for name, shape in shapes.items()) + f"; {seen.get('inputs', '')}"
    if "rounds" in seen:
        early = "; stopped early, time was up" if seen.get("stoppedEarly") else ""
        looks = f" in {seen['looks']} looks" if "looks" in seen else ""
        turns = f"{seen['rounds']} rounds of {seen.get('callsPerTurn', '?')} calls a turn{looks}"
        yield "Order", f"{turns}, {seen.get('order', '')}; one process a variant, one at a time{early}"
    yield from capacity_rows(report)
    if report.variants and report.plan:
        yield "Baselines", "; ".join(report.plan)
