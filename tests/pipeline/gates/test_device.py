"""What the driver says of a GPU is read as it stands; parts of a call are reported where a session can tell them."""

import sys
from pathlib import Path

import pytest

from strop_job.backends.base import CallTimes
from strop_job.benchmark.contender import Contender
from strop_job.benchmark.device import device_bytes, gpu_states, parse_memory, parse_states, throttling
from strop_job.benchmark.facts import part_facts
from strop_job.benchmark.inputs import synthetic
from strop_job.benchmark.protocol import OPTIMUM, Setup, Turn, write_inputs

STATES = "0, 1980, 1980, 41, 0x0000000000000000\n1, 345, 1980, 87, 0x0000000000000029\n"


def test_clock_temperature_and_throttling_are_read() -> None:
    """A latency taken at half the clock would look like any other."""
    first, second = parse_states(STATES)
    assert (first.sm_megahertz, first.celsius, first.throttled_by) == (1980, 41, ())
    assert second.throttled_by == ("idle", "hardware slowdown", "software thermal slowdown")
    assert throttling((first, second)) == ("hardware slowdown", "software thermal slowdown")


def test_what_the_driver_does_not_tell_is_unknown_and_not_zero() -> None:
    """A virtual GPU that hides its clock would be reported at 0 MHz, and as not throttled."""
    (state,) = parse_states("0, [N/A], [N/A], [Not Supported], [N/A]\n")
    assert (state.sm_megahertz, state.celsius, state.throttled_by) == (None, None, None)
    assert parse_states("No devices were found\n") == ()


def test_an_older_driver_is_asked_by_the_older_name() -> None:
    """Drivers before 535 would tell nothing at all, because they refuse a field they do not know."""
    asked = []

    def old(arguments: str) -> str:
        asked.append(arguments)
        return "" if "clocks_event_reasons" in arguments else STATES

    assert len(gpu_states(old)) == 2
    assert len(asked) == 2
    assert gpu_states(lambda arguments: "") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4711, 512\n99, 1024\n", 512 << 20),
        ("4711, 512\n4711, 256\n", 768 << 20),
        ("99, 1024\n", None),
        ("4711, [N/A]\n", None),
        ("", None),
    ],
)
def test_device_memory_is_that_of_the_process_alone(text: str, expected: int | None) -> None:
    """A neighbour's memory would count, or an unknown one as none."""
    assert parse_memory(text, 4711) == expected
    assert device_bytes(4711, lambda arguments: text) == expected


def test_parts_are_medians_and_absent_without_a_clock() -> None:
    """Copies would be claimed of a runtime that cannot tell them apart."""
    assert part_facts(()) == {}
    parts = tuple(CallTimes(10.0 * n, 100.0, 5.0) for n in (1, 2, 3))
    facts = {"copyInMicroseconds": 20.0, "computeMicroseconds": 100.0, "copyOutMicroseconds": 5.0}
    assert part_facts(parts) == facts
    replayed = CallTimes(10.0, 60.0, 5.0, cuda_graph=True)
    assert part_facts((*parts, replayed)) == facts | {"cudaGraphComputeMicroseconds": 60.0}


TIMED = '''
import sys, time
from strop_job.backends import backend_for
from strop_job.benchmark.child import serve
from strop_job.backends.base import CallTimes
from strop_job.errors import Unsupported

class Timed:
    """A real session whose copies are real copies on the host."""

    def __init__(self, session):
        self.session = session

    def run(self, inputs):
        return self.session.run(inputs)

    def run_timed(self, inputs):
        start = time.perf_counter_ns()
        copied = {name: array.copy() for name, array in inputs.items()}
        ready = time.perf_counter_ns()
        outputs = self.session.run(copied)
        done = time.perf_counter_ns()
        back = {name: array.copy() for name, array in outputs.items()}
        return back, CallTimes((ready - start) / 1e3, (done - ready) / 1e3, (time.perf_counter_ns() - done) / 1e3)

    def capture(self, inputs):
        raise Unsupported("a processor records no graph")

def load(setup):
    return Timed(backend_for(setup.target.runtime).open(setup.engine, setup.target, threads=1)), 0

sys.exit(serve(sys.argv[1:], load))
'''


@pytest.mark.parametrize("can", [True, False])
def test_only_a_session_that_can_tell_parts_apart_is_asked(make_spec, make_engine, tmp_path: Path, can: bool) -> None:
    """The benchmark of a runtime on the CPU would fail, or the parts of one on a GPU be lost on their way."""
    spec = make_spec()
    write_inputs(tmp_path, OPTIMUM, synthetic(spec.model, 0))
    setup = Setup(make_engine("x", 1), spec.targets[0], 1, True, tmp_path)
    script = tmp_path / "timed.py"
    script.write_text(TIMED)
    command = {"command": (sys.executable, str(script))} if can else {}
    with Contender("optimized", setup, tmp_path, **command) as contender:
        contender.loaded(lambda: None)
        answer = contender.take(Turn(1, 7, 5.0, apart=True), lambda: None)
    assert answer.microseconds == ()
    assert len(answer.parts) == (7 if can else 0)
    assert all(part.compute_microseconds > 0 for part in answer.parts)
