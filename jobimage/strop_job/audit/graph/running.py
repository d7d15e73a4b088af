"""Running a graph at several sizes: what ran, what did not, at which node, and which outputs lost the batch."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort

from strop_job.audit.graph.interface import Arrays, Interface, Sizes, made_up
from strop_job.backends.onnxruntime import session_options
from strop_job.backends.providers import CPU
from strop_job.backends.refusals import NOISE, out_of_memory
from strop_job.errors import OutOfMemory
from strop_job.models.parity import INTEGER_BOUNDS

Call = Callable[[Arrays], Mapping[str, "np.typing.NDArray[np.generic]"]]
FAILED_NODE = re.compile(r"while running (?P<op>\w+) node\. Name:'(?P<node>[^']*)'")
TRACES = (NOISE, re.compile(r"^.*Status Message: "), re.compile(r"/\S+:\d+ \S.*?\) "), re.compile(r"^.* was false\. "))
"""What the runtime's messages hold for its own makers: codes, nodes, lines of its source, conditions."""
THREADS = 2
_END: ContextVar[float | None] = ContextVar("when all calls must have ended, by the monotonic clock", default=None)


class OutOfTime(Exception):  # noqa: N818 - nothing is wrong, it is only not known
    """The calls of a graph together took longer than they may."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """All calls inside end by then: one that takes longer, and every later one, raises OutOfTime.

    One that asks for more memory than there is raises OutOfMemory.

    A graph that comes from anywhere may loop for ever. In a run its own watch bounds the calls, and nothing here does.
    """
    token = _END.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _END.reset(token)


@dataclass(frozen=True)
class Attempt:
    """One call at some sizes."""

    sizes: Sizes
    shapes: Mapping[str, tuple[int, ...]] | None
    """Of the outputs, which are not kept; None where it failed."""
    error: str = ""
    """The runtime's own words, in one line."""
    node: str = ""
    """The node that failed, by the name the runtime gives it."""

    @property
    def where(self) -> str:
        """`batch 3, sequence 16`."""
        return ", ".join(f"{name} {size}" for name, size in self.sizes.items()) or "its fixed size"


def open_model(model: onnx.ModelProto, *, optimized: bool = False, threads: int = THREADS) -> Call:
    """ONNX Runtime on a CPU, as the graph is written or `optimized`. Raises what it raises for a graph it refuses.

    A call yields the outputs that are tensors; sequences, maps and optional values are left out.
    """
    levels = ort.GraphOptimizationLevel
    options = session_options(levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL, threads=threads)
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    names = [output.name for output in session.get_outputs()]
    wanted = {given.name for given in session.get_inputs()}

    def call(inputs: Arrays) -> Mapping[str, "np.typing.NDArray[np.generic]"]:
        made = _bounded(session, names, {name: array for name, array in inputs.items() if name in wanted})
        return {name: value for name, value in zip(names, made, strict=True) if isinstance(value, np.ndarray)}

    return call


def _bounded(session: ort.InferenceSession, names: list[str], inputs: Arrays) -> list[object]:
    """One call, ended where the time of `within` ends."""
    if (left := _seconds_left()) is None:
        return list(session.run(names, inputs))
    if left <= 0:
        raise OutOfTime
    options = ort.RunOptions()
    options.log_severity_level = 4
    bell = threading.Timer(left, setattr, (options, "terminate", True))
    bell.daemon = True
    bell.start()
    try:
        return list(session.run(names, inputs, options))
    except Exception as error:  # whatever the runtime raises for a call it was told to end
        if (_seconds_left() or 0) <= 0:
            raise OutOfTime from None
        raise out_of_memory(error) or error from None
    finally:
        bell.cancel()


def _seconds_left() -> float | None:
    end = _END.get()
    return None if end is None else end - time.monotonic()


def attempt(call: Call, interface: Interface, sizes: Sizes, below: int) -> Attempt:
    """One call on made-up inputs; a refusal is an answer."""
    try:
        made = call(made_up(interface, sizes, below))
        return Attempt(sizes, {name: tuple(value.shape) for name, value in made.items()})
    except (OutOfTime, OutOfMemory):
        raise
    except Exception as error:  # ONNX Runtime's errors have no common base, and other runtimes have their own
        found = FAILED_NODE.search(str(error))
        return Attempt(sizes, None, one_line(error), found["node"] if found else "")


def one_line(error: BaseException, most: int = 160) -> str:
    """A runtime's words for a failure, without its codes, sources and conditions."""
    line = " ".join(str(error).split())
    for pattern in TRACES:
        line = pattern.sub("", line)
    return line[:most].strip() or type(error).__name__


def vocabulary(call: Call, interface: Interface) -> int | None:
    """The largest range of integers that the graph takes at one of its sizes; None when it takes none at any."""
    integers = any(given.dtype.kind in "iu" for given in interface.inputs)
    bounds = INTEGER_BOUNDS if integers else INTEGER_BOUNDS[:1]
    for below in bounds:
        if any(attempt(call, interface, sizes, below).shapes is not None for sizes in interface.sizes):
            return below
    return None


def lost(interface: Interface, attempts: Iterable[Attempt], declared: Mapping[str, str]) -> dict[str, list[Attempt]]:
    """Outputs that do not follow the batch, with the attempts that show it.

    Where a spec promises it, each output leads with the batch. A graph alone may yield what has no batch, such as
    boxes or a table: there an output must follow that is `declared` to lead with it, or that grows with it.
    """
    ran = [one for one in attempts if one.shapes is not None]
    batch = interface.batch
    if batch is None or len({one.sizes[batch] for one in ran}) == 0:
        return {}
    found: dict[str, list[Attempt]] = {}
    for name in ran[0].shapes or {}:
        shapes = [(one, (one.shapes or {})[name]) for one in ran]
        strict = interface.promised or declared.get(name) == batch
        if strict:
            wrong = [one for one, shape in shapes if not shape or shape[0] != one.sizes[batch]]
        else:
            wrong = [one for one, shape in shapes if one.sizes[batch] not in shape] if _grows(shapes, batch) else []
        if wrong:
            found[name] = wrong
    return found


def _grows(shapes: list[tuple[Attempt, tuple[int, ...]]], batch: str) -> bool:
    """Whether an output holds proportionally more for more samples, and so has the batch in some axis."""
    per_sample = {int(np.prod(shape)) / one.sizes[batch] for one, shape in shapes}
    return len(per_sample) == 1 and len({one.sizes[batch] for one, _ in shapes}) > 1
