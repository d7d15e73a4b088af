"""One binary, two halves: neither fails where the other's libraries are absent."""

import subprocess
import sys

import pytest

CLUSTER = ("kubernetes",)
WORKER = ("numpy", "onnx", "onnxruntime", "psutil", "pyarrow", "tokenizers", "jinja2", "matplotlib", "torch", "sympy",
          "safetensors", "PIL", "securesystemslib", "cryptography", "nacl", "openvino")  # fmt: skip
BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = {words!r}
from strop_cli.entry import main
main()
"""


def run(absent, *words, program="strop"):
    """The command line in an interpreter where these libraries cannot be imported."""
    code = BLOCKED.format(absent=set(absent), words=[program, *words])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("absent", "words", "extra"),
    [
        (CLUSTER, ("ls",), "strop[cli]"),
        (WORKER, ("run", "crds/samples/minilm-int8.yaml"), "strop[job]"),
        (("typer", "rich"), ("--help",), "strop[cli]"),
    ],
)
def test_a_command_of_the_missing_half_says_which_extra_to_install(absent, words, extra):
    """Broken, people would see a trace, and guess."""
    done = run(absent, *words)
    assert done.returncode == 2
    assert extra in done.stderr
    assert "Traceback" not in done.stderr


def test_the_worker_starts_without_the_clusters_client():
    """Broken, every pod of every worker image would fail at its start."""
    done = run(CLUSTER, "worker", "--help")
    assert done.returncode == 0, done.stderr
    assert "--termination-log" in done.stdout


def test_the_help_lists_both_halves_without_either():
    """Broken, nobody would learn that the other half exists."""
    done = run((*CLUSTER, *WORKER), "--help")
    assert done.returncode == 0, done.stderr
    for name in ("status", "get-engine", "doctor", "worker"):
        assert name in done.stdout


def test_a_command_of_this_machine_runs_in_the_composed_program(tmp_path):
    """Broken, `strop doctor` would have been lost with the new entry."""
    path = tmp_path / "program.py"
    path.write_text("x = 1\n")
    done = run(CLUSTER, "doctor", str(path))
    assert done.returncode == 0, done.stderr


def test_as_a_plugin_it_calls_itself_so():
    """Broken, the help would name a program that is not on the user's path."""
    done = run((), "ls", "--help", program="/usr/local/bin/kubectl-strop")
    assert "Usage: kubectl strop ls" in done.stdout


def test_a_bug_stays_a_bug():
    """Broken, a module that we forgot would be told as an extra to install."""
    done = run(("difflib",), "ls")
    assert "ModuleNotFoundError" in done.stderr
