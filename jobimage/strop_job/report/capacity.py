"""Rows on memory, copies, throughput and the device, for the table of how it was measured."""

from collections.abc import Iterator
from typing import Any

from strop_job.judgement.figures import bytes_text, microseconds_text
from strop_job.report.document import ReportDocument, VariantFigures


def capacity_rows(report: ReportDocument) -> Iterator[tuple[str, str]]:
    """Label and text; a row for what was measured and none for the rest."""
    for variant in report.variants:
        if variant.name == "optimized":
            yield from _memory(variant, report.conditions.get("mostBatch"))
            yield from _copies(variant)
    notes = report.conditions.get("throughputNotes")
    if isinstance(notes, list) and notes:
        yield "Not timed", "; ".join(str(note) for note in notes)
    yield from _device(report.conditions.get("gpusBefore"), report.conditions.get("gpusAfter"))


def _memory(variant: VariantFigures, most_batch: object) -> Iterator[tuple[str, str]]:
    upto = f", serving up to batch {most_batch}" if isinstance(most_batch, int) else ""
    if variant.peak_memory_bytes is not None:
        bare = variant.bare_memory_bytes
        before = f" (of it {bytes_text(bare)} before the engine was loaded)" if bare is not None else ""
        text = f"{bytes_text(variant.peak_memory_bytes)} resident, interpreter and runtime included{before}{upto}"
        yield "Peak memory", text
    if variant.peak_device_memory_bytes is not None:
        yield "Peak device memory", bytes_text(variant.peak_device_memory_bytes) + upto


def _copies(variant: VariantFigures) -> Iterator[tuple[str, str]]:
    parts = (variant.copy_in_microseconds, variant.compute_microseconds, variant.copy_out_microseconds)
    if None not in parts:
        copy_in, compute, copy_out = (microseconds_text(part or 0.0) for part in parts)
        how = ", a replayed CUDA graph" if variant.cuda_graph else ", no CUDA graph"
        yield "Parts of a call", f"{copy_in} to the device, {compute} on it{how}, {copy_out} back"


def _device(before: Any, after: Any) -> Iterator[tuple[str, str]]:
    """Clock and temperature before and after, and what held a device back while it was busy."""
    if not isinstance(before, list) or not isinstance(after, list):
        return
    for early, late in zip(before, after, strict=False):
        held = [reason for reason in late.get("throttledBy") or () if reason != "idle"]
        clock = f"{_shown(early, 'smMegahertz')} to {_shown(late, 'smMegahertz')} MHz"
        warmth = f"{_shown(early, 'celsius')} to {_shown(late, 'celsius')} °C"
        throttled = f"held back by {', '.join(held)}" if held else "not held back"
        if late.get("throttledBy") is None:
            throttled = "the driver does not say what holds it back"
        yield f"GPU {late.get('index')}", f"{clock}, {warmth}, {throttled}"


def _shown(state: dict[str, Any], field: str) -> str:
    return "?" if state.get(field) is None else str(state[field])
