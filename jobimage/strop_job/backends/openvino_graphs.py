"""OpenVINO models between the worker's own stages: read, bounded, written, and rewritten to be computed in floats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from strop_api.model import ModelSource
from strop_job.backends.base import Arithmetic
from strop_job.backends.openvino_library import core, first_line, ov, refused, version
from strop_job.errors import InvalidInput, Unsupported
from strop_job.stages import Artifact

IR_FILES = ("model.xml", "model.bin")
COMPUTE = frozenset(
    {"MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"}
)
"""Operations worth quantizing: without one of them nothing becomes faster."""
LOW_BITS = frozenset({"i8", "u8", "i4", "u4"})
SHAPING = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Convert", "Subtract", "Multiply", "Concat", "Slice",
     "StridedSlice", "Split", "VariadicSplit", "Broadcast", "Gather", "MaxPool", "Pad"}
)  # fmt: skip
"""What may lie between a quantizer and the operation it feeds: it moves values, or undoes their scale."""
_PRECISION = ("strop", "inferencePrecision")
_DYNAMIC_GROUPS = ("runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE")


def read(graph: Artifact) -> Any:
    """The ov.Model of an ONNX graph or an IR; inputs and outputs keep the names of the ONNX file.

    Raises Unsupported for an operator, opset or format this OpenVINO does not know, InvalidInput for a damaged file.
    """
    path = graph.entry
    if path.suffix == ".onnx":
        _refuse_newer(path)
    try:
        return core().read_model(str(path))
    except RuntimeError as error:
        raise refused(path, error) from error


def _refuse_newer(path: Path) -> None:
    """OpenVINO takes any version number without a word: what is newer than this worker's ONNX is refused here."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors differ by implementation
        raise InvalidInput(
            f"OpenVINO refuses {path.name}: it is no readable ONNX model",
            field="spec.model.uri",
            mend="upload the complete file",
        ) from error
    newest = onnx.defs.onnx_opset_version()
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset > newest or model.ir_version > onnx.IR_VERSION:
        raise Unsupported(
            f"OpenVINO {version()} is too old for {path.name} (IR {model.ir_version}, opset ai.onnx {opset}): "
            f"this worker knows ONNX up to IR {onnx.IR_VERSION}, opset {newest}",
            field="spec.model.uri",
            mend="export with an older opset and IR version",
        )


def write(model: Any, path: Path, *, half: bool = False) -> tuple[str, ...]:
    """Writes `.xml` and `.bin`, weights in fp16 where `half`. Returns the names of both."""
    ov.save_model(model, str(path), compress_to_fp16=half)
    return (path.name, path.with_suffix(".bin").name)


def bound(model: Any, source: ModelSource) -> None:
    """Gives every dynamic axis the range of its dimension; one whose ends meet becomes fixed.

    A range costs speed against a fixed size, since shapes are inferred anew in every call: on one core MiniLM-L6 INT8
    takes 2.02 ms at 1..32 x 2..128 against 1.70 fixed at 1 x 32, magika 1.95 against 1.43. A range costs nothing
    against no range. The engine serves what the spec asks for, so only a spec without dimensions gets fixed sizes.
    """
    ranges = {d.name: (d.min, d.max) for d in source.dimensions}
    shapes = {
        tensor.name: [ov.Dimension(*ranges[size]) if isinstance(size, str) else size for size in tensor.shape]
        for tensor in source.inputs
    }
    reshape(model, shapes)


def reshape(model: Any, shapes: dict[str, Any]) -> None:
    """Sets the inputs' shapes. Raises InvalidInput, naming the operation, when the graph cannot have them."""
    try:
        model.reshape({name: ov.PartialShape(list(shape)) for name, shape in shapes.items()})
    except (RuntimeError, TypeError) as error:
        raise InvalidInput(
            f"the graph cannot have the shapes of the spec: {first_line(error)}",
            field="spec.model.inputs",
            mend="names and shapes there must be those of the model, dynamic axes its dimensions",
        ) from error


def set_precision(model: Any, precision: str) -> None:
    """Notes in the model what it asks to be computed with: `f16` or `bf16`; unmarked is f32."""
    model.set_rt_info(precision, list(_PRECISION))


