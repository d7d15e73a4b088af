"""What the report says of the engine itself: its layers, where it diverges, and what was built but never measured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from strop_job.judgement.figures import metric_text, percent_text
from strop_job.outcome import FP32_KERNELS
from strop_job.report.document import ReportDocument

LAYERS_SHOWN = 15
"""Rows of the page's table; `report.json` lists more."""
FP16_ON_CPU = (
    "The weights are stored in fp16, but ONNX Runtime's kernels for this CPU compute in fp32: it casts to and fro, so "
    "the file is smaller and the model is not faster."
)


@dataclass(frozen=True)
class LayerRow:
    """One layer of the engine."""

    name: str
    operator: str
    number_format: str
    share: str
    """Of all counted multiply-accumulates."""


def heaviest_layers(report: ReportDocument) -> list[LayerRow]:
    """The layers with the most compute, in which format each runs; empty where nothing was inspected."""
    seen: Mapping[str, Any] = report.inspection
    macs, layers = seen.get("macs"), seen.get("layers")
    if not isinstance(macs, int) or macs <= 0 or not isinstance(layers, list):
        return []
    heavy = sorted((row for row in layers if row.get("macs")), key=lambda row: -row["macs"])[:LAYERS_SHOWN]
    return [
        LayerRow(
            str(row.get("name")), str(row.get("operator")), str(row.get("format")), percent_text(row["macs"] / macs)
        )
        for row in heavy
    ]


def closeness_rows(report: ReportDocument) -> Iterator[tuple[str, str]]:
    """Fidelity, parity, and where the engine diverges."""
    near = _fidelity(report.fidelity)
    if near:
        yield "Fidelity", f"{near} against the original, on evaluation data"
    worst, tolerance = report.parity.get("worst"), report.parity.get("tolerance")
    if isinstance(worst, int | float) and isinstance(tolerance, int | float):
        reference = report.parity.get("reference") or "the same graph unoptimized"
        yield "Compile parity", f"{worst:.2g} at worst, {tolerance:.2g} allowed, against {reference}"
    if isinstance(found := report.parity.get("divergence"), dict):
        yield "First diverging layer", _divergence(found)


def _fidelity(figures: Mapping[str, Any]) -> str:
    near = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    parts = (
        f"cosine {near['cosine']:.4f}" if "cosine" in near else "",
        f"agreement {percent_text(near['agreement'])}" if "agreement" in near else "",
        f"SQNR {near['sqnrDecibels']:.1f} dB" if "sqnrDecibels" in near else "",
    )
    return ", ".join(part for part in parts if part)


def _divergence(found: Mapping[str, Any]) -> str:
    """Node, operator, tensor and error; or why no layer is named."""
    if not found.get("node"):
        return str(found.get("note", ""))
    error, others = found.get("error"), found.get("with")
    off = f"relative error {error:.2g}" if isinstance(error, int | float) else "values are not finite"
    fused = (
        f"; the engine runs it as one with {', '.join(map(str, others))}" if isinstance(others, list) and others else ""
    )
    note = f"; {found['note']}" if found.get("note") else ""
    return f"{found.get('operator')} {found['node']}, tensor {found.get('tensor')}, {off}{fused}{note}"


def inspection_rows(report: ReportDocument) -> Iterator[tuple[str, str]]:
    """How the engine really computes; fp16 on a CPU is said to be none, and why."""
    seen: Mapping[str, Any] = report.inspection
    macs, done = seen.get("macs"), seen.get("macsByFormat")
    if isinstance(macs, int) and isinstance(done, dict) and macs > 0:
        shares = ", ".join(f"{percent_text(part / macs)} in {name}" for name, part in sorted(done.items()))
        yield "Compute", f"of {macs:,} multiply-accumulates {shares}"
    if report.realised_precision.endswith(FP32_KERNELS):
        yield "Precision", FP16_ON_CPU
    note = seen.get("note")
    if isinstance(note, str) and note:
        yield "Inspection", note


def graph_rows(report: ReportDocument) -> Iterator[tuple[str, str]]:
    """Figures of the graph that was compiled, which say what quantization did and nothing of the engine."""
    seen: Mapping[str, Any] = report.graph
    if isinstance(note := seen.get("note"), str):
        yield "Graph", note
    found = seen.get("metric")
    if isinstance(found, dict) and isinstance(found.get("original"), int | float):
        before, after = (metric_text(float(found[side] or 0.0)) for side in ("original", "optimized"))
        yield "Metric of the graph", f"{found.get('name')} {before} → {after}, {found.get('samples')} samples"
    if isinstance(figures := seen.get("fidelity"), dict) and (near := _fidelity(figures)):
        yield "Fidelity of the graph", f"{near} against the original's graph"
    if isinstance(how := seen.get("computedBy"), str):
        yield "Computed by", f"{how}; the engine was not run, and no gate is held against these figures"


def to_verify(report: ReportDocument) -> list[str]:
    """What is left for a machine that has the device."""
    if report.built is None:
        return []
    left = ["compile parity: the engine against the graph it was compiled from, at min, opt, max and two odd shapes"]
    left.append("fidelity and the task's metric of the engine, on evaluation data")
    left.append("number formats of its layers, and the share of compute at the precision asked for")
    left.append("latency, throughput and memory, against the best unquantized precision of the same runtime")
    return left
