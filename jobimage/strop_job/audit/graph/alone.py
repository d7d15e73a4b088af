"""An ONNX file that comes alone: what it shows with no spec, no data and no target."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import onnx
import onnxruntime as ort

from strop_api.checks import worst_first
from strop_api.checks.graph import OPAQUE, UNREADABLE
from strop_api.findings import Finding, Severity
from strop_job.audit.graph import health
from strop_job.audit.graph.interface import Interface, made_up, of_graph
from strop_job.audit.graph.mixing import mixing_findings
from strop_job.audit.graph.of_run import TOO_LARGE, readable
from strop_job.audit.graph.quantized import quantized_findings
from strop_job.audit.graph.running import open_model
from strop_job.audit.graph.shapes import fixed_axes, served_at, shape_findings
from strop_job.audit.graph.timing import Call
from strop_job.audit.graph.zeros import MANY
from strop_job.audit.graph.zeros_judged import count_zeros, judged, measured
from strop_job.backends.graphs import load, sort_nodes
from strop_job.backends.onnxruntime import session_options
from strop_job.backends.providers import CPU
from strop_job.backends.refusals import REFUSED, refused
from strop_job.errors import StropError, Unsupported
from strop_job.models.onnx_files import tensors
from strop_job.stages import Artifact, ArtifactKind

SEED = 0


def examine(path: Path) -> list[Finding]:
    """Everything, worst first. Never raises for what is in the file."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        whole = bool(model.graph.output)
    except Exception as error:  # protobuf's and onnx's errors differ by implementation
        return [UNREADABLE.finding(f"{path.name} is no ONNX model: {_line(error)}")]
    if not whole:
        return [UNREADABLE.finding(f"{path.name} holds no graph with outputs")]
    gone = list(health.missing_data(model, path.parent))
    found = [*gone, *health.operator_sets(model), *health.foreign_operators(model), *health.doubles(model)]
    if not gone:
        found += [*health.refused_by_checker(path), *_looked_into(path)]
    return worst_first(found)


def _looked_into(path: Path) -> list[Finding]:
    """What takes the weights, and running."""
    graph = Artifact(ArtifactKind.ONNX_GRAPH, path.parent, (path.name, *_beside(path)))
    try:
        model = readable(graph)
    except StropError as error:
        return [UNREADABLE.finding(error.message)]
    if model is not None and list(health.refused_by_checker(path)):
        sort_nodes(model.graph)
    if model is None:
        return [OPAQUE.finding(f"{TOO_LARGE}: it was read, and not run")]
    found = quantized_findings(load(graph))
    try:
        return [*found, *_ran(model)]
    except REFUSED as error:
        return [*found, _not_run(path, error)]


def _beside(path: Path) -> list[str]:
    """Names of the files with the graph's weights."""
    model = onnx.load(str(path), load_external_data=False)
    outside = (t for t in tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL)
    return sorted({e.value for t in outside for e in t.external_data if e.key == "location"})


def _not_run(path: Path, error: BaseException) -> Finding:
    """A graph that one runtime does not load: for want of an operator, or because it is wrong, by one judge or two."""
    means = refused(path, error)
    if isinstance(means, Unsupported):
        return OPAQUE.finding(f"not run, only read: {means.message}")
    both = bool(list(health.refused_by_checker(path)))
    return UNREADABLE.finding(means.message, severity=None if both else Severity.HIGH)


def _ran(model: onnx.ModelProto) -> list[Finding]:
    """Sizes, mixing and zeros."""
    interface = of_graph(model)
    found = [*fixed_axes(model), *shape_findings(model, interface)]
    served, below = served_at(open_model(model), interface)
    if below is None:
        words = "it takes none of the made-up inputs that were tried, so little was run"
        return found or [OPAQUE.finding(words)]
    return [*found, *mixing_findings(model, served, below), *_zeros(model, served, below)]


def _zeros(model: onnx.ModelProto, interface: Interface, below: int) -> list[Finding]:
    inputs = made_up(interface, interface.sizes[0], below)
    zeros = count_zeros(model, inputs)
    if zeros is None:
        return []

    @contextmanager
    def opener(graph: onnx.ModelProto) -> Iterator[Call]:
        options = session_options(ort.GraphOptimizationLevel.ORT_ENABLE_ALL, threads=1)
        session = ort.InferenceSession(graph.SerializeToString(), options, providers=[CPU])
        yield partial(session.run, None, inputs)

    interval = measured(model, zeros, opener, SEED) if zeros.share >= MANY else None
    return judged(zeros, interval, "", None)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
