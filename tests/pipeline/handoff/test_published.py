"""A whole run that publishes every bundle, and one whose gate is missed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format

from cluster import binaries

TINY = Path(__file__).parents[1] / "spine" / "parts" / "tiny.py"
FORMATS = ["Engine", "Onnx", "Triton", "KServe", "OCI"]


def strop_run(root: Path, gates: dict) -> subprocess.CompletedProcess[str]:
    """`strop run` of the tiny problem, with every format that its runtime has for an ONNX model."""
    spec = importlib.util.spec_from_file_location("tiny", TINY)
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    resource = tiny.lay_out(root)
    resource["spec"]["output"]["formats"] = FORMATS
    resource["spec"]["gates"] = gates
    path = tiny.write(root / "resource.yaml", resource)
    command = [sys.executable, "-m", "strop_job.cli", "run", str(path), "--store", str(root)]
    env = os.environ | {"OMP_NUM_THREADS": "2", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=250, env=env, check=False)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that passed its gates."""
    root = tmp_path_factory.mktemp("store")
    done = strop_run(root, {"metricDrop": {"maxPoints": "20"}})
    assert done.returncode == 0, done.stdout + done.stderr
    (pointer,) = root.rglob("current.json")
    return pointer.parent / json.loads(pointer.read_text())["runId"]


def test_the_manifest_tells_measured_files_from_companions(published):
    """Whoever deploys a file must know whether its figures are those of the report."""
    files = {f["name"]: f for f in json.loads((published / "manifest.json").read_text())["files"]}
    measured = {name for name, file in files.items() if file["role"] == "measured"}
    digest = files["engine.onnx"]["digest"].removeprefix("sha256:")
    assert measured == {"engine.onnx", "triton/tiny/1/model.onnx", f"oci/blobs/sha256/{digest}"}
    companions = {"README.md", "provenance.json", "onnx/model.onnx", "kserve/inferenceservice.yaml", "oci/index.json"}
    assert companions | {"triton/tiny/config.pbtxt"} <= files.keys() - measured


def test_every_bundle_opens_where_it_was_published(published, triton_schema, tmp_path):
    """What a server fetches are the published files, not those that a stage left on a disk."""
    config = text_format.Parse((published / "triton/tiny/config.pbtxt").read_text(), triton_schema.ModelConfig())
    assert config.max_batch_size == 16
    manifest = yaml.safe_load((published / "kserve/inferenceservice.yaml").read_text())
    uri = manifest["spec"]["predictor"]["model"]["storageUri"]
    assert uri == f"s3://engines/tiny/{published.name}/triton"
    layout = f"{published / 'oci'}:{published.name}"
    command = [str(binaries.find("oras")), "pull", "--oci-layout", layout, "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "engine.onnx").read_bytes() == (published / "engine.onnx").read_bytes()


def test_the_readme_says_which_server_loads_it(published):
    """The files alone do not say it, and a server of another version fails at its start."""
    text = (published / "README.md").read_text()
    assert "| `triton/tiny/1/model.onnx` |" in text
    assert "take a Triton release whose ONNX Runtime is" in text


def test_no_bundle_is_published_when_a_gate_is_missed(tmp_path):
    """A bundle serves the engine that was refused."""
    done = strop_run(tmp_path, {"size": {"max": "1"}})
    assert done.returncode == 10, done.stdout + done.stderr
    assert not list((tmp_path / "engines").rglob("*"))
