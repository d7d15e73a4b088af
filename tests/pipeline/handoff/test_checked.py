"""What a converter's child says it checked, taken from a child that may run the model's own code."""

import json
from pathlib import Path
from typing import Any

import pytest

from strop_api.model import ModelSource
from strop_api.targets import OutputFormat
from strop_job.errors import InvalidInput
from strop_job.handoff.checked import LIMIT_BYTES, checked_facts
from strop_job.handoff.device import DeviceEnvironment, device_stage

MODEL = {
    "uri": "s3://models/cnn/model.safetensors",
    "format": "Safetensors",
    "architecture": {"callable": "strop_job.zoo.cnn:classifier", "arguments": {"width": 4}},
    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
    "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 32}],
}
TOLD: dict[str, Any] = {
    "inputs": [{"name": "image", "dtype": "float32", "shape": [4, 1, 8, 8]}],
    "outputs": [{"name": "output", "dtype": "float32", "shape": [4, 10]}],
    "worstDifference": 2e-6,
}
LIES = {"format": "Engine", "notes": ["It was measured."], "passed": True}
CHILD = """#!/bin/sh
mkdir out
echo converted > out/model.tflite
cat > check.json <<'END'
{said}
END
echo '{{}}' > result.json
"""


def told(folder: Path, content: bytes, wanted: OutputFormat = OutputFormat.LITERT) -> dict[str, Any]:
    """The facts taken from a file with this content."""
    (folder / "check.json").write_bytes(content)
    return checked_facts(folder / "check.json", wanted, ModelSource.model_validate(MODEL))


def test_a_child_writes_neither_the_format_nor_the_notes(bench, parts, tmp_path):
    """A model's own code could call its file measured in the report and the status."""
    python = tmp_path / "python"
    python.write_text(CHILD.format(said=json.dumps(TOLD | LIES)))
    python.chmod(0o755)
    request = parts.request_of(parts.spec_of(model=MODEL))
    environment = DeviceEnvironment(str(python), {"torch": "2", "litert-torch": "1", "ai-edge-litert": "2"})
    stage = device_stage(
        "bundle-litert", request.spec, OutputFormat.LITERT, environment, model="resolve-model", code=None
    )
    made = bench.run(stage, request, resolve_model=bench.source())
    assert made.files == ("model.tflite",)
    assert made.facts.keys() == {"format", "notes", *TOLD}
    assert {name: made.facts[name] for name in TOLD} == TOLD
    assert made.facts["format"] == "LiteRT"
    (note,) = made.facts["notes"]
    assert "image [4, 1, 8, 8]" in note
    assert "difference to the original was 2e-06" in note
    assert "neither evaluated nor timed" in note


def test_core_ml_is_said_not_to_have_run(tmp_path):
    """No figure is there for what was not run, whatever the child says."""
    facts = told(tmp_path, json.dumps(TOLD | LIES).encode(), OutputFormat.CORE_ML)
    assert facts.keys() == {"inputs", "outputs", "notes"}
    assert "It was not run" in facts["notes"][0]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(TOLD).encode() + b" " * LIMIT_BYTES,
        json.dumps(TOLD)[:-1].encode(),
        b"\xff",
        b"[" * 60_000,
        json.dumps([TOLD]).encode(),
        json.dumps({**TOLD, "inputs": "image"}).encode(),
        json.dumps({**TOLD, "outputs": [{"name": "output"}]}).encode(),
        json.dumps({**TOLD, "worstDifference": "none"}).encode(),
        json.dumps({**TOLD, "worstDifference": float("nan")}).encode(),
        json.dumps({**TOLD, "worstDifference": True}).encode(),
    ],
    ids=["large", "cut", "bytes", "deep", "list", "inputs", "outputs", "words", "nan", "bool"],
)
def test_what_is_not_as_it_should_be_is_an_error_of_the_input(tmp_path, content):
    """The worker would read without a bound, or end with a trace of its own."""
    with pytest.raises(InvalidInput, match=r"spec\.output\.formats: the conversion does not tell what it checked"):
        told(tmp_path, content)
