"""An engine that is built where its device is not: kept, never published, and nothing is claimed of it."""

import copy
import json
import re

import pytest
from typer.testing import CliRunner

import strop_job.cli
from strop_api.result import Result
from strop_api.status import GateVerdict, TargetVerdict
from strop_job.hardware import this_machine
from strop_job.store.digests import file_digest

RTX = {"name": "rtx", "runtime": "TensorRTRTX", "tensorRTRTX": {"computeCapabilities": ["8.9"]}}
GATES = {
    "metricDrop": {"maxPoints": "20"},
    "speedup": {"min": "1.2"},
    "latency": {"p50MaxMicroseconds": 9000},
    "throughput": {"minPerSecond": 1},
    "fidelity": {"cosineMin": "0.5"},
    "realisedPrecision": {"min": "1%"},
    "peakMemory": {"max": "1Ti"},
}

pytestmark = pytest.mark.skipif(bool(this_machine().gpus), reason="with a device it is measured: see tests/gpu")


class Run:
    """One run of the tiny problem for a device that is not here."""

    def __init__(self, root, tiny, **changes):
        self.root, self.store = root, root / "out"
        document = copy.deepcopy(tiny.lay_out(self.store))
        document["spec"] |= {"targets": [RTX]} | changes
        path = tiny.write(root / "spec.yaml", document)
        self.words = ["run", str(path), "--store", str(self.store), "--scratch", str(root / "scratch")]
        self.ended = CliRunner().invoke(strop_job.cli.app, self.words)
        assert self.ended.exception is None or isinstance(self.ended.exception, SystemExit), self.ended.exception
        [self.folder] = (self.store / "strop-records/team/reports").iterdir()

    @property
    def result(self):
        return Result.model_validate_json((self.folder / "result.json").read_bytes())

    @property
    def page(self):
        return re.sub(r"<[^>]+>", " ", (self.folder / "report.html").read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory, tiny):
    return Run(tmp_path_factory.mktemp("rtx"), tiny, gates=GATES)


def test_it_ends_as_not_measured_and_nothing_is_published(built):
    """An engine that never ran would be served."""
    assert built.ended.exit_code == 15, built.ended.output
    assert built.result.outcome == "NotMeasured"
    assert built.result.message.startswith("built, not measured: the engine is for devices of compute capability 8.9")
    assert not (built.store / "engines").exists()


def test_every_gate_is_not_measured(built):
    """A gate without a figure would pass."""
    gates = built.result.target.gates
    assert {gate.verdict for gate in gates} == {GateVerdict.NOT_MEASURED}
    assert {gate.gate.partition(".")[0] for gate in gates} == {"compileParity", *GATES}


def test_the_engine_is_kept_beside_the_report_under_its_digest(built):
    """Hours of building would be lost, or could not be told from another build."""
    kept = built.result.target.built
    assert built.result.target.artifact is None
    assert built.result.target.verdict is TargetVerdict.NOT_MEASURED
    path = built.store / kept.uri.removeprefix("s3://")
    assert path.parent == built.folder / "unmeasured"
    assert (file_digest(path), path.stat().st_size) == (kept.digest, kept.size_bytes)


def test_no_figure_is_stated_of_it(built):
    """A reader would take a graph's accuracy, or nothing at all, for the engine's."""
    target = built.result.target
    assert (target.metric, target.latency, target.speedup, target.throughput, target.peak_memory_bytes) == (None,) * 5
    assert target.realised_precision == "not inspected"
    report = json.loads((built.folder / "report.json").read_text())
    assert not {"metric", "latency", "speedup"} & report.keys()
    assert (report["variants"], report["fidelity"], report["parity"]) == ([], {}, {})
    assert report["inspection"]["inspected"] is False
    assert report["inspection"]["note"].startswith("not inspected")


def test_the_report_says_it_first_and_lists_what_is_left_to_verify(built):
    """A reader would think that it had failed, or that it had passed."""
    assert "Built, not measured" in built.page
    assert built.page.index("Built, not measured") < built.page.index("Compile parity")
    assert "Left for a machine with the device" in built.page
    assert built.result.target.built.uri in built.page


def test_the_graphs_figures_are_called_the_graphs(built):
    """What quantization did would stay unknown, or be taken for what the engine does."""
    graph = json.loads((built.folder / "report.json").read_text())["graph"]
    assert graph["metric"]["samples"] == 200
    assert 0.9 < graph["fidelity"]["cosine"] <= 1.0
    assert "Of the graph, not of the engine" in built.page


def test_the_console_says_it_too(built):
    """Whoever ran it on a laptop would look for the engine in the wrong place."""
    assert "NotMeasured  built, not measured: the engine is for devices" in built.ended.output
    assert re.search(r"^kept +\S+/unmeasured/engine", built.ended.output, re.MULTILINE)
    assert "speed-up" not in built.ended.output


def test_without_gates_the_default_gate_is_not_measured_either(tmp_path, tiny):
    """A spec that names no gate would be published unmeasured."""
    run = Run(tmp_path, tiny, gates={}, steps=[])
    assert run.ended.exit_code == 15, run.ended.output
    assert {gate.gate: gate.verdict for gate in run.result.target.gates} == {
        "compileParity": GateVerdict.NOT_MEASURED,
        "metricDrop": GateVerdict.NOT_MEASURED,
    }
    assert json.loads((run.folder / "report.json").read_text())["graph"] == {}


def test_an_engine_that_is_too_large_is_known_to_miss(tmp_path, tiny):
    """Its size is that of the file, wherever it was built: nobody need carry it to the device to learn that."""
    run = Run(tmp_path, tiny, gates={"size": {"max": "1k"}})
    assert run.ended.exit_code == 10, run.ended.output
    assert run.result.target.built is None


def test_asked_again_it_answers_from_records_and_the_same_bytes_are_kept(built):
    """A lost result would cost the build again, and the digest in status would no longer be that of the file."""
    before = built.result.target.built
    again = CliRunner().invoke(strop_job.cli.app, built.words)
    assert again.exit_code == 15
    assert built.result.target.built == before
    assert "cached" in again.output
