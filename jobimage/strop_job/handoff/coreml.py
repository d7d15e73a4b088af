"""Torch to Core ML: an ML program converted by coremltools, then read back and type-checked.

Imported only in the environment of the converters. Core ML runs on Apple's systems alone: nothing here runs the model.
"""

from pathlib import Path
from typing import Any

import coremltools as ct
from coremltools.converters.mil.frontend.milproto.load import load as read_program
from pydantic import JsonValue

from strop_api.model import DType, ModelSource
from strop_job.errors import Unsupported
from strop_job.handoff.original import Original
from strop_job.handoff.signature import DYNAMIC, FIELD

FOLDER = "model.mlpackage"
WEIGHTS = "Data/com.apple.CoreML/weights"
DEPLOYMENT = ct.target.iOS17
"""The oldest systems that take the package: iOS 17, macOS 14."""
ARRAYS = ct.proto.FeatureTypes_pb2.ArrayFeatureType
DTYPES = {ARRAYS.FLOAT16: "float16", ARRAYS.FLOAT32: "float32", ARRAYS.DOUBLE: "float64", ARRAYS.INT32: "int32"}
TAKEN_AS = {DType.INT64: "int32", DType.UINT8: "int32", DType.BOOL: "int32"}
"""Core ML's arrays have no other integers."""


def convert(original: Original, out: Path) -> dict[str, JsonValue]:
    """Write `model.mlpackage` with the spec's dynamic dimensions; returns what reading it back showed.

    Raises Unsupported when the model cannot be converted, or what was written has another signature than the model.
    """
    names = original.output_names()
    try:
        converted = ct.convert(
            original.exported().run_decompositions({}),
            convert_to="mlprogram",
            outputs=[ct.TensorType(name=name) for name in names],
            minimum_deployment_target=DEPLOYMENT,
            skip_model_load=True,
        )
        converted.save(str(out / FOLDER))
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise Unsupported(f"Core ML cannot take the model: {words}", field=FIELD, mend="leave CoreML out") from error
    found = read_back(out / FOLDER)
    refuse_other_signature(found, original.model, names)
    return found


def read_back(package: Path) -> dict[str, Any]:
    """Inputs, outputs and operations of a package. Rebuilding the program infers, and so checks, every type.

    Raises Unsupported when that fails.
    """
    spec = ct.utils.load_spec(str(package))
    try:
        program = read_program(spec, spec.specificationVersion, file_weights_dir=str(package / WEIGHTS))
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise Unsupported(f"the Core ML program does not type-check: {words}", field=FIELD) from error
    return {
        "inputs": [_tensor(feature) for feature in spec.description.input],
        "outputs": [_tensor(feature) for feature in spec.description.output],
        "operations": sum(len(function.operations) for function in program.functions.values()),
    }


def refuse_other_signature(found: dict[str, Any], model: ModelSource, outputs: list[str]) -> None:
    """Raise Unsupported unless the package takes the model's inputs, in their shapes and types, and yields outputs."""
    sizes = {d.name: d.min if d.min == d.max else DYNAMIC for d in model.dimensions}
    wanted = [
        {
            "name": t.name,
            "dtype": TAKEN_AS.get(t.dtype, t.dtype.value),
            "shape": [sizes[size] if isinstance(size, str) else size for size in t.shape],
        }
        for t in model.inputs
    ]
    named = [tensor["name"] for tensor in found["outputs"]]
    if sorted(found["inputs"], key=_name) != sorted(wanted, key=_name) or sorted(named) != sorted(outputs):
        message = f"the Core ML program takes {found['inputs']} and yields {named}, not what the model does"
        raise Unsupported(message, field=FIELD, mend="leave CoreML out")


def _name(tensor: dict[str, Any]) -> str:
    return str(tensor["name"])


def _tensor(feature: Any) -> dict[str, Any]:
    array = feature.type.multiArrayType
    ranges = [(r.lowerBound, r.upperBound) for r in array.shapeRange.sizeRanges]
    flexible = [DYNAMIC if low != high else low for low, high in ranges]
    shape = [int(size) for size in (flexible or array.shape)]
    return {"name": feature.name, "dtype": DTYPES.get(array.dataType, "unknown"), "shape": shape}
