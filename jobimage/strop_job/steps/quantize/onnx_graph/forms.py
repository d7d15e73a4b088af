"""Which number formats a quantized graph gets; what a record's key needs to know, without the libraries.

The user names a precision; signedness, symmetry, range and the operators that carry it follow from the target.
"""

from pydantic import JsonValue

from strop_api.steps import Precision, QuantizeMethod, QuantizeStep
from strop_api.support import IntegerFormat, integer_format, reduced_range
from strop_api.targets import GPU_RUNTIMES, ExecutionProvider, Runtime, Target
from strop_job.hardware import this_machine

MATMUL_NBITS, BLOCKED_DEQUANTIZE = "MatMulNBits", "DequantizeLinear"
"""The two ways a graph carries weights of 4 bits: ONNX Runtime's own operator, and the standard one over blocks."""
PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""What compilers for accelerators compute in integers, each operand behind its own Q/DQ pair."""


def form_of(step: QuantizeStep, target: Target) -> IntegerFormat:
    """Integer types of the graph. Dynamic activations are uint8 wherever ONNX Runtime quantizes them at run time."""
    if step.method is QuantizeMethod.DYNAMIC:
        return IntegerFormat.U8S8
    return integer_format(target.runtime, accelerated=target.accelerator is not None, arch=_arch(target))


def float_bias(target: Target) -> bool:
    """Whether a bias stays in floating point."""
    return target.accelerator is not None or target.runtime in GPU_RUNTIMES


def carriers(step: QuantizeStep, target: Target) -> frozenset[str] | None:
    """Operators quantized where the spec names none; None: all that the method knows.

    A compiler for accelerators places the integers itself between the products that carry them. Pairs around the rest
    gain nothing there, and it refuses some, such as those around the scalar constant of a mask.
    """
    chosen = step.precision is Precision.INT8 and not step.op_types and float_bias(target)
    return PRODUCTS if chosen else None


def weights_of_seven_bits(step: QuantizeStep, target: Target) -> bool:
    """Whether weights keep to 7 bits, because the processor's sums of 8-bit products would saturate.

    A target that names an instruction set is for every processor that has it: what is not named is not counted on.
    """
    if target.accelerator is not None or form_of(step, target) is not IntegerFormat.U8S8:
        return False
    named = target.cpu.isa if target.cpu else None
    return reduced_range(target.runtime, _arch(target), (named,) if named else this_machine().isa)


def four_bit_form(target: Target) -> str:
    """The operator that carries weights of 4 bits."""
    provider = target.onnx_runtime.provider if target.onnx_runtime else ExecutionProvider.AUTO
    own = target.runtime is Runtime.ONNX_RUNTIME and provider is not ExecutionProvider.TENSORRT
    return MATMUL_NBITS if own else BLOCKED_DEQUANTIZE


def decisive(step: QuantizeStep, target: Target) -> dict[str, JsonValue]:
    """What of the target decides the bytes of a quantized graph; part of the record's key."""
    if step.precision is Precision.INT8:
        narrowed = carriers(step, target)
        return {
            "format": form_of(step, target).value,
            "floatBias": float_bias(target),
            "reducedRange": weights_of_seven_bits(step, target),
            **({"carriers": [*sorted(narrowed)]} if narrowed is not None else {}),
        }
    if step.precision is Precision.INT4:
        return {"format": four_bit_form(target)}
    return {"format": step.precision.value}


def _arch(target: Target) -> str:
    return target.cpu.arch if target.cpu else this_machine().arch
