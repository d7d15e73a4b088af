"""How NNCF is told to quantize: which preset a graph gets, which range estimator a calibrator means.

The recipe follows from the graph alone, so that a record stays valid. Measured on one core of an AVX-512 VNNI machine,
ratio to the same runtime in FP32 and mean cosine; "ours" is the Q/DQ graph made for ONNX Runtime, read by OpenVINO:

    MiniLM-L6: transformer 2.75x .9978 · products alone 2.40x .9923 · all that NNCF takes 2.16x .37 · ours 2.02x .934
    magika: products alone, symmetric 2.31x .9989 (asymmetric 2.35x .9979) · transformer 2.25x .9949 · all 1.89x .12 ·
            ours 2.06x .9968

Ranges over all batches (MinMax) lose no more than NNCF's own default, the mean of each batch's range: .99781 against
.99776 on MiniLM-L6, .9989 against .9959 on magika. The slower bias correction ruins MiniLM-L6 (.55), so
the fast one is used.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from strop_api.steps import Calibrator, QuantizeStep
from strop_job.backends.openvino_graphs import COMPUTE, operations
from strop_job.errors import Unsupported
from strop_job.steps.quantize.openvino_nncf import advanced, nncf, ranges

NORMALISING = frozenset(
    {
        "MVN",
        "NormalizeL2",
        "GroupNormalization",
        "RMS",
        "Sqrt",
        "ReduceL2",
        "LSTMSequence",
        "GRUSequence",
        "RNNSequence",
    }
)
"""Operations whose inputs vary by orders of magnitude, or whose errors add up: what surrounds them stays in floats."""
NEGATIVE_TAIL = frozenset({"Swish", "HSwish", "Gelu", "Elu", "Selu", "Mish", "PRelu", "SoftPlus"})
"""Activations with a short negative side: a range that is symmetric about zero would waste half its steps."""
GATES = frozenset({"Sigmoid", "HSigmoid", "HardSigmoid", "Erf", "Tanh"})
"""Multiplied with their own input they are one of those, written out."""
MOVING = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Pad", "MaxPool", "Concat", "Slice", "StridedSlice"}
)
SMOOTH = 0.95
"""NNCF's own strength of SmoothQuant for matrix products."""


class Kind(StrEnum):
    """What decides the preset of a graph."""

    TRANSFORMER = "transformer"
    """Attention: NNCF's transformer preset, asymmetric activations, outliers smoothed into the weights."""
    PRODUCTS = "products"
    """Normalised at run time: convolutions and matrix products alone."""
    CONVOLUTIONS = "convolutions"
    """All that NNCF takes, elementwise operations included, so that whole chains stay in integers."""


@dataclass(frozen=True)
class Recipe:
    """What follows from a graph."""

    kind: Kind
    asymmetric: bool
    """Whether activations get a zero point."""


def recipe_for(model: Any) -> Recipe:
    """The recipe of a graph. Attention is a Softmax, or the fused operation, whose result is multiplied again."""
    nodes = list(operations(model))
    if any(node.get_type_name() == "ScaledDotProductAttention" or _attends(node) for node in nodes):
        return Recipe(Kind.TRANSFORMER, True)
    products = [node for node in nodes if node.get_type_name() in COMPUTE]
    asymmetric = any(_has_negative_tail(_source(node.input_value(0))) for node in products)
    normalised = any(node.get_type_name() in NORMALISING for node in nodes)
    return Recipe(Kind.PRODUCTS if normalised else Kind.CONVOLUTIONS, asymmetric)


def parameters(step: QuantizeStep, index: int, recipe: Recipe, *, seven_bits: bool) -> dict[str, Any]:
    """Arguments of `nncf.quantize` beside model, data and scope. Raises Unsupported for a calibrator NNCF lacks."""
    transformer = recipe.kind is Kind.TRANSFORMER or step.smooth_quant is not None
    smooth = SMOOTH if step.smooth_quant is None else float(step.smooth_quant)
    overflow = nncf.OverflowFix.ENABLE if seven_bits else nncf.OverflowFix.DISABLE
    detail = advanced.AdvancedQuantizationParameters(
        overflow_fix=overflow,
        activations_range_estimator_params=_ranges(step, index),
        smooth_quant_alphas=advanced.AdvancedSmoothQuantParameters(matmul=smooth),
    )
    if not step.per_channel:
        detail.weights_quantization_params = advanced.QuantizationParameters(per_channel=False)
    presets = nncf.QuantizationPreset
    return {
        "preset": presets.MIXED if recipe.asymmetric else presets.PERFORMANCE,
        "model_type": nncf.ModelType.TRANSFORMER if transformer else None,
        "fast_bias_correction": True,
        "advanced_parameters": detail,
    }


def passes(step: QuantizeStep, recipe: Recipe) -> int:
    """How often NNCF reads the calibration data: once more to smooth."""
    return 2 if recipe.kind is Kind.TRANSFORMER or step.smooth_quant is not None else 1


def _ranges(step: QuantizeStep, index: int) -> Any:
    """MinMax: the widest range of any batch. Percentile: within a batch, the widest over batches; tails share alike."""
    kinds = ranges.StatisticsType
    match step.calibrator:
        case Calibrator.MIN_MAX:
            return _widest(kinds.MIN, kinds.MAX)
        case Calibrator.PERCENTILE:
            tail = (100.0 - float(step.percentile)) / 200.0
            found = _widest(kinds.QUANTILE, kinds.QUANTILE)
            found.min.quantile_outlier_prob = found.max.quantile_outlier_prob = tail
            return found
        case Calibrator.MSE:
            return ranges.RangeEstimatorParametersSet.HISTOGRAM
        case _:
            raise Unsupported(
                f"NNCF, which quantizes for OpenVINO, has no {step.calibrator} calibrator",
                field=f"spec.steps[{index}].quantize.calibrator",
                mend="use MinMax or Percentile",
            )


def _widest(low: Any, high: Any) -> Any:
    aggregators = ranges.AggregatorType
    return ranges.RangeEstimatorParameters(
        min=ranges.StatisticsCollectorParameters(statistics_type=low, aggregator_type=aggregators.MIN),
        max=ranges.StatisticsCollectorParameters(statistics_type=high, aggregator_type=aggregators.MAX),
    )


def _attends(node: Any) -> bool:
    """A Softmax whose result reaches a matrix product by moves alone."""
    if node.get_type_name() != "Softmax":
        return False
    readers = [reader.get_node() for reader in node.output(0).get_target_inputs()]
    while readers:
        reader = readers.pop()
        if reader.get_type_name() == "MatMul":
            return True
        if reader.get_type_name() in MOVING:
            readers += [after.get_node() for after in reader.output(0).get_target_inputs()]
    return False


def _source(port: Any) -> Any:
    """What computed a value, moves aside."""
    node = port.get_node()
    while node.get_type_name() in MOVING:
        node = node.input_value(0).get_node()
    return node


def _has_negative_tail(node: Any) -> bool:
    kind = node.get_type_name()
    return kind in NEGATIVE_TAIL or (kind == "Multiply" and any(_gated(port) for port in node.input_values()))


def _gated(port: Any, depth: int = 3) -> bool:
    """Whether a gate is behind a value, or behind the constants that scale and shift it."""
    node = port.get_node()
    kind = node.get_type_name()
    if kind in GATES or not depth:
        return kind in GATES
    scaled = kind in ("Multiply", "Add", "Divide")
    return scaled and any(_gated(inner, depth - 1) for inner in node.input_values())
