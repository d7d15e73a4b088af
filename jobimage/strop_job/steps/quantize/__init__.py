"""The quantize step: one description, and a handler for each kind of graph that a runtime's quantizer yields.

Here is what describes the stage; what does it, and the libraries it needs, is imported when it runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from pydantic import JsonValue

from strop_api.optimization import ModelOptimizationSpec
from strop_api.steps import QuantizeMethod, QuantizeStep, Step
from strop_api.targets import Target
from strop_job.backends import TRAITS
from strop_job.errors import Unsupported
from strop_job.stages import WHOLE_SECONDS, Artifact, ArtifactKind, Stage, StageContext
from strop_job.steps.quantize.onnx_graph.forms import decisive

CALIBRATION = "resolve-calibration"
METHODS = frozenset({QuantizeMethod.DYNAMIC, QuantizeMethod.STATIC, QuantizeMethod.CAST, QuantizeMethod.WEIGHT_ONLY})


@dataclass(frozen=True)
class Handler:
    """Who quantizes to one kind of graph."""

    place: str
    """`module:function`; called with the context, the step, its index in the spec and the stage before."""
    libraries: tuple[str, ...]
    """Distributions whose versions shape the bytes."""


HANDLERS: dict[ArtifactKind, Handler] = {
    ArtifactKind.ONNX_GRAPH: Handler(
        "strop_job.steps.quantize.onnx_graph.work:run_quantize",
        ("onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "ml_dtypes"),
    ),
    ArtifactKind.OPENVINO_IR: Handler("strop_job.steps.quantize.openvino:run_openvino", ("nncf", "openvino", "numpy")),
    ArtifactKind.EXPORTED_PROGRAM: Handler("strop_job.steps.quantize.pt2e:run_pt2e", ("torch", "torchao", "numpy")),
}


def quantize_stage(step: Step, previous: str, spec: ModelOptimizationSpec, target: Target) -> Stage:
    """The graph of stage `previous` (and calibration data, for Static) to a quantized one of the runtime's kind.

    Facts: `precision`, `method`, `format`, `quantized` (quantized nodes by operator), `excluded`, `cosine` on one
    batch, and for Static `calibration`; an ONNX graph adds `scales`, `opset` and the range of every tensor.
    """
    config = _config(step)
    index = next((i for i, s in enumerate(spec.steps) if s.name == step.name), 0)
    reads_data = config.method is QuantizeMethod.STATIC
    handler = HANDLERS[TRAITS[target.runtime].quantizes_to]
    return Stage(
        name=step.name,
        kind="Quantize",
        version=4,
        run=lambda context: _handler(handler)(context, config, index, previous),
        parameters=_parameters(config, spec, target, reads_data=reads_data),
        needs=(previous, CALIBRATION) if reads_data else (previous,),
        libraries=handler.libraries,
        weight=3.0 if reads_data else 1.0,
        silence_seconds=WHOLE_SECONDS,
    )


def _handler(handler: Handler) -> Callable[[StageContext, QuantizeStep, int, str], Artifact]:
    module, _, name = handler.place.partition(":")
    found: Callable[[StageContext, QuantizeStep, int, str], Artifact] = getattr(import_module(module), name)
    return found


def _config(step: Step) -> QuantizeStep:
    if step.quantize is None or step.quantize.method not in METHODS:
        raise Unsupported(f"step {step.name} is not a quantization this build knows", field="spec.steps")
    return step.quantize


def _parameters(
    config: QuantizeStep, spec: ModelOptimizationSpec, target: Target, *, reads_data: bool
) -> Mapping[str, JsonValue]:
    """What decides the bytes: the step, the number formats, and for Static how samples are cut and read."""
    parameters: dict[str, JsonValue] = {
        "quantize": config.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        **decisive(config, target),
    }
    if reads_data and spec.data.calibration is not None:
        parameters["calibration"] = spec.data.calibration.model_dump(
            mode="json", by_alias=True, exclude={"uri", "digest"}
        )
        parameters["inputs"] = [tensor.model_dump(mode="json", by_alias=True) for tensor in spec.model.inputs]
        parameters["dimensions"] = [size.model_dump(mode="json", by_alias=True) for size in spec.model.dimensions]
    return parameters
