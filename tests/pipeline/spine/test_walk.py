"""Walking a plan over a real folder store with real records: what is done, what is found, what survives a crash."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import strop_job.records
from strop_api.result import Outcome
from strop_job.errors import Evicted, InvalidInput, StoreFailed
from strop_job.hardware import this_machine
from strop_job.pipeline import run
from strop_job.plan import Plan
from strop_job.progress import Event, Silent
from strop_job.stages import Artifact, ArtifactKind, Stage
from strop_job.store.local import LocalStore
from strop_job.walk import Shop, Walk, forecast, records_of


class Bench:
    """Toy stages over a real store: `ran` says which ones were really done."""

    def __init__(self, root, request):
        self.root, self.request, self.ran = root, request, []
        self.store = LocalStore(root / "store")
        self.reporter = Silent()

    def stage(self, name, *needs, parameters=None, fails=None, **more):
        def work(context):
            self.ran.append(name)
            context.report(0.5, "half")
            if fails is not None:
                raise fails
            read = {need: artifact.entry.read_text() for need, artifact in context.inputs.items()}
            (context.folder / "out.json").write_text(json.dumps([name, parameters, read]))
            return Artifact(ArtifactKind.MEASUREMENT, context.folder, ("out.json",), {"made": name})

        return Stage(name, "Toy", more.pop("version", 1), work, parameters or {}, needs, **more)

    def plan(self, *stages):
        return Plan(self.request, stages, ())

    def shop(self, **changes):
        fields = {"hardware": this_machine()} | changes
        return Shop(self.store, records_of(self.request, self.store), self.root / "scratch", self.reporter, **fields)

    def walk(self, *stages, **changes):
        """Walks the stages; returns the names of those that were done."""
        self.ran.clear()
        folder = self.root / f"folder-{len(list(self.root.glob('folder-*')))}"
        folder.mkdir()
        walk = Walk(self.plan(*stages), self.shop(**changes), folder)
        for stage in stages:
            walk.step(stage)
        self.last = walk
        return list(self.ran)


@pytest.fixture
def bench(tmp_path, spine):
    return Bench(tmp_path, spine.make_request())


def chain(bench, **last):
    return bench.stage("a"), bench.stage("b", "a"), bench.stage("c", "b", **last)


def test_a_second_walk_does_nothing(bench):
    """Every run would pay for everything again."""
    assert bench.walk(*chain(bench)) == ["a", "b", "c"]
    assert bench.walk(*chain(bench)) == []


def test_files_are_fetched_only_when_a_stage_that_must_run_reads_them(bench):
    """A cached run would download every model."""
    bench.walk(*chain(bench))
    bench.walk(*chain(bench))
    assert not list(bench.last.folder.iterdir())
    assert bench.walk(*chain(bench, parameters={"x": 1})) == ["c"]
    assert len(list(bench.last.folder.iterdir())) == 2, "the folder of c, and what it reads: b"


@pytest.mark.parametrize("change", [{"parameters": {"x": 1}}, {"version": 2}, {"libraries": ("numpy",)}])
def test_what_decides_a_stage_joins_its_key(bench, change):
    """An old result would be taken for a new one."""
    bench.walk(*chain(bench))
    assert bench.walk(*chain(bench, **change)) == ["c"]


def test_other_bytes_at_the_start_do_everything_after_again(bench):
    """A new model would be published with the old one's engine."""
    bench.walk(*chain(bench))
    a = bench.stage("a", parameters={"model": 2})
    assert bench.walk(a, bench.stage("b", "a"), bench.stage("c", "b")) == ["a", "b", "c"]


def test_the_same_bytes_from_another_recipe_let_the_rest_stand(bench):
    """Keys would depend on names instead of content."""
    bench.walk(*chain(bench))
    assert bench.walk(bench.stage("a", version=2), *chain(bench)[1:]) == ["a"]


@pytest.mark.parametrize("change", ["image", "seed"])
def test_image_and_seed_join_every_key(bench, spine, change):
    """A result of another worker or another seed would be taken over."""
    bench.walk(*chain(bench))
    changes = {"image": "other"} if change == "image" else {"spec": spine.make_spec(seed=7)}
    bench.request = spine.make_request(**changes)
    assert bench.walk(*chain(bench)) == ["a", "b", "c"]


def test_a_librarys_version_joins_the_key(bench, monkeypatch):
    """An upgrade of the runtime would keep the old engine."""
    bench.walk(*chain(bench, libraries=("onnxruntime",)))
    monkeypatch.setattr(strop_job.records, "version", lambda name: "99")
    assert bench.walk(*chain(bench, libraries=("onnxruntime",))) == ["c"]


