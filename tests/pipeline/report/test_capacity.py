"""Throughput, memory and the device in the report: what was measured is shown, what was not is absent."""

from typing import Any

from strop_job.report.assemble import assemble
from strop_job.report.capacity import capacity_rows
from strop_job.report.document import ReportDocument, ThroughputFigure, VariantFigures
from strop_job.report.plots import throughput

MEBIBYTE = 1 << 20
GPU = {"index": 0, "smMegahertz": 1980, "mostSmMegahertz": 1980, "celsius": 41, "throttledBy": []}


def figures(variant: str, batch: int, rate: float) -> ThroughputFigure:
    return ThroughputFigure(variant=variant, batch=batch, samples_per_second=rate, low=rate * 0.9, high=rate * 1.1)


def document(early_run, variant: dict[str, Any] | None = None, **conditions: Any) -> ReportDocument:
    made = VariantFigures(name="optimized", calls=400, p50_microseconds=900, p90_microseconds=950, **(variant or {}))
    return assemble(early_run, {}).model_copy(update={"variants": [made], "conditions": conditions})


def test_throughput_by_batch_is_drawn_for_every_variant(early_run) -> None:
    """A reader could not see which batch to serve with."""
    rows = [figures(name, batch, 100.0 * batch) for name in ("original", "optimized") for batch in (1, 8)]
    plot = throughput(assemble(early_run, {}).model_copy(update={"throughput": rows}), {})
    assert plot is not None
    assert all(name in plot.svg for name in ("original", "optimized"))
    assert "The engine's most: 800 samples/s at batch 8." in plot.caption


def test_one_batch_is_no_curve(early_run) -> None:
    """A line through one point would promise what was not timed."""
    found = assemble(early_run, {}).model_copy(update={"throughput": [figures("optimized", 1, 9)]})
    assert throughput(found, {}) is None


def test_memory_says_what_it_includes(early_run) -> None:
    """A reader would take the interpreter's memory for the engine's."""
    held = {"peak_memory_bytes": 300 * MEBIBYTE, "bare_memory_bytes": 90 * MEBIBYTE}
    (row,) = capacity_rows(document(early_run, held, mostBatch=32))
    expected = (
        "300.0 MiB resident, interpreter and runtime included (of it 90.0 MiB before the engine was loaded), "
        "serving up to batch 32"
    )
    assert row == ("Peak memory", expected)


def test_copies_and_the_device_are_told_where_they_were_measured(early_run) -> None:
    """The time of copies would hide in the latency, and a throttled GPU look like any other."""
    parts = {"copy_in_microseconds": 12.0, "compute_microseconds": 830.0, "copy_out_microseconds": 4.0}
    hot = {**GPU, "smMegahertz": 1200, "celsius": 88, "throttledBy": ["hardware thermal slowdown"]}
    rows = dict(capacity_rows(document(early_run, {**parts, "cuda_graph": True}, gpusBefore=[GPU], gpusAfter=[hot])))
    copies = "12.0 µs to the device, 830 µs on it, a replayed CUDA graph, 4.0 µs back"
    assert rows["Parts of a call"] == copies
    assert rows["GPU 0"] == "1980 to 1200 MHz, 41 to 88 °C, held back by hardware thermal slowdown"


def test_nothing_is_claimed_that_was_not_measured(early_run) -> None:
    """A CPU's report would speak of a device."""
    assert list(capacity_rows(document(early_run))) == []
    silent = {**GPU, "smMegahertz": None, "celsius": None, "throttledBy": None}
    (row,) = capacity_rows(document(early_run, gpusBefore=[silent], gpusAfter=[silent]))
    assert row == ("GPU 0", "? to ? MHz, ? to ? °C, the driver does not say what holds it back")
