"""Rules on a target: its device, its runtime's options, and what these ask of the rest of the spec."""

from strop_api.model import ModelFormat
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.rule import Rule, quoted, words
from strop_api.steps import Precision
from strop_api.support import DEVICE_FORMATS, LEAST_CAPABILITIES, RTX_CAPABILITIES, TORCH_SOURCES
from strop_api.targets import ExecutionProvider, HardwareCompatibility, OutputFormat, Runtime, Target

OPTIONS: dict[Runtime, str] = {
    Runtime.ONNX_RUNTIME: "onnx_runtime",
    Runtime.OPENVINO: "openvino",
    Runtime.TENSORRT: "tensorrt",
    Runtime.TENSORRT_RTX: "tensorrt_rtx",
    Runtime.INDUCTOR: "inductor",
}
"""The member of a target that holds a runtime's options."""

ON_A_DEVICE = (ExecutionProvider.CUDA, ExecutionProvider.TENSORRT)


def _options(runtime: Runtime) -> Rule:
    member = OPTIONS[runtime]
    wire = Target.model_fields[member].alias

    def holds(target: Target) -> bool:
        return getattr(target, member) is None or target.runtime is runtime

    return Rule(
        f"options-of-{runtime.lower()}",
        "spec.targets[]",
        f"!has(self.{wire}) || self.runtime == '{runtime}'",
        holds,
        f"{wire} needs runtime {runtime}: remove it, or change the runtime",
        f".{wire}",
    )


def _accelerator(target: Target) -> bool:
    return target.runtime is not Runtime.TENSORRT or target.accelerator is not None


def _rtx_device(target: Target) -> bool:
    ahead = target.tensorrt_rtx is not None and bool(target.tensorrt_rtx.compute_capabilities)
    return target.runtime is not Runtime.TENSORRT_RTX or target.accelerator is not None or ahead


def _rtx_processor(target: Target) -> bool:
    return target.runtime is not Runtime.TENSORRT_RTX or target.cpu is None


def _one_device(target: Target) -> bool:
    return target.accelerator is None or target.cpu is None


def _capability(capability: str) -> bool:
    return capability in RTX_CAPABILITIES


def _provider_has_a_device(target: Target) -> bool:
    options = target.onnx_runtime
    return options is None or options.provider not in ON_A_DEVICE or target.accelerator is not None


def _provider_uses_the_device(target: Target) -> bool:
    options = target.onnx_runtime
    return options is None or options.provider is not ExecutionProvider.CPU or target.accelerator is None


DEVICES = (
    Rule(
        "tensorrt-has-an-accelerator",
        "spec.targets[]",
        "self.runtime != 'TensorRT' || has(self.accelerator)",
        _accelerator,
        "TensorRT needs an accelerator: it builds on the device that the engine is for",
        ".accelerator",
    ),
    Rule(
        "rtx-has-a-device",
        "spec.targets[]",
        "self.runtime != 'TensorRTRTX' || has(self.accelerator) || (has(self.tensorRTRTX)"
        " && has(self.tensorRTRTX.computeCapabilities) && self.tensorRTRTX.computeCapabilities.size() > 0)",
        _rtx_device,
        "TensorRTRTX needs an accelerator to measure on, or tensorRTRTX.computeCapabilities to build ahead of time for",
        ".accelerator",
    ),
    Rule(
        "rtx-runs-on-no-processor",
        "spec.targets[]",
        "self.runtime != 'TensorRTRTX' || !has(self.cpu)",
        _rtx_processor,
        "a TensorRTRTX engine runs on no processor: remove cpu; spec.worker.nodeSelector chooses where it is built",
        ".cpu",
    ),
    Rule(
        "one-device",
        "spec.targets[]",
        "!(has(self.accelerator) && has(self.cpu))",
        _one_device,
        "set accelerator or cpu, not both",
        ".cpu",
    ),
    Rule(
        "capabilities-of-rtx",
        "spec.targets[].tensorRTRTX.computeCapabilities[]",
        f"self in {quoted(RTX_CAPABILITIES)}",
        _capability,
        f"TensorRT-RTX builds for {words(RTX_CAPABILITIES)}; it has no Hopper (9.0) and no data-centre Blackwell "
        "(10.0): use runtime TensorRT there",
    ),
    Rule(
        "provider-has-a-device",
        "spec.targets[]",
        f"!has(self.onnxRuntime) || !(self.onnxRuntime.provider in {quoted(ON_A_DEVICE)}) || has(self.accelerator)",
        _provider_has_a_device,
        f"provider {words(ON_A_DEVICE)} needs an accelerator: add one, or use provider CPU",
        ".accelerator",
    ),
    Rule(
        "provider-uses-the-device",
        "spec.targets[]",
        "!has(self.onnxRuntime) || self.onnxRuntime.provider != 'CPU' || !has(self.accelerator)",
        _provider_uses_the_device,
        "provider CPU would leave the accelerator idle: remove accelerator, or use provider CUDA",
        ".onnxRuntime.provider",
    ),
)

