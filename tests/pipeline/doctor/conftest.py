"""Files for the doctor to look at, and the command as a person runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from strop_job import cli

TRAP = "import torch\n\n\ndef export(model, example):\n    torch.onnx.export(model, example, 'm.onnx')\n"
REMOVED = "import tensorrt as trt\n\nFLAG = trt.BuilderFlag.FP16\n"
Doctor = Callable[..., Result]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    """`strop doctor` with its arguments, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli.app, ["doctor", *map(str, arguments)])

    return run


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program with one finding that is Low."""
    return _written(tmp_path / "trap.py", TRAP)


@pytest.fixture
def removed(tmp_path: Path) -> Path:
    """A program with one finding that is High."""
    return _written(tmp_path / "removed.py", REMOVED)


@pytest.fixture
def findings(doctor: Doctor) -> Callable[..., list[dict[str, Any]]]:
    """The findings that the command prints as JSON."""

    def run(*arguments: str | Path) -> list[dict[str, Any]]:
        printed = json.loads(doctor(*arguments, "--format", "json").stdout)
        return [finding for entry in printed for finding in entry["findings"]]

    return run


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
