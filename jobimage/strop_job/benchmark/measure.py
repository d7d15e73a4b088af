"""One benchmark: every variant in a process of its own, timed at the optimum, then by batch, watched for memory."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from strop_api.model import ModelSource
from strop_job.backends.base import CallTimes
from strop_job.batches import batch_dimension
from strop_job.benchmark.contender import Contender
from strop_job.benchmark.device import GpuState, device_bytes, gpu_states
from strop_job.benchmark.inputs import Arrays, shapes_of, synthetic
from strop_job.benchmark.protocol import OPTIMUM, Setup, Turn, write_inputs
from strop_job.benchmark.rotation import Rotation, Schedule, rotate
from strop_job.benchmark.sweep import BatchRun, batches_of, optimum_batch, slowest_call_seconds, sweep
from strop_job.stages import Report

LATENCY_SHARE = 0.8
"""Of the time a variant may take; a quarter at most, and what remains, goes to the batch sizes."""
BATCHES_SHARE = 0.25
APART_CALLS, APART_SECONDS = 50, 5.0
"""Calls whose parts are timed, after all others: telling them apart may cost time itself."""


@dataclass
class Memory:
    """The most that a variant held, over all shapes that it ran."""

    bare_bytes: int = 0
    """Resident with interpreter and runtime imported, before the engine was loaded."""
    resident_bytes: int = 0
    device_bytes: int | None = None
    """None where the driver does not tell it by process, or there is no device."""

    def device(self, found: int | None) -> None:
        """One more look at the device."""
        if found is not None:
            self.device_bytes = max(found, self.device_bytes or 0)


@dataclass(frozen=True)
class Measured:
    """All that one benchmark yields."""

    main: Rotation
    """At the optimum shape."""
    batch: int
    """Samples per call of `main`."""
    shapes: Mapping[str, list[int]]
    """Of the inputs of `main`."""
    batches: tuple[BatchRun, ...]
    """The other batch sizes."""
    memory: Mapping[str, Memory]
    parts: Mapping[str, tuple[CallTimes, ...]]
    """By variant; empty where the session cannot tell them apart."""
    gpus_before: tuple[GpuState, ...] = ()
    gpus_after: tuple[GpuState, ...] = ()


@dataclass
class _Bench:
    """The variants while they are loaded."""

    contenders: Sequence[Contender]
    memory: dict[str, Memory] = field(default_factory=dict)
    on_device: bool = False

    def load(self, report: Report) -> None:
        report(0.0, f"loading {len(self.contenders)} variants")
        for one in self.contenders:
            answer = one.loaded(lambda: report(0.0, "loading"))
            self.memory[one.name] = Memory(answer.bare_memory_bytes, answer.peak_memory_bytes)

    def look(self, run: Rotation | BatchRun | None = None) -> None:
        """Takes note of memory after some turns: of the child from its answers, of the device from the driver."""
        for one in self.contenders:
            memory = self.memory[one.name]
            if run is not None and one.name in run.tallies:
                memory.resident_bytes = max(memory.resident_bytes, run.tallies[one.name].peak_memory_bytes)
            if self.on_device:
                memory.device(device_bytes(one.pid))


def measure(
    setups: Mapping[str, Setup],
    model: ModelSource,
    schedule: Schedule,
    report: Report,
    *,
    on_device: bool = False,
    sweeping: bool = True,
) -> Measured:
    """Times every variant on synthetic inputs of the model; exactly one of them works at any moment.

    `on_device`: the variants run on a GPU, which is asked for its state and memory between turns. Without `sweeping`
    the other batch sizes are left out. Raises StropError
    when a child crashes or hangs, and whatever `report` raises; every child is reaped either way.
    """
    with TemporaryDirectory(prefix="strop-benchmark-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        inputs, sets = _lay_out(folder, model, schedule.seed)
        sets = sets if sweeping else {}
        fed = {n: Setup(s.engine, s.target, s.threads, s.spinning, folder) for n, s in setups.items()}
        bench = _Bench(
            [stack.enter_context(Contender(name, setup, folder)) for name, setup in fed.items()], on_device=on_device
        )
        bench.load(report)
        before = gpu_states() if on_device else ()
        latency = Schedule(schedule.calls, LATENCY_SHARE * schedule.max_seconds, schedule.seed, schedule.rounds)
        main = rotate(bench.contenders, latency, _part(report, 0.0, 0.75))
        after = gpu_states() if on_device else ()
        bench.look(main)
        batches = _sweep(bench, sets, model, main, schedule, _part(report, 0.75, 0.98))
        parts = {one.name: _parts(one, report) for one in bench.contenders}
        return Measured(main, optimum_batch(model), shapes_of(inputs), batches, bench.memory, parts, before, after)


def _lay_out(folder: Path, model: ModelSource, seed: int) -> tuple[Arrays, dict[int, str]]:
    """Writes the inputs at the optimum and at the other batch sizes; returns the first, and the names of the others."""
    inputs = synthetic(model, seed)
    write_inputs(folder, OPTIMUM, inputs)
    size = batch_dimension(model)
    sets: dict[int, str] = {}
    if not isinstance(size, int):
        for batch in batches_of(model):
            if batch != size.opt:
                sets[batch] = f"batch-{batch}"
                write_inputs(folder, sets[batch], synthetic(model, seed, **{size.name: batch}))
    return inputs, sets


def _sweep(
    bench: _Bench, sets: Mapping[int, str], model: ModelSource, main: Rotation, schedule: Schedule, report: Report
) -> tuple[BatchRun, ...]:
    busy = max(tally.busy_seconds for tally in main.tallies.values())
    seconds = min(BATCHES_SHARE * schedule.max_seconds, schedule.max_seconds - busy)
    found = []
    known = (optimum_batch(model), slowest_call_seconds(main.tallies))
    for run in sweep(bench.contenders, sets, seconds, schedule.seed, known, report):
        bench.look(run)
        found.append(run)
    return tuple(found)


def _parts(contender: Contender, report: Report) -> tuple[CallTimes, ...]:
    turn = Turn(0, APART_CALLS, APART_SECONDS, apart=True)
    return contender.take(turn, lambda: report(0.98, "timing copies apart")).parts


def _part(report: Report, start: float, end: float) -> Report:
    return lambda share, message: report(start + (end - start) * share, message)
