"""As people call it: through the real kubectl, and on a real terminal."""

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time

import pytest

from cluster import binaries


@pytest.fixture
def kubectl(strop, tmp_path):
    """Runs the real kubectl, with the plugin on its path."""
    for name, entry in (("kubectl-strop", "main"), ("kubectl_complete-strop", "complete")):
        program, path = tmp_path / "programs" / name, tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"from strop_cli.entry import {entry}\n{entry}()\n")
        # A first line names no interpreter in a folder with a space.
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(program))} "$@"\n')
        path.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(strop.kubeconfig.read_text())
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECONFIG": str(config)}

    def run(*words):
        command = [binaries.find("kubectl"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    run("config", "set-context", "--current", f"--namespace={strop.namespace}")
    return run


def test_kubectl_finds_the_plugin_and_its_context_is_the_plugins(kubectl, tell):
    """Broken, `kubectl strop` would not exist, or ask another namespace than kubectl does."""
    tell("GateMissed")
    done = kubectl("strop", "ls")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:3] == ["digits", "False", "GateMissed"]
    assert kubectl("strop", "status", "digits").returncode == 10


def test_kubectl_completes_names_of_resources(kubectl, tell):
    """Broken, kubectl would offer file names."""
    tell("Published", "digits-int8")
    done = kubectl("__complete", "strop", "status", "dig")
    assert done.stdout.splitlines() == ["digits-int8", ":4"], done.stderr


def test_a_pipe_that_is_closed_is_no_trace(strop, tell):
    """Broken, `strop ls | head -1` would end in a trace."""
    tell("Published")
    command = f"'{sys.executable}' -m strop_cli ls {' '.join(strop.place)} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr


def test_on_a_terminal_the_tree_is_redrawn_and_fits(strop, tell):
    """Broken, people would see torn lines, or nothing until the end."""
    tell("Running", progress={"stage": "quantize", "percent": 40, "message": "a message that goes on for a while"})
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    environment = os.environ | {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    command = [sys.executable, "-m", "strop_cli", "status", "digits", *strop.place]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    assert "40 %" in _until(master, "40 %")
    tell("GateMissed", message="speed-up 0.9x is below 1.5x", progress=None)
    seen = _until(master, "\0")
    assert process.wait(20) == 10
    os.close(master)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.rpartition("\x1b[2K")[2])
    assert "GateMissed" in last
    assert max(len(line.rstrip()) for line in last.splitlines()) <= 80


def _until(master, words, seconds=30):
    """What the terminal shows until these words, or until nobody writes to it any more."""
    seen, deadline = "", time.monotonic() + seconds
    while words not in seen and time.monotonic() < deadline:
        if not select.select([master], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data.decode(errors="replace")
    return seen
