"""Locating a failed compile parity: copies of engine and graph show their inner tensors on the same real samples.

Where the engine is a graph on the disk, a copy of the engine itself is looked into, fused as it is. Elsewhere, and
where that shows nothing, a copy of the graph that shows some tensors is compiled anew: to show a tensor keeps it from
being fused away, so that what vanishes under the look is said to appear only when layers are fused. The published
engine is never touched.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from strop_api.model import ModelSource
from strop_api.targets import Target
from strop_job.backends import Arrays, Backend, Compilation
from strop_job.errors import StropError
from strop_job.stages import Artifact, Report, SharedCache
from strop_job.verification.locate import Divergence, Search, relative_errors
from strop_job.verification.marking import Marker, engine_marker, marker_of


@dataclass(frozen=True)
class Suspect:
    """An engine that is not its graph, and where that shows."""

    engine: Artifact
    graph: Artifact
    inputs: Arrays
    """One call at which they part."""
    bound: float
    """The relative error that compiling may add."""


@dataclass(frozen=True)
class Lab:
    """With what it is looked into."""

    backend: Backend
    target: Target
    model: ModelSource
    threads: int
    scratch: Path
    report: Report
    cache: SharedCache


def locate(suspect: Suspect, lab: Lab) -> Divergence:
    """The first layer that diverges, or why it is not named. Never raises what a library raises about a copy."""
    marker = marker_of(suspect.graph)
    if marker is None:
        return Divergence(
            None, note=f"the layer is not located for {lab.target.runtime}: its graph shows no inner tensor"
        )
    opener = engine_marker(suspect.engine, lab.target)
    found = Divergence(None)
    try:
        if opener is not None:
            found = _in_the_engine(suspect, lab, marker, opener)
        return found if found.spot is not None else _in_copies(suspect, lab, marker)
    except StropError as error:
        return Divergence(None, note=f"the layer was not located: {error.message}")


def _in_the_engine(suspect: Suspect, lab: Lab, marker: Marker, opener: Marker) -> Divergence:
    """Tensors that kept their names while the graph was optimized."""
    spots = marker.spots(suspect.graph)
    shown = {spot.tensor for spot in opener.spots(suspect.engine)}

    def look(names: Sequence[str]) -> Mapping[str, float]:
        with TemporaryDirectory(prefix="look-", dir=lab.scratch) as scratch:
            graph, engine = (_folder(scratch, name) for name in ("graph", "engine"))
            expected = _run(lab, marker.mark(suspect.graph, names, graph), suspect.inputs, optimized=False)
            found = _run(lab, opener.mark(suspect.engine, names, engine), suspect.inputs, optimized=True)
        return relative_errors(expected, found)

    return Search(spots, shown, look, suspect.bound).run()


def _in_copies(suspect: Suspect, lab: Lab, marker: Marker) -> Divergence:
    """Every look compiles a copy of the graph."""
    spots = marker.spots(suspect.graph)

    def look(names: Sequence[str]) -> Mapping[str, float]:
        lab.report(0.0, f"compiling a copy that shows {len(names)} tensors")
        with TemporaryDirectory(prefix="look-", dir=lab.scratch) as scratch:
            graph = marker.mark(suspect.graph, names, _folder(scratch, "graph"))
            work = Compilation(graph, lab.model, lab.target, _folder(scratch, "engine"), lab.report, lab.cache)
            engine = lab.backend.compile(work)
            expected = _run(lab, graph, suspect.inputs, optimized=False)
            found = _run(lab, engine, suspect.inputs, optimized=True)
        return relative_errors(expected, found)

    found = Search(spots, {spot.tensor for spot in spots}, look, suspect.bound).run()
    return (
        replace(found, note=found.note or "found in a copy of the graph that shows its tensors")
        if found.spot
        else found
    )


def _run(lab: Lab, model: Artifact, inputs: Arrays, *, optimized: bool) -> Arrays:
    opened = lab.backend.open(model, lab.target, threads=lab.threads, optimized=optimized, spinning=False)
    with closing(opened) as session:
        return session.run(inputs)


def _folder(parent: str, name: str) -> Path:
    folder = Path(parent) / name
    folder.mkdir()
    return folder
