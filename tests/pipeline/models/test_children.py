"""Children that export and compile: nothing of them is left behind."""

import sys
from pathlib import Path

from cluster.shell import wait_until
from strop_job.models.exporter import run_child

LEAVES_ONE_BEHIND = """
import pathlib, subprocess, sys
folder = pathlib.Path(sys.argv[1]).parent
left = subprocess.Popen(["sleep", "600"])
(folder / "left").write_text(str(left.pid))
(folder / "result.json").write_text("{}")
"""


def runs(pid: int) -> bool:
    """Whether a process computes still; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    """A compiler that outlives its caller takes the processor from what is measured next."""
    command = [sys.executable, "-c", LEAVES_ONE_BEHIND]
    run_child(command, tmp_path, {}, {}, what="export", waiting=lambda: None)
    left = int((tmp_path / "left").read_text())
    wait_until("its end", lambda: not runs(left), 5)
