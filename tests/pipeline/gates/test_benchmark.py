"""The benchmark runs real engines in real processes, one at a time, and leaves none behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from strop_api.targets import SpeedupOver
from strop_job.benchmark.contender import Contender
from strop_job.benchmark.inputs import synthetic
from strop_job.benchmark.protocol import OPTIMUM, Setup, write_inputs
from strop_job.benchmark.rotation import Schedule, calls_per_turn
from strop_job.errors import Evicted, StropError
from strop_job.judgement.evidence import read_latencies
from strop_job.judgement.headline import compare
from strop_job.judgement.statistics import LEVEL, Interval
from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.benchmark import benchmark_stage

ENGINES = {"original": "compile-original", "optimized": "compile"}


def benchmark_children() -> list[psutil.Process]:
    """Benchmark processes that this test process started and that still live."""
    children = psutil.Process().children(recursive=True)
    return [c for c in children if "strop_job.benchmark.child" in c.cmdline() and c.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def two_engines(make_engine) -> dict[str, Artifact]:
    """The candidate has an eighth of the baseline's layers."""
    return {"compile-original": make_engine("original", 64), "compile": make_engine("optimized", 8)}


def test_a_model_with_an_eighth_of_the_work_is_measured_as_faster(make_spec, make_context, two_engines) -> None:
    """The measured ratio would not follow the work that is done."""
    spec = make_spec()
    stage = benchmark_stage(ENGINES, spec, spec.targets[0])
    made = stage.run(make_context(spec, two_engines))
    latencies = read_latencies(made)
    ratio = compare(latencies, SpeedupOver.ORIGINAL, LEVEL, seed=0)
    assert isinstance(ratio, Interval)
    assert ratio.low > 2
    assert {name: len(found.microseconds) for name, found in latencies.items()} == {"original": 80, "optimized": 80}
    assert benchmark_children() == []


def test_the_facts_say_how_it_was_measured(make_spec, make_context, two_engines) -> None:
    """A report could not say what its latencies mean."""
    spec = make_spec()
    facts = benchmark_stage(ENGINES, spec, spec.targets[0]).run(make_context(spec, two_engines)).facts
    assert facts["threads"] == 1
    assert facts["spinning"] == "allowed"
    assert facts["shapes"] == {"x": [4, 64]}
    assert facts["rounds"] == 40
    assert not facts["stoppedEarly"]


def test_a_p99_is_reported_from_three_hundred_calls_on_and_not_before(make_spec, make_context, two_engines) -> None:
    """A p99 would rest on one or two calls."""
    few = make_spec(benchmark={"calls": 80})
    facts = benchmark_stage(ENGINES, few, few.targets[0]).run(make_context(few, two_engines)).facts
    assert "p99Microseconds" not in facts["variants"]["optimized"]


def test_the_waiting_variant_leaves_the_processor_alone(make_spec, make_context, two_engines) -> None:
    """Spinning threads of one variant would slow the other, as two sessions in one process do."""
    spec = make_spec(targets=[{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 2}}])
    facts = benchmark_stage(ENGINES, spec, spec.targets[0]).run(make_context(spec, two_engines)).facts
    shares = [variant["waitingCpuShare"] for variant in facts["variants"].values()]
    assert max(shares) < 0.1


def test_children_leave_when_their_parent_is_killed(make_spec, make_engine, tmp_path: Path) -> None:
    """After a SIGKILL of the worker a child would burn the node's processor for ever."""
    spec = make_spec()
    write_inputs(tmp_path, OPTIMUM, synthetic(spec.model, 0))
    setup = Setup(make_engine("x", 1), spec.targets[0], 1, True, tmp_path)
    setup.write(tmp_path / "setup.json")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(timeout=20)


PARENT = """
import sys, time
from pathlib import Path
from strop_job.benchmark.contender import Contender
from strop_job.benchmark.protocol import OPTIMUM, Setup, write_inputs
folder = Path(sys.argv[1])
with Contender("optimized", Setup.read(folder / "setup.json"), folder) as contender:
    contender.loaded(lambda: None)
    print(contender.pid, flush=True)
    time.sleep(600)
"""


def test_a_slow_model_gets_fewer_calls_a_turn_so_that_rounds_remain() -> None:
    """A slow model would fill its time with one round, and no interval could be made."""
    schedule = Schedule(calls=400, max_seconds=120, seed=0)
    assert calls_per_turn(schedule, call_seconds=0.001) == 10
    assert calls_per_turn(schedule, call_seconds=0.5) == 3
    assert calls_per_turn(schedule, call_seconds=10) == 1


