"""A whole run that signs what it publishes, and runs whose key is of no use: those end before any work is done."""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from strop_api.result import Outcome
from strop_job.worker import PipeReporter, Place, Speaker, work

TINY = Path(__file__).parents[1] / "spine" / "parts" / "tiny.py"


def lay_out(root: Path) -> Path:
    """The tiny problem of the spine's tests; returns its resource's file."""
    spec = importlib.util.spec_from_file_location("tiny", TINY)
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    resource = tiny.lay_out(root)
    resource["spec"]["gates"] = {"metricDrop": {"maxPoints": "20"}, "size": {"max": "1Mi"}}
    return tiny.write(root / "resource.yaml", resource)


def strop(*words, password: str = "hunter2") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strop_job.cli", *map(str, words)]
    env = os.environ | {"OMP_NUM_THREADS": "2", "COLUMNS": "200", "COSIGN_PASSWORD": password}
    return subprocess.run(command, capture_output=True, text=True, timeout=250, env=env, check=False)


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> Path:
    """The store of a run that was signed."""
    root = tmp_path_factory.mktemp("signed")
    key = Path(__file__).with_name("cosign") / "cosign.key"
    done = strop("run", lay_out(root), "--store", root, "--signing-key", key)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    return root


def test_a_signed_run_is_verified_with_its_gates(signed, parts):
    """The parts would each hold, and not the whole."""
    words = ("verify", "s3://engines/tiny", "--store", signed, "--key", parts.cosign / "cosign.pub")
    good = strop(*words, "--require", "metricDrop", "--require", "size", "-o", "json")
    assert good.returncode == 0, good.stdout + good.stderr
    told = json.loads(good.stdout)
    assert (told["signature"], told["evaluationReads"], told["notes"]) == ("Verified", 1, [])
    assert told["hardware"]["cpu_model"]
    assert strop(*words, "--require", "speedup").returncode == 11


def test_the_same_run_again_leaves_what_is_published(signed, parts):
    """A second `strop run` would be refused, or sign anew what others rely on."""
    before = {path: path.read_bytes() for path in (signed / "engines").rglob("*") if path.is_file()}
    again = strop("run", signed / "resource.yaml", "--store", signed, "--signing-key", parts.cosign / "cosign.key")
    assert again.returncode == 0, again.stdout + again.stderr
    assert {path: path.read_bytes() for path in (signed / "engines").rglob("*") if path.is_file()} == before


def test_nothing_of_the_key_is_in_the_store(signed, parts):
    """The report, the records or the statement would hand the key to every reader."""
    secrets = [b"hunter2", *(parts.cosign / "cosign.key").read_bytes().splitlines()[1:-1]]
    for path in signed.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(secret in data for secret in secrets), path


@pytest.mark.parametrize("key", ["wrong password", "malformed", "missing"])
def test_a_useless_key_ends_the_command_before_any_work(tmp_path, parts, key):
    """Hours later the run would fail, or publish unsigned in silence."""
    resource = lay_out(tmp_path)
    path = tmp_path / "my.key"
    if key != "missing":
        data = (parts.cosign / "cosign.key").read_bytes()
        path.write_bytes(data if key == "wrong password" else data[: len(data) // 2])
    before = sorted(tmp_path.rglob("*"))
    done = strop("run", resource, "--store", tmp_path, "--signing-key", path, password="open sesame")
    assert done.returncode == 11, done.stdout + done.stderr
    assert "my.key" in done.stderr
    assert "open sesame" not in done.stdout + done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("broken", ["wrong password", "no key"])
def test_a_useless_secret_ends_the_worker_before_any_work(tmp_path, parts, broken):
    """A policy that wants signatures would get none, and nobody would be told."""
    lay_out(tmp_path / "store")
    signing = tmp_path / "signing"
    signing.mkdir()
    (signing / "cosign.password").write_text("open sesame")
    if broken == "wrong password":
        (signing / "cosign.key").write_bytes((parts.cosign / "cosign.key").read_bytes())
    place = Place(tmp_path / "request", tmp_path / "scratch", tmp_path, tmp_path / "store", signing)
    before = sorted((tmp_path / "store").rglob("*"))
    with (tmp_path / "said").open("wb") as said:
        result = work(place, parts.make_request(), PipeReporter(Speaker(said.fileno())))
    assert result.outcome is Outcome.INVALID_INPUT
    assert "cosign.key" in result.message
    assert "open sesame" not in result.message
    assert sorted((tmp_path / "store").rglob("*")) == before


PAGES = Path(__file__).parents[3] / "docs" / "trust.md", Path(__file__).parents[3] / "README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_the_pages_verify_a_run(signed, parts, page):
    """A reader would copy a command that does not work."""
    lines = [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in page.read_text().splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("strop verify ")]
    assert commands
    for words in commands:
        given = {words[2]: "s3://engines/tiny", "cosign.pub": parts.cosign / "cosign.pub", "s3": signed, "out": signed}
        ended = strop(*(given.get(word, word) for word in words[1:]))
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout.startswith("verified  s3://engines/tiny/")
