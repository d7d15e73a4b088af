"""Believe no quantizer: what it wrote is counted, loaded and run before it is handed on."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import JsonValue

from strop_job.backends import Arrays
from strop_job.backends.graphs import COMPUTE, integer_nodes
from strop_job.backends.reference import open_reference
from strop_job.errors import InvalidInput
from strop_job.stages import Artifact
from strop_job.steps.quantize.proof import compare_outputs


def require_integers(model: onnx.ModelProto, index: int) -> Counter[str]:
    """The integer nodes. Raises InvalidInput when no convolution or matrix product is among them."""
    found = integer_nodes(model)
    if not any(found[op] for op in (*COMPUTE, "Attention", "LSTM")):
        raise InvalidInput(
            "nothing was quantized: no convolution or matrix product of the graph became an integer one",
            field=f"spec.steps[{index}].quantize",
            mend="check opTypes and excludeNodes; a weight must be a constant of the graph to be quantized",
        )
    return found


def scale_facts(model: onnx.ModelProto) -> dict[str, JsonValue]:
    """How many tensors are quantized with constant scales, and how those scales spread."""
    constants = {w.name: w for w in model.graph.initializer}
    names = {
        n.input[1]
        for n in model.graph.node
        if n.op_type in ("QuantizeLinear", "DequantizeLinear") and n.input[1] in constants
    } | {name for name in constants if name.endswith("_scale")}
    scales = [numpy_helper.to_array(constants[name]).astype(np.float64).ravel() for name in sorted(names)]
    if not scales:
        return {"tensors": 0}
    values = np.concatenate(scales)
    return {
        "tensors": len(scales),
        "perChannel": sum(s.size > 1 for s in scales),
        "smallest": float(values.min()),
        "median": float(np.median(values)),
        "largest": float(values.max()),
    }


def prove(made: Artifact, before: Artifact, batch: Arrays, index: int, *, real: bool) -> dict[str, JsonValue]:
    """Loads both graphs as they are written and runs one batch. Raises when they disagree on shapes or one yields NaN.

    `real`: the batch is from the user's data, so a NaN of the original is the user's; else it is only not compared.

    Returns how close the outputs are; figures on the evaluation data come later, from `verify`.
    """
    return compare_outputs(_run(before, batch), _run(made, batch), index, real=real)


def _run(graph: Artifact, batch: Arrays) -> dict[str, NDArray[Any]]:
    """As it is written: an optimizer may hide an overflow that the next runtime shows."""
    session = open_reference(graph, threads=1)
    try:
        return session.run(batch)
    finally:
        session.close()
