"""The end of a run, on a real model over a real folder: killed while it publishes, asked again, on other machines."""

import importlib.util
import itertools
import json
from dataclasses import replace

import onnx
import pytest

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome
from strop_job.hardware import this_machine
from strop_job.pipeline import run
from strop_job.plan import make_plan
from strop_job.progress import Silent
from strop_job.publish import current
from strop_job.sources import Reach
from strop_job.store.local import LocalStore
from strop_job.walk import Shop, records_of

OUTPUT = "s3://engines/tiny"


class Killed(BaseException):
    """Stands for SIGKILL."""


class Dying(LocalStore):
    """Is killed instead of making its n-th object below the output."""

    def __init__(self, root, after):
        super().__init__(root)
        self.left = after

    def create(self, uri, data, **named):
        if uri.startswith(OUTPUT):
            self.left -= 1
            if self.left < 0:
                raise Killed
        return super().create(uri, data, **named)


class Bench:
    """Attempts of runs of one resource, each as in a pod of its own."""

    def __init__(self, root, spine, document):
        self.root, self.spine, self.document, self.count = root, spine, document, 0
        self.store = LocalStore(root / "store")

    def attempt(self, run_id="0123456789", store=None, cpu="one", build=None):
        """Walks the whole run; the engine's bytes are the processor's own, as kernels chosen for it make them."""
        spec = ModelOptimizationSpec.model_validate(self.document["spec"])
        request = self.spine.make_request(spec, run_id=run_id)
        store = store or self.store
        plan = make_plan(request, Reach(store))
        plan = replace(plan, stages=tuple(marked(stage, build or (lambda: cpu)) for stage in plan.stages))
        self.count += 1
        hardware = replace(this_machine(), cpu_model=cpu)
        shop = Shop(store, records_of(request, store), self.root / f"scratch{self.count}", Silent(), hardware=hardware,
                    answer_published=True)  # fmt: skip
        return run(plan, shop).result

    def killed(self, after, cpu="one"):
        """An attempt that leaves `after` files behind."""
        store = Dying(self.root / "store", after)
        self.attempt(store=store, cpu=cpu)
        assert store.left < 0

    def published(self):
        pointer = current(self.store, OUTPUT)
        return pointer and pointer.artifact


def marked(stage, mark):
    if stage.kind != "Compile":
        return stage

    def compiled(context):
        made = stage.run(context)
        model = onnx.load(str(made.entry))
        model.doc_string = mark()
        onnx.save(model, str(made.entry))
        return made

    return replace(stage, run=compiled)


@pytest.fixture
def bench(tmp_path, request, spine):
    path = request.path.parent / "parts" / "tiny.py"
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("tiny", path))
    spec.loader.exec_module(module)
    return Bench(tmp_path, spine, module.lay_out(tmp_path / "store"))


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_publication_that_was_cut_off_is_finished_on_another_processor(bench, after):
    """The folder of the run would hold another engine's bytes, never to be finished or replaced."""
    bench.killed(after)
    assert bench.published() is None
    result = bench.attempt(cpu="two")
    assert (result.outcome, result.message) == (Outcome.PUBLISHED, result.message), result.message
    assert bench.published() == result.target.artifact
    engine = bench.store.read(bench.published().uri, 1 << 20)
    assert onnx.load_from_string(engine).doc_string == "one"
    assert all(stage.cached for stage in result.stages), "figures of other bytes than those published"
    assert b'"cpu_model": "one"' in bench.store.read(f"{OUTPUT}/0123456789/provenance.json", 1 << 20)


def test_of_two_attempts_at_once_the_later_publishes_what_the_first_measured(bench):
    """A pod on a node that was cut off goes on working; the folder would hold files of both."""
    first, second = bench.root / "first", bench.root / "second"

    class Late(LocalStore):
        def create(self, uri, data, **named):
            if uri.endswith("/claim.json") and not first.exists():
                first.touch()
                bench.attempt(cpu="two")
                second.touch()
            return super().create(uri, data, **named)

    result = bench.attempt(store=Late(bench.root / "store"), cpu="one")
    assert second.exists()
    assert result.outcome is Outcome.PUBLISHED
    assert bench.published() == result.target.artifact
    assert onnx.load_from_string(bench.store.read(bench.published().uri, 1 << 20)).doc_string == "two"


