"""The library functions that the checks know, by path, and what of their arguments matters."""

from strop_job.audit.source.events import Event
from strop_job.audit.source.values import Value

QUANTIZATION = ("torch.ao.quantization.", "torch.quantization.", "torchao.quantization.")
PREPARES = frozenset({"prepare", "prepare_qat", "prepare_fx", "prepare_qat_fx", "prepare_pt2e", "prepare_qat_pt2e"})
CONVERTS = frozenset({"convert", "convert_fx", "convert_pt2e", "convert_to_reference_fx"})
EAGER = frozenset({"prepare", "prepare_qat", "convert"})
"""Those that take `inplace`."""
ONNX_EXPORTS = frozenset({"torch.onnx.export", "torch.onnx.utils.export"})
ONNX_QUANTIZERS = ("onnxruntime.quantization.",)
NO_LOOK = frozenset({
    "print", "type", "isinstance", "len", "id", "str", "repr", "hasattr", "issubclass", "list", "dict", "getattr",
    "copy.deepcopy", "copy.copy", "torch.save", "os.path.getsize", "os.path.exists", "os.remove", "sum",
    "torch.ao.quantization.move_exported_model_to_eval", "torch.ao.quantization.move_exported_model_to_train",
    "torch.ao.quantization.allow_exported_model_train_eval",
    "torchao.quantization.pt2e.move_exported_model_to_eval", "torchao.quantization.pt2e.move_exported_model_to_train",
    "torchao.quantization.pt2e.allow_exported_model_train_eval",
})  # fmt: skip
"""Functions that neither run nor change a model they are given."""
NO_LOOK_METHODS = frozenset({
    "eval", "train", "to", "cuda", "cpu", "float", "parameters", "named_parameters", "named_modules", "modules",
    "children", "named_children", "state_dict", "print_readable", "info", "debug", "warning", "numel", "size",
    "print_tabular", "requires_grad_", "zero_grad",
})  # fmt: skip
"""Methods that neither run nor change the model they are called on or given."""
SAVES = frozenset({"torch.save", "torch.jit.save", "torch.export.save", "safetensors.torch.save_file",
                   "safetensors.torch.save_model", "openvino.save_model", "openvino.serialize"})  # fmt: skip
SAVE_METHODS = frozenset({"save", "save_pretrained", "push_to_hub", "save_model"})
TRANSFORMS = frozenset({
    "torch.jit.script", "torch.jit.trace", "torch.jit.freeze", "torch.export.export", "torch.onnx.export",
    "torch.utils.mobile_optimizer.optimize_for_mobile", "torch.compile",
})  # fmt: skip
"""Functions whose result is another form of the model: it is yet to be evaluated."""
PTQ_CONFIGS = frozenset({
    "Int8WeightOnlyConfig", "Int4WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig", "int8_weight_only",
    "int4_weight_only", "int8_dynamic_activation_int8_weight", "Int8DynamicActivationInt4WeightConfig",
    "Float8WeightOnlyConfig", "Float8DynamicActivationFloat8WeightConfig", "IntxWeightOnlyConfig",
    "Int8StaticActivationInt8WeightConfig", "Int8DynamicActivationIntxWeightConfig",
})  # fmt: skip
"""Configurations of torchao's `quantize_` after which a model is for inference."""


def quantization(event: Event) -> str:
    """The name in a PyTorch quantization package that is called; empty for anything else."""
    return event.method if event.name.startswith(QUANTIZATION) and "(" not in event.name else ""


def onnx_quantizer(event: Event) -> str:
    """The same for ONNX Runtime's quantization package."""
    return event.method if event.name.startswith(ONNX_QUANTIZERS) and "(" not in event.name else ""


def quantizes(event: Event) -> Value | None:
    """The quantized model, if the call makes one that is for inference."""
    name = quantization(event)
    if name in CONVERTS or name in ("quantize_dynamic", "quantize_dynamic_fx"):
        return event.args[0] if event.args and in_place(event) else event.result
    if (
        name == "quantize_"
        and event.name.startswith("torchao.")
        and event.args
        and _is_ptq(event.argument(1, "config"))
    ):
        return event.args[0]
    return event.result if event.name == "nncf.quantize" else None


def _is_ptq(config: Value | None) -> bool:
    if config is None or len(config.choices()) != 1:
        return False
    return config.path.removesuffix("()").rpartition(".")[2] in PTQ_CONFIGS


def in_place(event: Event) -> bool:
    """Whether it is told to change the model that it is given."""
    value = event.keywords.get("inplace")
    if value is None and quantization(event) in ("prepare", "convert"):
        value = event.argument(1 if quantization(event) == "prepare" else 2)
    elif value is None and quantization(event) == "prepare_qat":
        value = event.argument(2)
    return value is not None and value.const is not False


def looks(event: Event) -> bool:
    """Whether the call may run, change or judge the models that it is given."""
    if event.name in NO_LOOK or event.name.endswith(" ="):
        return False
    return not (event.method in NO_LOOK_METHODS and event.receiver is not None)


def saves(event: Event) -> bool:
    """Whether the call writes a model or sends it away."""
    return event.name in SAVES or (event.method in SAVE_METHODS and event.receiver is not None)
