"""What the converters' child says it checked: it may run the model's own code, so that little is taken from it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from strop_api.model import ModelSource
from strop_api.targets import OutputFormat
from strop_job.errors import InvalidInput, Unsupported
from strop_job.handoff.signature import FIELD, signature_of
from strop_job.models.shapes import optimum, shape_at

CHECKED = "check.json"
"""What the child found out; no part of the bundle."""
LIMIT_BYTES = 65_536
WORST = "worstDifference"
LITERT_NOTE = (
    "`model.tflite` is the original model in FP32, converted by litert-torch with fixed input sizes ({sizes}). The"
    " LiteRT interpreter loaded it and ran it once on made-up inputs: the largest difference to the original was"
    " {worst:.1g} of its largest output. It was neither evaluated nor timed."
)
CORE_ML_NOTE = (
    "`model.mlpackage` is the original model as an ML program for iOS 17 or macOS 14, which computes in FP16,"
    " converted by coremltools. Its specification was read back, its program type-checked, and its inputs and outputs"
    " compared with the model's. It was not run: Core ML runs on Apple's systems alone."
)


def checked_facts(path: Path, wanted: OutputFormat, model: ModelSource) -> dict[str, JsonValue]:
    """Facts inputs, outputs, worstDifference (LiteRT) and notes, which are written here.

    Raises InvalidInput for a file that is not there, is too large, or does not tell them.
    """
    said = _read(path)
    try:
        facts = signature_of(said).facts()
    except Unsupported as error:
        raise _untold() from error
    if wanted is not OutputFormat.LITERT:
        return {**facts, "notes": [CORE_ML_NOTE]}
    worst = said.get(WORST)
    if isinstance(worst, bool) or not isinstance(worst, int | float) or not math.isfinite(worst):
        raise _untold()
    sizes = optimum(model.dimensions)
    fixed = ", ".join(f"{tensor.name} {list(shape_at(tensor, sizes))}" for tensor in model.inputs)
    return {**facts, WORST: worst, "notes": [LITERT_NOTE.format(sizes=fixed, worst=worst)]}


def _read(path: Path) -> Mapping[str, JsonValue]:
    if not path.is_file() or path.stat().st_size > LIMIT_BYTES:
        raise _untold()
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _untold() from error
    if not isinstance(said, dict):
        raise _untold()
    return said


def _untold() -> InvalidInput:
    return InvalidInput("the conversion does not tell what it checked", field=FIELD, mend="leave the format out")