def test_other_hardware_redoes_only_what_depends_on_it(bench):
    """A latency of another machine would be published."""
    bench.walk(*chain(bench, hardware=True))
    assert bench.walk(*chain(bench, hardware=True), hardware=replace(this_machine(), cpu_model="other")) == ["c"]


def test_an_expired_measurement_is_taken_again(bench):
    """An old latency would be published for ever."""
    stages = chain(bench, max_age_seconds=0)
    bench.walk(*stages)
    assert bench.walk(*stages) == ["c"]


def test_force_measure_takes_measurements_again_and_nothing_else(bench):
    """A disturbed measurement could not be repeated."""
    stages = chain(bench, measuring=True)
    bench.walk(*stages)
    assert bench.walk(*stages, force_measure=True) == ["c"]
    assert bench.walk(*stages) == []


@pytest.mark.parametrize("border", [0, 1, 2])
def test_a_crash_at_any_border_resumes_there(bench, border):
    """Work that was finished would be done again."""
    stages = list(chain(bench))
    broken = list(stages)
    broken[border] = bench.stage(stages[border].name, *stages[border].needs, fails=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bench.walk(*broken)
    assert bench.walk(*stages) == ["a", "b", "c"][border:]


def test_a_lost_blob_is_made_again(bench):
    """A damaged store would stop every run for ever."""
    bench.walk(*chain(bench))
    digest = bench.last.done["b"].record.files[0].digest
    bench.store.delete(bench.shop().records.blob_uri(digest))
    assert "b" in bench.walk(*chain(bench, parameters={"x": 1}))


def test_sigterm_stops_at_the_next_report_and_keeps_what_is_done(bench):
    """An eviction would lose finished stages."""

    class Stopping(Silent):
        told = []

        def tell(self, update):
            self.told.append(update)

        def stopping(self):
            return any(u.progress.stage == "b" and u.event is Event.STARTED for u in self.told)

    bench.reporter = Stopping()
    with pytest.raises(Evicted):
        bench.walk(*chain(bench))
    bench.reporter = Silent()
    assert bench.walk(*chain(bench)) == ["b", "c"]


def test_a_plan_can_say_what_is_on_record(bench):
    """`strop plan` would not know what a run costs."""
    stages = chain(bench)
    bench.walk(*stages[:2])
    rows = forecast(bench.plan(*stages), bench.shop().records)
    assert [record is not None for _, record in rows] == [True, True, False]


def finished(bench, error):
    return run(bench.plan(bench.stage("a"), bench.stage("b", "a", fails=error)), bench.shop(secrets=("hunter22",)))


def test_an_unforeseen_error_ends_as_failed_with_a_short_message_without_secrets(bench):
    """A secret would reach the status, or a trace the user."""
    error = RuntimeError("no: secret_key=abc hunter22 https://u:p@host/x?X-Amz-Signature=fff\nsecond line")
    done = finished(bench, error)
    assert done.outcome is Outcome.FAILED
    assert done.result.message.startswith("b: RuntimeError: no:")
    for secret in ("abc", "hunter22", "u:p", "fff", "second"):
        assert secret not in done.result.message


def test_a_full_disk_is_named_wherever_it_shows(bench):
    """A full scratch volume would be retried as a crash."""

    def fill(context):
        with Path("/dev/full").open("w") as full:
            full.write("x")

    plan = bench.plan(bench.stage("a"), Stage("b", "Toy", 1, fill, needs=("a",)))
    done = run(plan, bench.shop())
    assert done.outcome is Outcome.DISK_FULL
    assert done.result.field == "spec.worker.scratch"
    assert "during b" in done.result.message


def test_a_full_disk_behind_another_error_is_named(bench):
    """Libraries wrap the system's error in their own."""
    error = RuntimeError("write failed")
    error.__cause__ = OSError(28, "No space left on device")
    assert finished(bench, error).outcome is Outcome.DISK_FULL


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4096"),
        InvalidInput("the model refuses the inputs: std::bad_alloc"),
    ],
)
def test_memory_that_cannot_be_had_is_named_with_what_to_raise(bench, error):
    """A run that is too large would be tried again, or the model be blamed."""
    done = finished(bench, error)
    assert done.outcome is Outcome.OUT_OF_MEMORY
    assert done.result.field == "spec.worker.resources.limits.memory"
    assert done.result.message.startswith("stage b: memory ran out")


def test_a_failed_store_ends_as_such(bench):
    """A failure that may pass would not be retried."""
    assert finished(bench, StoreFailed("gone")).outcome is Outcome.STORE_FAILED


def test_the_stages_before_a_failure_are_told(bench):
    """Nobody would see how far a run came."""
    assert [row.name for row in finished(bench, ValueError("x")).rows] == ["a"]


def test_scratch_is_left_empty(bench):
    """A laptop's disk would fill up."""
    finished(bench, ValueError("x"))
    assert not list((bench.root / "scratch").iterdir())
