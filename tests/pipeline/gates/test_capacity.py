"""Throughput and peak memory: what is measured by batch, and how the two gates judge it."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from strop_api.status import GateStatus, GateVerdict
from strop_job.benchmark.inputs import synthetic
from strop_job.benchmark.sweep import batches_of, fits
from strop_job.judgement.capacity import samples_per_second
from strop_job.judgement.evidence import Capacity, Evidence, Latencies, gather
from strop_job.judgement.gates import judge_evidence
from strop_job.stages import Artifact
from strop_job.steps.benchmark import benchmark_stage

PASSED, MISSED, NOT_MEASURED = GateVerdict.PASSED, GateVerdict.MISSED, GateVerdict.NOT_MEASURED
MEBIBYTE = 1 << 20
GPU = {"name": "gpu", "runtime": "ONNXRuntime", "accelerator": {"count": 1}}


def timed(microseconds: float, calls: int = 400) -> Latencies:
    noise = np.random.default_rng(0).lognormal(0, 0.02, calls)
    return Latencies(microseconds * noise / noise.mean(), np.arange(calls) // 10)


def judged(spec, name: str, latencies: Latencies | None, capacity: Capacity | None) -> GateStatus:
    found = {} if latencies is None else {"optimized": latencies}
    seen = Evidence(None, {}, None, found, None, capacity=capacity)
    return next(s for s in judge_evidence(spec, spec.targets[0], seen).gates if s.gate == name)


def held(resident: int | None = 300 * MEBIBYTE, device: int | None = None) -> Capacity:
    return Capacity(batch=8, most_batch=32, resident_bytes=resident, device_bytes=device)


@pytest.mark.parametrize(("bound", "expected"), [(790, PASSED), (800, PASSED), (801, MISSED)])
def test_throughput_is_the_batch_over_the_mean_latency(make_spec, bound: int, expected: GateVerdict) -> None:
    """An engine of 8 samples in 10 ms would be held to another figure than its 800 samples a second."""
    status = judged(make_spec(gates={"throughput": {"minPerSecond": bound}}), "throughput", timed(10_000), held())
    assert status.verdict is expected
    assert float(status.low or 0) < 800 < float(status.high or 0)
    assert status.message.startswith("800 samples/s (95% 79")
    assert "single stream at batch 8, " in status.message


def test_a_rare_slow_call_costs_what_it_costs() -> None:
    """A median would promise a server what its stalls take away."""
    slow = timed(1000)
    stalled = Latencies(np.where(np.arange(400) % 20 == 0, 21_000.0, slow.microseconds), slow.rounds)
    before, after = (samples_per_second(found, 1, seed=0) for found in (slow, stalled))
    assert before is not None
    assert after is not None
    assert after.point == pytest.approx(before.point / 2, rel=0.02)


@pytest.mark.parametrize("latencies", [None, timed(10_000, calls=20)])
def test_throughput_of_too_few_rounds_is_not_measured(make_spec, latencies: Latencies | None) -> None:
    """Two rounds would pass a gate on luck."""
    status = judged(make_spec(gates={"throughput": {"minPerSecond": 1}}), "throughput", latencies, held())
    assert status.verdict is NOT_MEASURED


@pytest.mark.parametrize(("bound", "expected"), [("300Mi", PASSED), ("299Mi", MISSED)])
def test_memory_on_a_cpu_is_what_was_resident(make_spec, bound: str, expected: GateVerdict) -> None:
    """A pod with that limit would be killed, and the reader not told what the figure includes."""
    status = judged(make_spec(gates={"peakMemory": {"max": bound}}), "peakMemory", None, held())
    assert status.verdict is expected
    assert "interpreter and runtime included, serving up to batch 32" in status.message


def test_memory_on_a_gpu_is_the_device_s_or_nothing(make_spec) -> None:
    """The host's memory would be sold as the device's where the driver does not tell it."""
    spec = make_spec(gates={"peakMemory": {"max": "1Gi"}}, targets=[GPU])
    known = judged(spec, "peakMemory", None, held(resident=4096 * MEBIBYTE, device=500 * MEBIBYTE))
    unknown = judged(spec, "peakMemory", None, held(resident=1, device=None))
    assert (known.verdict, known.measured) == (PASSED, f"{500 * MEBIBYTE:.6g}".replace("e+", "e"))
    assert unknown.verdict is NOT_MEASURED
    assert "driver" in unknown.message


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"min": 1, "opt": 1, "max": 32}, (1, 2, 4, 8, 32)),
        ({"min": 1, "opt": 3, "max": 8}, (1, 2, 3, 4, 8)),
        ({"min": 2, "opt": 2, "max": 2}, (2,)),
        ({"min": 1, "opt": 128, "max": 1024}, (1, 8, 32, 128, 1024)),
    ],
)
def test_batches_span_the_profile_and_are_few(make_spec, sizes: dict[str, int], expected: tuple[int, ...]) -> None:
    """The ends of the range would go untimed, or the benchmark take hours over a wide one."""
    model = make_spec().model.model_copy(
        update={"dimensions": [make_spec().model.dimensions[0].model_copy(update=sizes)]}
    )
    assert batches_of(model) == expected


def test_a_batch_whose_rounds_do_not_fit_is_left_out() -> None:
    """One batch size would hold the run far beyond its time."""
    assert fits(0.3, 6.0)
    assert not fits(0.5, 6.0)


def test_inputs_of_another_batch_have_its_shape(make_spec) -> None:
    """The throughput at batch 8 would be that of batch 4."""
    assert synthetic(make_spec().model, 0, batch=8)["x"].shape == (8, 64)
    assert synthetic(make_spec().model, 0)["x"].shape == (4, 64)


@pytest.fixture
def measured(make_spec, make_context, make_engine) -> Artifact:
    """A benchmark of two real engines with batches 1, 2, 4 and 8; the candidate has an eighth of the layers."""
    engines = {"compile-original": make_engine("original", 64), "compile": make_engine("optimized", 8)}
    spec, stages = make_spec(), {"original": "compile-original", "optimized": "compile"}
    return benchmark_stage(stages, spec, spec.targets[0]).run(make_context(spec, engines))


def test_every_batch_is_timed_for_every_variant(measured: Artifact) -> None:
    """A report could not show how throughput grows with the batch."""
    rows: list[Any] = list(measured.facts["throughput"])  # type: ignore[arg-type]
    assert [(row["batch"], row["variant"]) for row in rows] == [
        (batch, name) for batch in (1, 2, 4, 8) for name in ("original", "optimized")
    ]
    assert all(row["low"] <= row["samplesPerSecond"] <= row["high"] for row in rows)
    rates = {(row["batch"], row["variant"]): row["samplesPerSecond"] for row in rows}
    assert all(rates[batch, "optimized"] > rates[batch, "original"] for batch in (1, 2, 4, 8))
    with np.load(measured.folder / "throughput.npz") as samples:
        assert {name for name in samples.files if not name.endswith(".rounds")} == {
            f"{name}@{batch}" for batch in (1, 2, 8) for name in ("original", "optimized")
        }


def test_memory_is_read_back_with_what_it_was_serving(measured: Artifact) -> None:
    """A gate would hold a figure without knowing at which batch it was seen."""
    capacity = gather(None, measured, None).capacity
    assert capacity is not None
    assert (capacity.batch, capacity.most_batch, capacity.device_bytes) == (4, 8, None)
    facts: Any = measured.facts["variants"]
    assert 0 < facts["optimized"]["bareMemoryBytes"] < (capacity.resident_bytes or 0)
    assert "copyInMicroseconds" not in facts["optimized"]
    assert "gpusBefore" not in measured.facts


def test_a_child_does_not_inherit_its_parent_s_peak() -> None:
    """A worker that held a large model would make every engine look as large as itself."""
    ballast = np.ones(200 * MEBIBYTE, np.uint8)
    code = "from strop_job.benchmark.memory import peak_resident_bytes; print(peak_resident_bytes())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0 < int(said) < ballast.nbytes / 2


def test_the_status_tells_the_best_throughput_and_the_memory(make_spec, measured: Artifact) -> None:
    """Both would be in the report alone, and no dashboard could be made of them."""
    spec = make_spec()
    judgement = judge_evidence(spec, spec.targets[0], gather(None, measured, None))
    rates = {
        row["batch"]: row["samplesPerSecond"] for row in measured.facts["throughput"] if row["variant"] == "optimized"
    }
    assert judgement.throughput is not None
    assert float(judgement.throughput.samples_per_second) == pytest.approx(max(rates.values()), rel=1e-5)
    assert rates[judgement.throughput.batch] == max(rates.values())
    assert judgement.peak_memory_bytes == measured.facts["variants"]["optimized"]["peakMemoryBytes"]
