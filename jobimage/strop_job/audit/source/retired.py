"""The library names that are gone or going, what replaces each, and since when."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Retired:
    """One name, or everything below it, of one library."""

    path: str
    instead: str
    removed: bool = True
    """False if it still works."""
    below: bool = False
    """A module: everything in it is meant."""
    since: str = ""


PT2E = "torchao.quantization.pt2e"
QDQ = "Q/DQ nodes in the ONNX graph: precision is read from the network"
_EAGER = ("prepare", "prepare_qat", "convert", "quantize", "quantize_qat", "quantize_dynamic")
_FX = ("prepare_fx", "prepare_qat_fx", "convert_fx")
_FLAGS = ("FP16", "INT8", "BF16", "FP8", "INT4", "STRICT_TYPES", "OBEY_PRECISION_CONSTRAINTS",
          "PREFER_PRECISION_CONSTRAINTS")  # fmt: skip
_CALIBRATORS = ("IInt8Calibrator", "IInt8EntropyCalibrator", "IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator",
                "IInt8LegacyCalibrator")  # fmt: skip

TORCH = (
    *(Retired(f"torch.ao.quantization.{name}", "torchao's quantize_ or pt2e", removed=False)
      for name in (*_EAGER, *(f"quantize_fx.{name}" for name in _FX))),
    *(Retired(f"torch.ao.quantization.{name}", PT2E, below=True)
      for name in ("quantize_pt2e", "quantizer", "pt2e")),
    *(Retired(f"torch.cuda.amp.{name}", f"torch.amp.{name}('cuda', …)", removed=False, since="torch 2.4")
      for name in ("GradScaler", "autocast", "custom_fwd", "custom_bwd")),
    *(Retired(f"torch.cpu.amp.{name}", f"torch.amp.{name}('cpu', …)", removed=False, since="torch 2.4")
      for name in ("GradScaler", "autocast")),
    *(Retired(f"torch.onnx.{name}", "torch.onnx.export(…, dynamo=True)")
      for name in ("dynamo_export", "ExportOptions", "OnnxRegistry", "enable_fake_mode", "export_to_pretty_string",
                   "_export")),
    Retired("torch.export.export_for_training", "torch.export.export"),
    Retired("torch.export.export_for_inference", "torch.export.export and run_decompositions"),
    Retired("torch.export.dynamic_dim", "torch.export.Dim"),
    Retired("torch._export.capture_pre_autograd_graph", "torch.export.export"),
)  # fmt: skip
TENSORRT = (
    *(Retired(f"tensorrt.BuilderFlag.{name}", QDQ if "CON" not in name and "TYPES" not in name
              else "no flag: every network is strongly typed", since="TensorRT 11") for name in _FLAGS),
    *(Retired(f"tensorrt.{name}", QDQ, since="TensorRT 11") for name in _CALIBRATORS),
    Retired("tensorrt.CalibrationAlgoType", QDQ, since="TensorRT 11"),
    Retired("tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "create_network(0)", since="TensorRT 11"),
    Retired("tensorrt.Builder().build_engine", "build_serialized_network", since="TensorRT 10"),
    Retired("tensorrt.Builder().build_cuda_engine", "build_serialized_network", since="TensorRT 8"),
    Retired("tensorrt.Builder().max_workspace_size", "config.set_memory_pool_limit", since="TensorRT 8"),
    Retired("tensorrt.Builder().max_batch_size", "an optimization profile", since="TensorRT 10"),
    Retired("tensorrt.Builder().fp16_mode", QDQ, since="TensorRT 8"),
    Retired("tensorrt.Builder().int8_mode", QDQ, since="TensorRT 8"),
    Retired("tensorrt.Builder().int8_calibrator", QDQ, since="TensorRT 8"),
    Retired("tensorrt.Builder().platform_has_fast_fp16", "the device's compute capability", since="TensorRT 11"),
    Retired("tensorrt.Builder().platform_has_fast_int8", "the device's compute capability", since="TensorRT 11"),
    Retired("tensorrt.Builder().create_builder_config().max_workspace_size", "config.set_memory_pool_limit",
            since="TensorRT 10"),
    Retired("tensorrt.Builder().create_builder_config().int8_calibrator", QDQ, since="TensorRT 11"),
    Retired("tensorrt.Builder().create_builder_config().set_calibration_profile", QDQ, since="TensorRT 11"),
)  # fmt: skip
OPENVINO = (
    Retired("openvino.runtime", "openvino", below=True, since="OpenVINO 2026"),
    Retired("openvino.inference_engine", "openvino.Core", below=True, since="OpenVINO 2024"),
    Retired("openvino.tools.mo", "openvino.convert_model", below=True, since="OpenVINO 2025"),
    Retired("openvino.tools.pot", "nncf.quantize", below=True, since="OpenVINO 2024"),
    Retired("compression.pipeline", "nncf.quantize", below=True, since="OpenVINO 2024"),
)
NNCF = (
    *(Retired(f"nncf.torch.{name}", "nncf.quantize, nncf.prune and nncf.strip", since="NNCF 3")
      for name in ("create_compressed_model", "register_default_init_args")),
    Retired("nncf.NNCFConfig", "nncf.quantize, nncf.prune and nncf.strip", since="NNCF 3"),
)  # fmt: skip
ONNX = (
    Retired("onnx.optimizer", "the onnxoptimizer package", below=True, since="onnx 1.9"),
    Retired("onnx.mapping", "onnx.helper.tensor_dtype_to_np_dtype", below=True),
    Retired("onnx.utils.polish_model", "onnx.checker and onnx.shape_inference"),
)
RETIRED: tuple[Retired, ...] = (*TORCH, *TENSORRT, *OPENVINO, *NNCF, *ONNX)
PARAMETERS: dict[str, tuple[str, ...]] = {
    "onnxruntime.quantization.quantize_static": ("optimize_model", "input_nodes", "output_nodes"),
    "onnxruntime.quantization.quantize_dynamic": ("optimize_model", "activation_type"),
    "torch.onnx.export": ("fallback", "example_outputs", "use_external_data_format", "enable_onnx_checker"),
}
"""Keywords that the functions have no more."""
PARTS = {
    "torch.quantization.": "torch.ao.quantization.",
    "torch.ao.quantization.quantize.": "torch.ao.quantization.",
    "torch.cuda.amp.autocast_mode.": "torch.cuda.amp.",
    "torch.cuda.amp.grad_scaler.": "torch.cuda.amp.",
    "onnxruntime.quantization.quantize.": "onnxruntime.quantization.",
    "tensorrt_rtx.": "tensorrt.",
}
"""Other names of the same modules."""


def usual(path: str) -> str:
    """The name under which the tables know a path."""
    for former, now in PARTS.items():
        if path.startswith(former) and path != former:
            path = now + path.removeprefix(former)
    return path


def retired(path: str) -> Retired | None:
    """The row for a path, if it names something that is gone or going."""
    named = usual(path)
    for row in RETIRED:
        if named == row.path or (row.below and named.startswith(f"{row.path}.")):
            return row
    return None
