"""INT8 with ranges observed beforehand: QuantizeLinear and DequantizeLinear nodes around everything selected."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from strop_api.steps import QuantizeStep
from strop_api.support import IntegerFormat
from strop_api.targets import Target
from strop_job.backends.graphs import sort_nodes
from strop_job.calibration import TensorRange
from strop_job.steps.quantize.onnx_graph.forms import float_bias, weights_of_seven_bits
from strop_job.steps.quantize.onnx_graph.prepare import Selection

QUANTIZABLE: frozenset[str] = frozenset(QDQRegistry) | frozenset(QLinearOpsRegistry)


def static(
    model: onnx.ModelProto,
    step: QuantizeStep,
    selection: Selection,
    ranges: Mapping[str, TensorRange],
    form: IntegerFormat,
    target: Target,
) -> onnx.ModelProto:
    """The graph with Q/DQ pairs. Weights are int8 and symmetric; activations follow from the target's form.

    Weights keep to 7 bits where the processor's sums of products would saturate.

    U8S8: uint8, asymmetric. S8S8: int8, symmetric. Runtimes for accelerators refuse an int32 bias, so it stays float,
    and so does what a product yields, until another product reads it: they fuse what lies between, and rounding twice
    costs accuracy (MiniLM-L6: cosine .824 with results rounded as well, .974 without).
    """
    symmetric, floats = form is IntegerFormat.S8S8, float_bias(target)
    activation = QuantType.QInt8 if symmetric else QuantType.QUInt8
    quantizer = QDQQuantizer(
        model,
        step.per_channel,
        weights_of_seven_bits(step, target),
        QuantType.QInt8,
        activation,
        _tensors_data(ranges),
        [],
        list(selection.excluded),
        list(selection.op_types),
        {
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": not floats,
            "OpTypesToExcludeOutputQuantization": sorted(selection.op_types) if floats else [],
        },
    )
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    sort_nodes(made.graph)
    return made


def _tensors_data(ranges: Mapping[str, TensorRange]) -> TensorsData:
    data = {
        name: TensorData(lowest=np.array(r.low, np.float32), highest=np.array(r.high, np.float32))
        for name, r in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, data)
