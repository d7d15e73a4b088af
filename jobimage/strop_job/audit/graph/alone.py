"""An ONNX file that comes alone: what it shows with no spec, no data and no target."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import onnx

from strop_api.checks import worst_first
from strop_api.checks.graph import OPAQUE, UNREADABLE
from strop_api.findings import Finding, Severity
from strop_job.audit.graph import health
from strop_job.audit.graph.interface import Interface, made_up, of_graph
from strop_job.audit.graph.mixing import mixing_findings
from strop_job.audit.graph.of_run import TOO_LARGE, in_floats, within_reach
from strop_job.audit.graph.quantized import quantized_findings
from strop_job.audit.graph.running import Call as Run
from strop_job.audit.graph.running import OutOfTime, one_line, open_model, within
from strop_job.audit.graph.shapes import fixed_axes, served_at, shape_findings
from strop_job.audit.graph.timing import Call
from strop_job.audit.graph.zeros import MANY
from strop_job.audit.graph.zeros_judged import count_zeros, judged, measured
from strop_job.backends.graphs import load, sort_nodes
from strop_job.backends.refusals import REFUSED, refused
from strop_job.errors import OutOfMemory, StropError, Unsupported
from strop_job.models.onnx_files import tensors
from strop_job.stages import Artifact, ArtifactKind

SEED = 0
SECONDS = 60.0
"""Of all calls of one file together: one from anywhere may loop for ever, or take minutes for one call."""


def examine(path: Path, seconds: float = SECONDS, *, run: bool = True) -> list[Finding]:
    """Everything, worst first; what takes no run where `run` is false. Never raises for what is in the file."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        whole = bool(model.graph.output)
    except Exception as error:  # protobuf's and onnx's errors differ by implementation
        return [UNREADABLE.finding(f"{path.name} is no ONNX model: {one_line(error)}")]
    if not whole:
        return [UNREADABLE.finding(f"{path.name} holds no graph with outputs")]
    gone = list(health.missing_data(model, path.parent))
    found = [*gone, *health.operator_sets(model), *health.foreign_operators(model), *health.doubles(model)]
    if run and not gone:
        wrong = list(health.refused_by_checker(path))
        graph = Artifact(ArtifactKind.ONNX_GRAPH, path.parent, (path.name, *_beside(model)))
        found += [*wrong, *_looked_into(graph, seconds, refused_elsewhere=bool(wrong))]
    return worst_first(found)


def _beside(model: onnx.ModelProto) -> list[str]:
    """Names of the files with the graph's weights."""
    outside = (t for t in tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL)
    return sorted({e.value for t in outside for e in t.external_data if e.key == "location"})


def _looked_into(graph: Artifact, seconds: float, *, refused_elsewhere: bool) -> list[Finding]:
    """What takes the weights, and running. A graph that onnx's checker refuses may only be out of order."""
    if not within_reach(graph):
        return [OPAQUE.finding(f"{TOO_LARGE}: it was read, and not run")]
    found: list[Finding] = []
    try:
        model = load(graph)
        if refused_elsewhere:
            sort_nodes(model.graph)
        found += quantized_findings(model)
        with within(seconds):
            for more in _ran(in_floats(model)):
                found += more
    except REFUSED as error:
        found.append(_not_run(graph.entry, error, refused_elsewhere))
    except OutOfTime:
        found.append(
            OPAQUE.finding(f"its calls took more than {seconds:g} s, so not all was tried", severity=Severity.MEDIUM)
        )
    except OutOfMemory as error:
        found.append(OPAQUE.finding(f"not all of it was run: {error.message}", severity=Severity.MEDIUM))
    except Unsupported as error:
        found.append(OPAQUE.finding(f"not run, only read: {error.message}"))
    except StropError as error:
        found.append(UNREADABLE.finding(error.message))
    return found


def _not_run(path: Path, error: BaseException, refused_elsewhere: bool) -> Finding:
    """A graph that one runtime does not load: for want of an operator, or because it is wrong, by one judge or two."""
    means = refused(path, error)
    if isinstance(means, Unsupported):
        return OPAQUE.finding(f"not run, only read: {means.message}")
    return UNREADABLE.finding(means.message, severity=None if refused_elsewhere else Severity.HIGH)


def _ran(model: onnx.ModelProto) -> Iterator[list[Finding]]:
    """Sizes, then mixing, then zeros: each as soon as it is known."""
    interface = of_graph(model)
    call = open_model(model)
    served, below = served_at(call, interface)
    sizes = [*fixed_axes(model), *shape_findings(model, call, served, below)]
    if below is None:
        yield sizes or [OPAQUE.finding("it takes none of the made-up inputs that were tried, so little was run")]
        return
    yield sizes
    yield mixing_findings(model, call, served, below)
    yield _zeros(model, served, below)


def _zeros(model: onnx.ModelProto, interface: Interface, below: int) -> list[Finding]:
    inputs = made_up(interface, interface.sizes[0], below)
    zeros = count_zeros(model, inputs)
    if zeros is None:
        return []

    @contextmanager
    def opener(graph: onnx.ModelProto) -> Iterator[Call]:
        run: Run = open_model(graph, optimized=True, threads=1)
        yield partial(run, inputs)

    interval = measured(model, zeros, opener, SEED) if zeros.share >= MANY else None
    return judged(zeros, interval, "", None)
