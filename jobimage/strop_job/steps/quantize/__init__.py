"""The quantize step: INT8 dynamic, INT8 static and the cast to FP16, each proven by counting, loading and running.

Here is what describes the stage; what does it, and the libraries it needs, is imported when it runs.
"""

from collections.abc import Mapping

from pydantic import JsonValue

from strop_api.optimization import ModelOptimizationSpec
from strop_api.steps import QuantizeMethod, QuantizeStep, Step
from strop_api.targets import Target
from strop_job.errors import Unsupported
from strop_job.stages import WHOLE_SECONDS, Artifact, Stage, StageContext
from strop_job.steps.quantize.forms import float_bias, form_of

CALIBRATION = "resolve-calibration"
METHODS = frozenset({QuantizeMethod.DYNAMIC, QuantizeMethod.STATIC, QuantizeMethod.CAST})


def quantize_stage(step: Step, previous: str, spec: ModelOptimizationSpec, target: Target) -> Stage:
    """ONNX_GRAPH of stage `previous` (and calibration data, for Static) to a quantized ONNX_GRAPH.

    Facts: `precision`, `method`, `format`, `quantized` (integer nodes by operator), `excluded`, `scales`, `opset`,
    `cosine` on one batch, and for Static `calibration` with the range of every tensor.
    """
    config = _config(step)
    index = next((i for i, s in enumerate(spec.steps) if s.name == step.name), 0)
    reads_data = config.method is QuantizeMethod.STATIC
    return Stage(
        name=step.name,
        kind="Quantize",
        version=1,
        run=lambda context: _run(context, config, index, previous),
        parameters=_parameters(config, spec, target, reads_data=reads_data),
        needs=(previous, CALIBRATION) if reads_data else (previous,),
        libraries=("onnxruntime", "onnx", "numpy"),
        weight=3.0 if reads_data else 1.0,
        silence_seconds=WHOLE_SECONDS,
    )


def _run(context: StageContext, config: QuantizeStep, index: int, previous: str) -> Artifact:
    from strop_job.steps.quantize.work import run_quantize

    return run_quantize(context, config, index, previous)


def _config(step: Step) -> QuantizeStep:
    if step.quantize is None or step.quantize.method not in METHODS:
        raise Unsupported(f"step {step.name} is not a quantization this build knows", field="spec.steps")
    return step.quantize


def _parameters(
    config: QuantizeStep, spec: ModelOptimizationSpec, target: Target, *, reads_data: bool
) -> Mapping[str, JsonValue]:
    """What decides the bytes: the step, the integer types, and for Static how samples are cut and read."""
    decisive: dict[str, JsonValue] = {
        "quantize": config.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "format": form_of(config, target).value,
        "floatBias": float_bias(target),
    }
    if reads_data and spec.data.calibration is not None:
        decisive["calibration"] = spec.data.calibration.model_dump(
            mode="json", by_alias=True, exclude={"uri", "digest"}
        )
        decisive["inputs"] = [tensor.model_dump(mode="json", by_alias=True) for tensor in spec.model.inputs]
        decisive["dimensions"] = [size.model_dump(mode="json", by_alias=True) for size in spec.model.dimensions]
    return decisive
