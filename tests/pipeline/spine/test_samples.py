"""Every sample through the command line, over inputs that its own script lays out. The slower ones run at night."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
    "minilm-inductor-int8": 0,
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
