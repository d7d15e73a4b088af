"""Every sample through the command line, over inputs that its own script lays out. The slower ones run at night."""

import os
import subprocess
import sys
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
}
QUICK = {"minilm-int8", "magika-static-int8"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    prepared = [sys.executable, str(SAMPLES / "prepare.py"), "--store", str(folder)]
    subprocess.run(prepared, check=True, capture_output=True)
    return folder


def test_every_sample_has_an_expectation():
    """A new sample would not be run."""
    found = {p.stem for p in SAMPLES.glob("*.yaml") if "kind: ModelOptimization\n" in p.read_text()}
    assert found == set(EXPECTED)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=NIGHTLY) for n in EXPECTED])
def test_a_sample_ends_as_it_says(store, tmp_path, name):
    """A newcomer's first command would fail."""
    command = [sys.executable, "-m", "strop_job.cli", "run", str(SAMPLES / f"{name}.yaml"), "--store", str(store)]
    ended = subprocess.run(
        [*command, "--scratch", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        timeout=280,
    )
    assert ended.returncode == EXPECTED[name], ended.stdout + ended.stderr
    assert "report.html" in ended.stdout
    assert (store / "engines" / name).exists() is (EXPECTED[name] == 0)
