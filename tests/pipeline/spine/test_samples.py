"""Every sample through the command line, over inputs that its own script lays out. The slower ones run at night."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strop_job.hardware import this_machine

SAMPLES = Path(__file__).parents[3] / "crds" / "samples"
NIGHTLY = pytest.mark.skipif(not os.environ.get("STROP_NIGHTLY"), reason="set STROP_NIGHTLY=1")
EXPECTED = {
    "minilm-int8": 0,
    "magika-static-int8": 0,
    "magika-naive-int8": 10,
    "magika-as-is": 0,
    "minilm-fp16": 0,
    "minilm-int4": 0,
    "magika-rtx": 15,
    "minilm-rtx": 15,
    "minilm-inductor-int8": 0,
    "minilm-inductor-bf16": 0 if "avx512_bf16" in this_machine().isa else 13,
    "minilm-openvino-int8": 0,
    "magika-openvino-int8": 0,
}
QUICK = {"minilm-int8", "magika-static-int8"}


def test_every_sample_has_an_expectation():
    """A new sample would not be run."""
    found = {p.stem for p in SAMPLES.glob("*.yaml") if "kind: ModelOptimization\n" in p.read_text()}
    assert found == set(EXPECTED)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=[NIGHTLY, pytest.mark.nightly]) for n in EXPECTED]
)
def test_a_sample_ends_as_it_says(prepared, tmp_path, name):
    """A newcomer's first command would fail."""
    command = [sys.executable, "-m", "strop_job.cli", "run", str(SAMPLES / f"{name}.yaml"), "--store", str(prepared)]
    ended = subprocess.run(
        [*command, "--scratch", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        timeout=280,
    )
    assert ended.returncode == EXPECTED[name], ended.stdout + ended.stderr
    assert "report.html" in ended.stdout
    assert (prepared / "engines" / name).exists() is (EXPECTED[name] == 0)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_plan_of_a_sample_says_what_will_run_and_what_not(prepared, name):
    """A newcomer plans before anything runs; what is left out must be told then, with its reason."""
    told = planned(SAMPLES / f"{name}.yaml", prepared)
    timed = EXPECTED[name] != 15
    assert ("benchmark" in told) is timed
    assert ("built, not measured: the engine is for devices of" in told) is not timed
    assert not timed or "16-bit" in told or "is timed beside the original" in told


def test_a_plan_says_which_device_formats_are_skipped_and_what_they_need(prepared, tmp_path):
    """The run would end well, without the files that were asked for, and nobody told."""
    sample = (SAMPLES / "minilm-openvino-int8.yaml").read_text()
    asked = sample.replace("formats: [Engine]", "formats: [Engine, LiteRT, CoreML]")
    assert asked != sample
    (tmp_path / "asked.yaml").write_text(asked)
    told = planned(tmp_path / "asked.yaml", prepared)
    for wanted, needed in (("LiteRT", "litert-torch"), ("CoreML", "coremltools")):
        assert f"spec.output.formats: {wanted} is skipped: this worker has no {needed}" in told
    assert "STROP_DEVICE_PYTHON" in told
    assert "bundle-litert" not in told


def planned(spec: Path, store: Path) -> str:
    """What `strop plan` says, without line breaks; no environment of device converters is named."""
    environment = {name: value for name, value in os.environ.items() if name != "STROP_DEVICE_PYTHON"}
    command = [sys.executable, "-m", "strop_job.cli", "plan", str(spec), "--store", str(store)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return " ".join(ended.stdout.split())


def test_inputs_that_are_there_already_are_not_made_again(prepared):
    """Every run of the samples would begin with half a minute of reading packages."""
    before = {path: path.stat().st_mtime_ns for path in (prepared / "data").rglob("*.*")}
    began = time.monotonic()
    command = [sys.executable, str(SAMPLES / "prepare.py"), "--store", str(prepared)]
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert time.monotonic() - began < 5
    assert json.loads(again.stdout)["seconds"] < 1
    assert {path: path.stat().st_mtime_ns for path in (prepared / "data").rglob("*.*")} == before


def test_inputs_that_were_damaged_are_made_again(prepared, tmp_path):
    """A file cut short by a full disk would stay so, and every run on it fail."""
    for name in ("models", "data", ".prepared.json"):
        source = prepared / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    damaged = tmp_path / "data/magika/evaluation.npz"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100])
    command = [sys.executable, str(SAMPLES / "prepare.py"), "--store", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    assert damaged.read_bytes() == whole