def test_time_that_runs_out_stops_every_variant_and_says_so(make_spec, make_context, make_engine) -> None:
    """A slow variant would hold the run for ever, or be compared over other rounds than its baseline."""
    spec = make_spec(benchmark={"calls": 1_000_000, "maxSeconds": 1})
    engines = {"compile-original": make_engine("original", 64), "compile": make_engine("optimized", 8)}
    made = benchmark_stage(ENGINES, spec, spec.targets[0]).run(make_context(spec, engines))
    assert made.facts["stoppedEarly"]
    assert all(0 < variant["calls"] < 1_000_000 for variant in made.facts["variants"].values())


def test_an_eviction_ends_the_children_at_once(make_spec, make_context, two_engines) -> None:
    """After SIGTERM a child would keep the pod alive."""

    def evict(share: float, message: str) -> None:
        if share > 0.2:
            raise Evicted("SIGTERM")

    spec = make_spec(benchmark={"calls": 100_000})
    with pytest.raises(Evicted):
        benchmark_stage(ENGINES, spec, spec.targets[0]).run(make_context(spec, two_engines, evict))
    assert benchmark_children() == []


def test_a_child_that_is_killed_is_a_clear_error(make_spec, make_context, two_engines) -> None:
    """A crash inside the runtime would look like a hang, or take the worker with it."""
    killed: list[int] = []

    def kill_one(share: float, message: str) -> None:
        if share > 0.1 and not killed:
            victim = benchmark_children()[0]
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    spec = make_spec(benchmark={"calls": 50_000})
    with pytest.raises(StropError, match=r"the benchmark of (original|optimized) was killed by SIGKILL"):
        benchmark_stage(ENGINES, spec, spec.targets[0]).run(make_context(spec, two_engines, kill_one))
    assert benchmark_children() == []


def test_an_engine_that_does_not_load_is_named(make_spec, make_context, two_engines, tmp_path: Path) -> None:
    """A broken engine would end the run with a traceback of a subprocess."""
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    broken = Artifact(ArtifactKind.ENGINE, tmp_path, ("broken.onnx",))
    spec = make_spec()
    with pytest.raises(StropError, match="the benchmark of optimized failed"):
        benchmark_stage(ENGINES, spec, spec.targets[0]).run(make_context(spec, {**two_engines, "compile": broken}))


def test_a_child_that_hangs_is_given_up_and_reaped(make_spec, make_engine, tmp_path: Path, monkeypatch) -> None:
    """A hang in a runtime would hold the worker until its deadline."""
    monkeypatch.setattr("strop_job.benchmark.contender.LOAD_SECONDS", 2.0)
    monkeypatch.setattr("strop_job.benchmark.contender.LEAVE_SECONDS", 0.5)
    spec = make_spec()
    write_inputs(tmp_path, OPTIMUM, synthetic(spec.model, 0))
    setup = Setup(make_engine("x", 1), spec.targets[0], 1, True, tmp_path)
    started = time.monotonic()
    with Contender("optimized", setup, tmp_path) as contender:
        os.kill(contender.pid, signal.SIGSTOP)
        with pytest.raises(StropError, match="hangs"):
            contender.loaded(lambda: None)
    assert time.monotonic() - started < 20
    assert benchmark_children() == []


def test_synthetic_inputs_are_at_the_optimum_shape_and_inside_any_vocabulary(make_spec) -> None:
    """A token id beyond the vocabulary would crash the model, a half-empty mask would change its cost."""
    tensors = [
        {"name": name, "dtype": "int64", "shape": ["batch", 12]}
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    model = make_spec(
        model={
            "uri": "s3://models/m.onnx",
            "format": "Onnx",
            "inputs": tensors,
            "dimensions": [{"name": "batch", "min": 1, "opt": 3, "max": 8}],
        }
    ).model
    arrays = synthetic(model, seed=7)
    assert {name: array.shape for name, array in arrays.items()} == dict.fromkeys(arrays, (3, 12))
    assert arrays["input_ids"].min() >= 1
    assert arrays["input_ids"].max() <= 100
    assert arrays["attention_mask"].all()
    assert not arrays["token_type_ids"].any()
