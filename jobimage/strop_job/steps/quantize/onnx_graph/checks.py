"""Believe no quantizer: what it wrote is counted, loaded and run before it is handed on."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import JsonValue

from strop_job.backends import Arrays
from strop_job.backends.graphs import COMPUTE, integer_nodes
from strop_job.backends.reference import open_reference
from strop_job.errors import InvalidInput, StropError
from strop_job.stages import Artifact


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
    outputs = {name: _run(graph, batch) for name, graph in (("before", before), ("after", made))}
    where = f"spec.steps[{index}].quantize"
    for name, reference in outputs["before"].items():
        finite = bool(np.isfinite(reference).all())
        if not finite and real:
            raise InvalidInput(
                f"the model yields NaN or infinity in output `{name}` before this step",
                field="spec.model.uri",
                mend="check the weights and the data",
            )
        _same_form(name, reference, outputs["after"].get(name), where, finite=finite)
    return {"cosine": _cosine(outputs["before"], outputs["after"])}


def _run(graph: Artifact, batch: Arrays) -> dict[str, NDArray[Any]]:
    """As it is written: an optimizer may hide an overflow that the next runtime shows."""
    session = open_reference(graph, threads=1)
    try:
        return session.run(batch)
    finally:
        session.close()


def _same_form(name: str, reference: NDArray[Any], value: NDArray[Any] | None, where: str, *, finite: bool) -> None:
    if value is None or value.shape != reference.shape or value.dtype != reference.dtype:
        now = "missing" if value is None else f"{value.dtype}{list(value.shape)}"
        raise StropError(f"output `{name}` was {reference.dtype}{list(reference.shape)} and is {now}", field=where)
    if finite and not np.isfinite(value).all():
        raise InvalidInput(
            f"output `{name}` holds NaN or infinity after this step",
            field=where,
            mend="keep the layers that overflow in high precision with excludeNodes",
        )


def _cosine(before: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]]) -> float | None:
    """Mean cosine similarity of the first output's rows; None where a row is all zeros.

    A row of one number has a sign and no direction: then the whole batch is one row.
    """
    name = next(iter(before))
    a, b = (np.asarray(x[name], np.float64).reshape(len(x[name]), -1) for x in (before, after))
    if a.shape[1] == 1:
        a, b = a.T, b.T
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / norms)) if norms.all() else None
