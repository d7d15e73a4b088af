"""Which integer types a quantized graph gets; what a record's key needs to know, without the libraries."""

from strop_api.steps import QuantizeMethod, QuantizeStep
from strop_api.support import IntegerFormat, integer_format
from strop_api.targets import GPU_RUNTIMES, Target
from strop_job.hardware import this_machine


def form_of(step: QuantizeStep, target: Target) -> IntegerFormat:
    """Integer types of the graph. Dynamic activations are uint8 wherever ONNX Runtime quantizes them at run time."""
    if step.method is QuantizeMethod.DYNAMIC:
        return IntegerFormat.U8S8
    arch = target.cpu.arch if target.cpu else this_machine().arch
    return integer_format(target.runtime, accelerated=target.accelerator is not None, arch=arch)


def float_bias(target: Target) -> bool:
    """Whether a bias stays in floating point."""
    return target.accelerator is not None or target.runtime in GPU_RUNTIMES
