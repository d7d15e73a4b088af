"""An engine that is INT8 in name: the gate on realised precision, through whole runs on the real runtime."""

import copy
import json

import pytest
from typer.testing import CliRunner

import strop_job.cli
from strop_api.result import Result


def fp32_kernels(spec):
    """Without optimization nothing is fused: integers are stored, floats are multiplied."""
    spec["targets"][0]["onnxRuntime"] = {"graphOptimization": "Disable"}


def mostly_excluded(spec):
    """The large product stays as it was: 512 of 704 multiply-accumulates."""
    spec["steps"][0]["quantize"]["excludeNodes"] = ["first"]


@pytest.fixture
def run(tmp_path, tiny):
    """Runs the tiny problem with a gate of 90%; returns the exit code, the result and the report."""

    def carried_out(change=None, least="90%"):
        document = copy.deepcopy(tiny.lay_out(tmp_path / "out"))
        document["spec"]["gates"] |= {"realisedPrecision": {"min": least}}
        if change:
            change(document["spec"])
        path = tiny.write(tmp_path / "spec.yaml", document)
        words = ["run", str(path), "--store", str(tmp_path / "out"), "--scratch", str(tmp_path / "scratch")]
        ended = CliRunner().invoke(strop_job.cli.app, words)
        assert ended.exit_code in (0, 10, 15), ended.output
        [folder] = (tmp_path / "out/strop-records/team/reports").iterdir()
        result = Result.model_validate_json((folder / "result.json").read_bytes())
        return ended.exit_code, result, json.loads((folder / "report.json").read_text())

    return carried_out


def gate(result):
    return next(g for g in result.target.gates if g.gate == "realisedPrecision")


def test_an_engine_that_computes_in_integers_passes(run):
    """A right engine would be refused."""
    code, result, _ = run()
    assert code == 0
    assert (gate(result).verdict, gate(result).measured) == ("Passed", "1")
    assert gate(result).message == "100% of the multiply-accumulates run in int8, which reaches 90.0%"


@pytest.mark.parametrize(("change", "share"), [(fp32_kernels, 0.0), (mostly_excluded, 192 / 704)])
def test_an_int8_engine_that_runs_in_fp32_misses_and_is_not_published(run, tmp_path, change, share):
    """A model would be sold as INT8 that is INT8 in size alone."""
    code, result, report = run(change)
    assert code == 10
    assert gate(result).verdict == "Missed"
    assert float(gate(result).measured) == pytest.approx(share, abs=1e-4)
    assert "in fp32" in gate(result).message
    assert not (tmp_path / "out/engines").exists()
    formats = {layer["format"] for layer in report["inspection"]["layers"] if layer["macs"]}
    assert "fp32" in formats
