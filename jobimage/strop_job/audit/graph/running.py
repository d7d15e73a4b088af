"""Running a graph at several sizes: what ran, what did not, at which node, and which outputs lost the batch."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort

from strop_job.audit.graph.interface import BOUNDS, Arrays, Interface, Sizes, made_up
from strop_job.backends.onnxruntime import session_options
from strop_job.backends.providers import CPU
from strop_job.backends.refusals import first_line

Call = Callable[[Arrays], Mapping[str, "np.typing.NDArray[np.generic]"]]
FAILED_NODE = re.compile(r"while running (?P<op>\w+) node\. Name:'(?P<node>[^']*)'")
STATUS = re.compile(r"^.*Status Message: (?:/\S+:\d+ .*?\) )?")
THREADS = 2


@dataclass(frozen=True)
class Attempt:
    """One call at some sizes."""

    sizes: Sizes
    outputs: Mapping[str, "np.typing.NDArray[np.generic]"] | None
    """None where it failed."""
    error: str = ""
    """The runtime's own words, in one line."""
    node: str = ""
    """The node that failed, by the name the runtime gives it."""

    @property
    def where(self) -> str:
        """`batch 3, sequence 16`."""
        return ", ".join(f"{name} {size}" for name, size in self.sizes.items()) or "its fixed size"


def open_model(model: onnx.ModelProto) -> Call:
    """ONNX Runtime on a CPU with every optimization off. Raises what it raises for a graph it does not take."""
    options = session_options(ort.GraphOptimizationLevel.ORT_DISABLE_ALL, threads=THREADS)
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    names = [output.name for output in session.get_outputs()]
    wanted = {given.name for given in session.get_inputs()}

    def call(inputs: Arrays) -> Mapping[str, "np.typing.NDArray[np.generic]"]:
        kept = {name: array for name, array in inputs.items() if name in wanted}
        return dict(zip(names, session.run(names, kept), strict=True))

    return call


def attempt(call: Call, interface: Interface, sizes: Sizes, below: int) -> Attempt:
    """One call on made-up inputs; a refusal is an answer."""
    try:
        return Attempt(sizes, call(made_up(interface, sizes, below)))
    except Exception as error:  # ONNX Runtime's errors have no common base, and other runtimes have their own
        found = FAILED_NODE.search(str(error))
        return Attempt(sizes, None, STATUS.sub("", first_line(error)), found["node"] if found else "")


def vocabulary(call: Call, interface: Interface) -> int | None:
    """The largest range of integers that the graph takes at one of its sizes; None when it takes none at any."""
    bounds = BOUNDS if any(given.dtype.kind in "iu" for given in interface.inputs) else BOUNDS[:1]
    for below in bounds:
        if any(attempt(call, interface, sizes, below).outputs is not None for sizes in interface.sizes):
            return below
    return None


def lost(interface: Interface, attempts: Iterable[Attempt], declared: Mapping[str, str]) -> dict[str, list[Attempt]]:
    """Outputs that do not follow the batch, with the attempts that show it.

    Where a spec promises it, each output leads with the batch. A graph alone may yield what has no batch, such as
    boxes or a table: there an output must follow that is `declared` to lead with it, or that grows with it.
    """
    ran = [one for one in attempts if one.outputs is not None]
    batch = interface.batch
    if batch is None or len({one.sizes[batch] for one in ran}) == 0:
        return {}
    found: dict[str, list[Attempt]] = {}
    for name in ran[0].outputs or {}:
        shapes = [(one, _shape_of(one, name)) for one in ran]
        strict = interface.promised or declared.get(name) == batch
        if strict:
            wrong = [one for one, shape in shapes if not shape or shape[0] != one.sizes[batch]]
        else:
            wrong = [one for one, shape in shapes if one.sizes[batch] not in shape] if _grows(shapes, batch) else []
        if wrong:
            found[name] = wrong
    return found


def _shape_of(one: Attempt, name: str) -> tuple[int, ...]:
    return tuple((one.outputs or {})[name].shape)


def _grows(shapes: list[tuple[Attempt, tuple[int, ...]]], batch: str) -> bool:
    """Whether an output holds proportionally more for more samples, and so has the batch in some axis."""
    per_sample = {int(np.prod(shape)) / one.sizes[batch] for one, shape in shapes}
    return len(per_sample) == 1 and len({one.sizes[batch] for one, _ in shapes}) > 1
