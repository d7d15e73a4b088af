"""Believe no quantizer: the outputs of one batch before and after it must have one form, and no new NaN."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_job.backends import Arrays
from strop_job.errors import InvalidInput, StropError


def compare_outputs(before: Arrays, after: Arrays, index: int, *, real: bool) -> dict[str, JsonValue]:
    """How close they are. Raises when they disagree on shapes or the quantized one yields NaN.

    `real`: the batch is from the user's data, so a NaN of the original is the user's; else it is only not compared.
    """
    where = f"spec.steps[{index}].quantize"
    for name, reference in before.items():
        finite = bool(np.isfinite(reference).all())
        if not finite and real:
            raise InvalidInput(
                f"the model yields NaN or infinity in output `{name}` before this step",
                field="spec.model.uri",
                mend="check the weights and the data",
            )
        _same_form(name, reference, after.get(name), where, finite=finite)
    return {"cosine": _cosine(before, after)}


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