TARGETS = (*(_options(runtime) for runtime in Runtime), *DEVICES)


def _quantized_to(spec: ModelOptimizationSpec, precision: Precision) -> bool:
    return any(step.quantize is not None and step.quantize.precision is precision for step in spec.steps)


def _format_of_the_device(precision: Precision) -> Rule:
    least = LEAST_CAPABILITIES[precision]
    lacking = [capability for capability in RTX_CAPABILITIES if float(capability) < float(least)]

    def holds(spec: ModelOptimizationSpec) -> bool:
        options = (target.tensorrt_rtx for target in spec.targets)
        asked = {c for option in options if option is not None for c in option.compute_capabilities}
        return not _quantized_to(spec, precision) or not asked & set(lacking)

    return Rule(
        f"{precision}-on-its-devices",
        "spec",
        f"!has(self.steps) || !self.steps.exists(s, has(s.quantize) && s.quantize.precision == '{precision}') || "
        "self.targets.all(t, !has(t.tensorRTRTX) || !has(t.tensorRTRTX.computeCapabilities) || "
        f"t.tensorRTRTX.computeCapabilities.all(c, !(c in {quoted(lacking)})))",
        holds,
        f"{precision} needs compute capability {least} or newer: remove {words(lacking)} from computeCapabilities, or "
        "make a resource of their own with another precision",
        ".targets",
    )


def _plans(spec: ModelOptimizationSpec, *, stripped: bool) -> bool:
    return any(target.tensorrt is not None and target.tensorrt.stripped is stripped for target in spec.targets)


def _weights_beside(spec: ModelOptimizationSpec) -> bool:
    return not _plans(spec, stripped=True) or OutputFormat.ONNX in spec.output.formats


def _servable(spec: ModelOptimizationSpec) -> bool:
    served = {OutputFormat.TRITON, OutputFormat.KSERVE} & set(spec.output.formats)
    return not (_plans(spec, stripped=True) and served)


def _on_every_ampere(spec: ModelOptimizationSpec) -> bool:
    asked = (target.tensorrt.hardware_compatibility for target in spec.targets if target.tensorrt is not None)
    return HardwareCompatibility.AMPERE_PLUS not in asked or not _quantized_to(spec, Precision.FP8)


def _graph_of_ir(spec: ModelOptimizationSpec) -> bool:
    if all(target.runtime is not Runtime.OPENVINO for target in spec.targets):
        return True
    return OutputFormat.ONNX not in spec.output.formats or all(step.quantize is None for step in spec.steps)


def _converted(spec: ModelOptimizationSpec) -> bool:
    return spec.model.format is not ModelFormat.ONNX or not set(DEVICE_FORMATS) & set(spec.output.formats)


_STRIPPED = "self.targets.exists(t, has(t.tensorRT) && t.tensorRT.stripped)"

PUBLISHED = (
    *(_format_of_the_device(precision) for precision in LEAST_CAPABILITIES),
    Rule(
        "weights-beside-a-stripped-plan",
        "spec",
        f"!{_STRIPPED} || 'Onnx' in self.output.formats",
        _weights_beside,
        "a stripped plan has no weights: publish Onnx beside it, from which they are refitted",
        ".output.formats",
    ),
    Rule(
        "servers-do-not-refit",
        "spec",
        f"!{_STRIPPED} || !self.output.formats.exists(f, f in ['Triton', 'KServe'])",
        _servable,
        "a stripped plan must be refitted before it runs, and these servers do not: remove Triton and KServe, or "
        "tensorRT.stripped",
        ".output.formats",
    ),
    Rule(
        "fp8-is-not-on-every-ampere",
        "spec",
        "!has(self.steps) || !self.targets.exists(t, has(t.tensorRT)"
        " && t.tensorRT.hardwareCompatibility == 'AmperePlus')"
        " || self.steps.all(s, !has(s.quantize) || s.quantize.precision != 'fp8')",
        _on_every_ampere,
        "AmperePlus keeps to what every device since Ampere has, and fp8 begins with 8.9: use another precision, or "
        "SameComputeCapability",
        ".steps",
    ),
    Rule(
        "openvino-quantizes-its-ir",
        "spec",
        "!self.targets.exists(t, t.runtime == 'OpenVINO') || !('Onnx' in self.output.formats) || !has(self.steps)"
        " || !self.steps.exists(s, has(s.quantize))",
        _graph_of_ir,
        "OpenVINO is quantized in its own IR, which is the engine; there is no Onnx graph beside it: remove Onnx",
        ".output.formats",
    ),
    Rule(
        "device-formats-from-torch",
        "spec",
        f"self.model.format in {quoted(TORCH_SOURCES)} || "
        f"!self.output.formats.exists(f, f in {quoted(DEVICE_FORMATS)})",
        _converted,
        f"{words(DEVICE_FORMATS)} is converted from a torch model: give it as {words(TORCH_SOURCES)}, or remove the "
        "format",
        ".output.formats",
    ),
)
