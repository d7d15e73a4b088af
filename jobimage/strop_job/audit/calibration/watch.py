"""Which activations are looked at, and the model opened so that it shows them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from strop_api.targets import Target
from strop_job.backends import Session, backend_for
from strop_job.stages import Artifact
from strop_job.verification.marking import Spot, marker_of

MOST_TENSORS = 16
"""Activations that are looked at, evenly spread over the graph: their sketches, not they, are kept."""
COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Convolution", "GroupConvolution"})
"""Operators whose inputs a static quantizer rounds."""


@dataclass(frozen=True)
class Watched:
    """An open model that yields some activations beside its outputs."""

    session: Session
    outputs: tuple[str, ...]
    """Names of the model's own outputs."""


def choose(spots: Sequence[Spot], most: int = MOST_TENSORS) -> tuple[str, ...]:
    """At most so many tensors that products read, the last one among them; all tensors where nothing multiplies."""
    made = {spot.tensor: None for spot in spots}
    read = dict.fromkeys(n for spot in spots if spot.operator in COMPUTE for n in spot.inputs if n in made)
    names = tuple(read or made)
    if len(names) <= most:
        return names
    return tuple(names[(at + 1) * len(names) // most - 1] for at in range(most))


@contextmanager
def watched(graph: Artifact, target: Target, folder: Path, *, threads: int) -> Iterator[Watched]:
    """The graph as it is written, run without a compiler; a kind that nobody can mark shows its outputs alone.

    `folder` must be empty; the marked copy of the graph goes there.
    """
    backend = backend_for(target.runtime)
    with_plain = backend.open(graph, target, threads=threads, optimized=False, spinning=False)
    outputs = with_plain.outputs
    marker = marker_of(graph)
    tensors = choose(marker.spots(graph)) if marker is not None else ()
    if marker is None or not tensors:
        try:
            yield Watched(with_plain, outputs)
        finally:
            with_plain.close()
        return
    with_plain.close()
    marked = marker.mark(graph, tensors, folder)
    session = backend.open(marked, target, threads=threads, optimized=False, spinning=False)
    try:
        yield Watched(session, outputs)
    finally:
        session.close()