def asked_precision(model: Any) -> str:
    """`f32`, or what a cast noted in the model."""
    return str(model.get_rt_info(list(_PRECISION)).value) if model.has_rt_info(list(_PRECISION)) else "f32"


def keep_activations(model: Any) -> None:
    """Tells the CPU plugin to leave activations in floats: by default it rounds those that meet compressed weights."""
    model.set_rt_info("0", list(_DYNAMIC_GROUPS))


def names(ports: Any) -> tuple[str, ...]:
    """Names of a model's inputs or outputs, in order; those of a compiled model hold the names of inner tensors too."""
    return tuple(port.get_any_name() for port in ports)


def operations(model: Any) -> Iterator[Any]:
    """Operations in an order in which they can run."""
    yield from model.get_ordered_ops()


def type_of(port: Any) -> str:
    """Element type as OpenVINO spells it, such as `f32`, `i8` or `u4`."""
    return str(port.get_element_type().get_type_name())


def quantized(model: Any) -> dict[str, int]:
    """Operations that will run in integers, by type: each operand passed a FakeQuantize or is a low-bit constant."""
    found: dict[str, int] = {}
    for node in operations(model):
        kind = node.get_type_name()
        if kind in COMPUTE and all(is_rounded(node.input_value(at)) for at in (0, 1)):
            found[kind] = found.get(kind, 0) + 1
    return dict(sorted(found.items()))


def is_rounded(port: Any) -> bool:
    """Whether a value passed a FakeQuantize, or is a constant of 8 bits or less, and was only moved or scaled since."""
    while True:
        node = port.get_node()
        kind = node.get_type_name()
        if kind == "FakeQuantize":
            return True
        if kind == "Constant":
            return type_of(node.output(0)) in LOW_BITS
        if kind not in SHAPING:
            return False
        port = node.input_value(0)


def compressed(model: Any) -> dict[str, int]:
    """Weights of matrix products and convolutions, and tables of Gather, by the element type they are stored in."""
    found: dict[str, int] = {}
    for node in operations(model):
        kind = node.get_type_name()
        if kind in COMPUTE or kind == "Gather":
            stored = stored_type(node.input_value(0 if kind == "Gather" else 1))
            if stored is not None:
                found[stored] = found.get(stored, 0) + 1
    return dict(sorted(found.items()))


def stored_type(port: Any) -> str | None:
    """Element type of the constant behind a weight; None when it is no constant."""
    node = port.get_node()
    while node.get_type_name() in SHAPING:
        node = node.input_value(0).get_node()
    return type_of(node.output(0)) if node.get_type_name() == "Constant" else None


def arithmetic_of(model: Any) -> Arithmetic:
    """What a model computes with, as it is written."""
    integer = any(node.get_type_name() == "FakeQuantize" for node in operations(model))
    stored = compressed(model)
    half = asked_precision(model) != "f32" or bool({"f16", "bf16"} & stored.keys())
    return Arithmetic(integer or bool(LOW_BITS & stored.keys()), half)


def in_floats(model: Any) -> None:
    """Every FakeQuantize becomes the elementary operations it stands for, every stored weight the floats it means.

    Nothing is left that a transformation to low precision could take hold of: the model computes in float what it
    says. Formula: https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs/quantization/fake-quantize-1.html
    """
    for node in list(operations(model)):
        if node.get_type_name() == "FakeQuantize":
            meant = _elementary(node)
            for reader in list(node.output(0).get_target_inputs()):
                reader.replace_source_output(meant.output(0))
    model.validate_nodes_and_infer_types()
    manager = ov.passes.Manager()
    manager.register_pass(ov.passes.ConstantFolding())
    manager.run_passes(model)


def _elementary(node: Any) -> Any:
    op = ov.opset13
    x, low, high, out_low, out_high = (node.input_value(at) for at in range(5))
    steps = op.constant(float(node.get_attributes()["levels"] - 1), dtype=ov.Type.f32)
    clipped = op.minimum(op.maximum(x, op.minimum(low, high)), op.maximum(low, high))
    share = op.divide(op.subtract(clipped, low), op.subtract(high, low))
    level = op.round(op.multiply(share, steps), "half_to_even")
    return op.add(op.multiply(op.divide(level, steps), op.subtract(out_high, out_low)), out_low)