def test_records_that_are_lost_bind_nobody(bench):
    """After `strop gc` a run that was once cut off could never end."""
    bench.killed(0)
    for record in (bench.root / "store/strop-records/records").iterdir():
        record.unlink()
    result = bench.attempt(cpu="two")
    assert result.outcome is Outcome.PUBLISHED
    assert onnx.load_from_string(bench.store.read(bench.published().uri, 1 << 20)).doc_string == "two"


def test_a_blob_that_turns_out_to_be_damaged_is_not_made_again_for_another_attempts_figures(bench):
    """Other bytes than those that were measured would be published."""
    bench.killed(1)
    engine = next((bench.root / "store/engines/tiny/0123456789").rglob("*.onnx"))
    blobs = [b for b in (bench.root / "store").rglob("*") if b.is_file() and "blobs" in b.parts]
    for blob in blobs:
        if blob.read_bytes() == engine.read_bytes():
            blob.write_bytes(b"x" * blob.stat().st_size)
    assert bench.attempt(cpu="two").outcome is Outcome.STORE_FAILED
    assert bench.published() is None


def test_an_engine_that_is_made_again_with_other_bytes_takes_no_figures_over(bench):
    """Figures of one engine would be published with another: not every compiler writes the same bytes twice."""
    bench.document["spec"]["gates"] = {"size": {"max": "1"}}
    assert bench.attempt().outcome is Outcome.GATE_MISSED
    for record in (bench.root / "store/strop-records/records").iterdir():
        document = json.loads(record.read_text())
        if "compile" in record.read_text() and any(f["name"] == "engine.onnx" for f in document.get("files", [])):
            for blob in (bench.root / "store").rglob(document["files"][0]["digest"].removeprefix("sha256:") + "*"):
                blob.write_bytes(b"x" * blob.stat().st_size)
    del bench.document["spec"]["gates"]
    times = itertools.count()
    first = bench.attempt(run_id="9876543210", build=lambda: f"build {next(times)}")
    assert first.outcome is Outcome.STORE_FAILED, first.message
    assert "came out differently" in first.message
    assert bench.published() is None
    assert bench.attempt(run_id="9876543210").outcome is Outcome.PUBLISHED


def test_going_back_to_an_earlier_spec_moves_the_pointer_back(bench):
    """The status would say Published while everybody is served the run that was taken back."""
    first = bench.attempt()
    bench.document["spec"]["gates"] = {"metricDrop": {"maxPoints": "30"}}
    second = bench.attempt(run_id="9876543210")
    assert bench.published() == second.target.artifact
    bench.document["spec"]["gates"] = {"metricDrop": {"maxPoints": "20"}}
    again = bench.attempt()
    assert again.target == first.target
    assert bench.published() == first.target.artifact


@pytest.mark.parametrize("damage", ["gone", "manifest", "content"])
def test_what_does_not_hold_its_manifest_is_not_pointed_to_again(bench, damage):
    """The pointer would lead to a folder with something else in it."""
    first = bench.attempt()
    second = bench.attempt(run_id="9876543210")
    folder = bench.root / "store/engines/tiny/0123456789"
    engine = next(f for f in folder.rglob("*.onnx") if first.target.artifact.uri.endswith(f.name))
    if damage == "gone":
        engine.unlink()
    if damage == "manifest":
        (folder / "manifest.json").write_text("{}")
    if damage == "content":
        engine.write_bytes(b"x" * engine.stat().st_size)
    again = bench.attempt()
    if damage == "gone":
        assert (again.outcome, bench.published()) == (Outcome.PUBLISHED, first.target.artifact)
    else:
        assert (again.outcome, bench.published()) == (Outcome.INVALID_INPUT, second.target.artifact)
