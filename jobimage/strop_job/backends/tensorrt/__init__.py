"""TensorRT and TensorRT-RTX: one Python interface, two libraries. Plans of the one are never those of the other.

Precision stands in the ONNX graph: networks are strongly typed, and no builder flag changes a layer's type. TensorRT
times kernels, so it builds where its GPU is; TensorRT-RTX also builds ahead of time for named generations of devices.
"""

from strop_job.backends.tensorrt.backend import TensorRTBackend, TensorRTRTXBackend
from strop_job.backends.tensorrt.session import TensorRTSession

__all__ = ["TensorRTBackend", "TensorRTRTXBackend", "TensorRTSession"]
