"""The two layouts of control groups: where pods are, and whether the node can limit them."""

import os
from contextlib import suppress
from pathlib import Path

from .shell import ClusterError

_ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = _ROOT / "cgroup.controllers"  # only version 2 has it


def check() -> None:
    """Raise ClusterError unless the kubelet can limit CPU, memory and processes."""
    if _CONTROLLERS.exists():
        offered = set(_CONTROLLERS.read_text().split())
    else:
        offered = {path.name for path in _ROOT.iterdir() if path.is_dir()}
    if missing := {"cpu", "memory", "pids"} - offered:
        raise ClusterError(f"no control group controller for {', '.join(sorted(missing))} in {_ROOT}")


def remove_pods() -> None:
    """Remove the groups that the kubelet made, the innermost first; one with a process in it stays."""
    tops = [_ROOT / "kubepods"] if _CONTROLLERS.exists() else _ROOT.glob("*/kubepods")
    for top in tops:
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
