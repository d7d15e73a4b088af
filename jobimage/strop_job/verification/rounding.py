"""Rounding noise of a quantized graph: how far its outputs move when only the last bits of its constants change.

Such a graph rounds activations to few levels. A compiler that sums in another order moves a value by an ulp; now and
then a rounding tips, and the tipped step travels on. How much that is depends on the graph alone and cannot be told
from its quantization error: so it is measured, on copies that mean the same.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from strop_job.stages import Artifact, ArtifactKind

COPIES = 2
"""So many are run: whether one value tips is chance."""
SHARE = 1e-6
"""Largest relative change of a constant: eight ulp of FP32, which is more than fusion and another order of summation
change. A copy must tip no less than an engine does, or right engines would be refused."""
Shake = Callable[[Artifact, int, Path], Artifact]
SHAKERS: Mapping[ArtifactKind, str] = {
    ArtifactKind.ONNX_GRAPH: "strop_job.verification.shake_onnx:shaken",
    ArtifactKind.OPENVINO_IR: "strop_job.verification.shake_openvino:shaken",
    ArtifactKind.EXPORTED_PROGRAM: "strop_job.verification.shake_program:shaken",
}
"""`module:function` by the kind of graph; the library is imported when it is needed."""


def shaker_of(graph: Artifact) -> Shake | None:
    """Who copies a graph of this kind, shaken by a seed, into an empty folder; None where nobody does."""
    place = SHAKERS.get(graph.kind)
    if place is None:
        return None
    module, _, name = place.partition(":")
    return cast("Shake", getattr(import_module(module), name))


def shake(values: NDArray[Any], seed: int) -> NDArray[Any]:
    """Every number nearer to zero by up to SHARE: nothing overflows, and zeros and signs stay."""
    kept = 1 - SHARE * np.random.default_rng(seed).random(values.shape)
    return np.asarray(values.astype(np.float64) * kept, values.dtype)
