"""A builder's nested phases as one percentage, and a process that does not stand still."""

import subprocess
import sys
from pathlib import Path

import pytest

from strop_job.backends.tensorrt.progress import Phases, Watch
from strop_job.errors import Evicted

from .conftest import encoder


def test_a_phase_inside_a_step_counts_as_part_of_that_step() -> None:
    """A builder spends its minutes in inner phases; a percentage of the outermost alone would stand still."""
    phases = Phases()
    phases.start("build", None, 4)
    phases.step("build", 0)
    phases.start("optimize", "build", 10)
    phases.step("optimize", 4)
    assert phases.share == pytest.approx((1 + 0.5) / 4)
    phases.finish("optimize")
    phases.step("build", 1)
    assert phases.share == pytest.approx(0.5)


def test_the_share_never_falls() -> None:
    """Phases of one name come again and again."""
    phases = Phases()
    phases.start("build", None, 2)
    for _ in range(2):
        phases.start("time", "build", 2)
        phases.step("time", 1)
        phases.finish("time")
        assert phases.share == pytest.approx(0.5)


def test_a_step_of_an_unknown_phase_changes_nothing() -> None:
    """The library may finish a phase before its last step is told."""
    phases = Phases()
    phases.step("gone", 3)
    phases.start("child", "a parent that never began", 2)
    phases.step("child", 0)
    assert phases.share == 0.0


def test_whatever_a_report_raises_stops_the_build_and_is_kept() -> None:
    """An exception must not pass through the library's C++: it would end the process without a result."""

    def report(share: float, text: str) -> None:
        raise Evicted("stopped by SIGTERM")

    watch = Watch(report, 0.0, 1.0)
    watch.start("build", None, 10)
    assert watch.step("build", 0) is False
    assert isinstance(watch.stopped, Evicted)
    assert watch.step("build", 1) is False


SCRIPT = """
import gc
import sys
from contextlib import nullcontext
from pathlib import Path
from strop_api.targets import Runtime
from strop_job.backends.tensorrt.library import load_library, uncollected
from strop_job.backends.tensorrt.network import parse
from strop_job.errors import Unsupported

library, guard = load_library(Runtime.TENSORRT_RTX), uncollected if sys.argv[2] == "guarded" else nullcontext
for round in range(60):
    gc.set_threshold(20 + 23 * (round % 20), 2, 2)
    for name in ("refused.onnx", "model.onnx"):
        ring = []
        with guard():
            try:
                ring = [parse(library, Path(sys.argv[1], name))]
            except Unsupported as error:
                ring = [error]
        ring.append(ring)
        del ring
print("done")
"""


def build_among_garbage(folder: Path, guard: str, seconds: float) -> str:
    """What the script prints: builders in rings of garbage, one network refused, the next one taken."""
    refused = encoder()
    refused.graph.node[1].op_type = "Frobnicate"
    (folder / "refused.onnx").write_bytes(refused.SerializeToString())
    (folder / "model.onnx").write_bytes(encoder().SerializeToString())
    command = [sys.executable, "-c", SCRIPT, str(folder), guard]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True).stdout


def test_builders_in_garbage_do_not_stop_the_process(tmp_path: Path) -> None:
    """A collection inside the library's call of the logger frees an old builder and waits for a lock for ever."""
    assert build_among_garbage(tmp_path, "guarded", 60) == "done\n"
