"""The audits of a run's own artifacts: a graph or a torch program with the spec's sizes, and the target's runtime."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.checks.graph import BAKED_BATCH, FIXED_AXIS, OPAQUE, SAMPLES_MIXED
from strop_api.findings import Finding
from strop_api.model import ModelSource
from strop_job.audit.graph.interface import Arrays, Interface, of_spec
from strop_job.audit.graph.mixing import FLOAT_NOISE, mixed, mixing_findings, pair_of
from strop_job.audit.graph.quantized import quantized_findings
from strop_job.audit.graph.running import Call as Runs
from strop_job.audit.graph.running import attempt, lost, open_model, vocabulary, within
from strop_job.audit.graph.shapes import served_at, shape_findings
from strop_job.audit.graph.timing import Call
from strop_job.audit.graph.zeros import MANY, Zeros
from strop_job.audit.graph.zeros_judged import count_zeros, judged, measured
from strop_job.backends import Compilation, backend_for
from strop_job.backends.graphs import MODEL_FILE, is_large, load, save
from strop_job.backends.reference import halves_of, has_halves, in_float
from strop_job.benchmark.inputs import synthetic
from strop_job.errors import StropError
from strop_job.hardware import this_machine, why_unmeasured
from strop_job.judgement.statistics import Interval
from strop_job.models.signature import Signature
from strop_job.stages import Artifact, ArtifactKind, StageContext

EXPLAINED_SECONDS = 60.0
"""Time to find the constant behind a refusal."""
TOO_LARGE = "the graph is larger than 2 GiB"


def exported_findings(context: StageContext, exported: Artifact) -> list[Finding]:
    """Sizes and mixing of what was exported."""
    interface = of_spec(context.spec.model)
    if exported.kind is ArtifactKind.EXPORTED_PROGRAM:
        return program_findings(context, exported, interface)
    if not within_reach(exported):
        return [OPAQUE.finding(f"{TOO_LARGE}: it was not run at other sizes")]
    model = in_floats(load(exported))
    call = open_model(model)
    served, below = served_at(call, interface)
    found = shape_findings(model, call, served, below, lambda words: context.report(0.5, words))
    return found if below is None else [*found, *mixing_findings(model, call, interface, below)]


def sizes_explained(exported: Artifact, model: ModelSource) -> list[Finding]:
    """Why a graph that was refused does not serve a spec's sizes; nothing where that takes too long, or is not found.

    It explains an error that is raised in any case, so that whatever fails in here must not hide that one.
    """
    if not within_reach(exported):
        return []
    try:
        with within(EXPLAINED_SECONDS):
            graph = in_floats(load(exported))
            call = open_model(graph)
            return shape_findings(graph, call, *served_at(call, of_spec(model)))
    except Exception:
        return []


def within_reach(graph: Artifact) -> bool:
    """Whether the graph and its weights are within protobuf's limit, so that copies of it can be made and run."""
    return not is_large(sum((graph.folder / name).stat().st_size for name in graph.files))


def in_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in floats that a CPU computes."""
    return in_float(model, halves_of(model)) if has_halves(model) else model


def program_findings(context: StageContext, program: Artifact, interface: Interface) -> list[Finding]:
    """A torch program's own signature first, then running it as it is written."""
    from strop_job.models.program_files import read_signature

    found = list(fixed_in(read_signature(program.entry), interface))
    backend = backend_for(context.target.runtime)
    with closing(backend.open(program, context.target, threads=2, optimized=False, spinning=False)) as session:
        return [*found, *_of_calls(session.run, interface)]


def fixed_in(signature: Signature, interface: Interface) -> Iterator[Finding]:
    """Axes that the spec calls dynamic and the program's symbolic shapes do not."""
    shapes = {one.name: one.shape for one in signature.inputs}
    for given in interface.inputs:
        for at, (axis, size) in enumerate(zip(given.shape, shapes.get(given.name, ()), strict=False)):
            if isinstance(axis, str) and isinstance(size, int):
                yield FIXED_AXIS.finding(f"the program fixes axis {at} of `{given.name}`, {axis}, to {size}")


def _of_calls(call: Runs, interface: Interface) -> Iterator[Finding]:
    """What can be said of anything that runs, without looking inside."""
    below = vocabulary(call, interface)
    attempts = [attempt(call, interface, sizes, below or 1) for sizes in interface.sizes]
    failed = [one for one in attempts if one.shapes is None]
    if failed:
        yield BAKED_BATCH.finding(f"the program fails at {failed[0].where}: {failed[0].error}")
    for name, wrong in lost(interface, attempts, {}).items():
        shape = list((wrong[0].shapes or {})[name])
        yield BAKED_BATCH.finding(f"output `{name}` has shape {shape} at {wrong[0].where}")
    pair = pair_of(interface)
    found = mixed(call, interface, pair, below, FLOAT_NOISE) if pair is not None and below is not None else None
    if found is not None:
        yield SAMPLES_MIXED.finding(
            f"output `{found.output}` of a sample differs by {found.difference:.2g} (relative RMS) in company and alone"
        )


def quantized_graph_findings(graph: Artifact) -> list[Finding]:
    """Of an ONNX graph; other kinds have no Q/DQ nodes to read."""
    if graph.kind is not ArtifactKind.ONNX_GRAPH:
        return []
    return quantized_findings(load(graph))


def zeros_of_run(context: StageContext, exported: Artifact) -> tuple[dict[str, JsonValue] | None, Sequence[Finding]]:
    """Counted on the exported graph; measured on the target's runtime where they are many."""
    if exported.kind is not ArtifactKind.ONNX_GRAPH:
        return None, []
    model = load(exported)
    inputs = synthetic(context.spec.model, context.spec.seed)
    zeros = count_zeros(model, inputs)
    if zeros is None:
        return None, []
    context.report(0.2, f"{zeros.share:.0%} of the weights are zero")
    interval, why = None, why_unmeasured(context.target, this_machine())
    if zeros.share >= MANY and not why:
        interval, why = _measure(context, model, zeros, inputs)
    facts = zeros.facts()
    if interval is not None:
        facts["speedup"] = {"ratio": interval.point, "low": interval.low, "high": interval.high}
    return facts, judged(zeros, interval, why, context.target)


def _measure(
    context: StageContext, model: onnx.ModelProto, zeros: Zeros, inputs: Arrays
) -> tuple[Interval | None, str]:
    """The interval, or None and why there is none."""

    @contextmanager
    def opener(graph: onnx.ModelProto) -> Iterator[Call]:
        target, threads = context.target, this_machine().threads_for(context.target)
        backend = backend_for(target.runtime)
        with TemporaryDirectory(prefix="zeros-", dir=context.folder) as scratch:
            source, made = Path(scratch) / "graph", Path(scratch) / "engine"
            source.mkdir()
            made.mkdir()
            written = Artifact(ArtifactKind.ONNX_GRAPH, source, save(graph, source / MODEL_FILE))
            compiled = backend.compile(
                Compilation(written, context.spec.model, target, made, lambda _share, _words: None, context.cache)
            )
            with closing(backend.open(compiled, target, threads=threads, spinning=False)) as session:
                fed: Mapping[str, NDArray[Any]] = {name: np.asarray(value) for name, value in inputs.items()}
                yield lambda: session.run(fed)

    try:
        return measured(model, zeros, opener, context.spec.seed), ""
    except StropError as error:
        return None, error.message
