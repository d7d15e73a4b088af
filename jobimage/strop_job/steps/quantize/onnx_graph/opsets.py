"""Raising a graph to the version of the standard operators that a number format needs."""

import onnx

from strop_job.backends.graphs import is_large, opset
from strop_job.errors import Unsupported

IR_OF_OPSET = {19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
"""The file format that came with a version of the operators; see onnx/helper.py, VERSION_TABLE."""


def raised(model: onnx.ModelProto, least: int, index: int) -> onnx.ModelProto:
    """A copy of the model with at least this opset. Raises Unsupported when an operator has no counterpart there."""
    found = opset(model)
    if found >= least:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    if is_large(model.ByteSize()):
        raise _cannot(found, least, index, "its weights are in a file of their own")
    try:
        made = onnx.version_converter.convert_version(model, least)
    except RuntimeError as error:  # onnx's ConvertError, and what its checker raises
        raise _cannot(found, least, index, str(error).strip().splitlines()[0][:200]) from error
    made.ir_version = max(made.ir_version, model.ir_version, IR_OF_OPSET.get(least, 10))
    return made


def _cannot(found: int, least: int, index: int, why: str) -> Unsupported:
    return Unsupported(
        f"this precision needs opset {least}; the graph has {found} and cannot be raised: {why}",
        field=f"spec.steps[{index}].quantize.precision",
        mend=f"export the model with opset {least} or later",
    )
