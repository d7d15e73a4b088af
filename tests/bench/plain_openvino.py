"""NNCF and OpenVINO used by hand, as their documentation advises: what `bench_backends.py` measures ours against.

`make` quantizes the exported graph with `nncf.quantize`: `model_type=TRANSFORMER` for attention, all else left alone,
which for other networks is the symmetric preset over every operation that NNCF takes
(https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training/basic-quantization-flow.html).
It is compiled with the latency hint on one thread, in fp32 where it is not in integers, as ours is.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from strop_job.backends.openvino_library import ov

# isort: split
# The library above is loaded without telemetry, and with it NNCF.
import nncf

Arrays = Mapping[str, np.ndarray]
Call = Callable[[Arrays], dict[str, np.ndarray]]
PROPERTIES = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}
"""Pinning is off as in ours: on a shared machine a thread bound to a core loses to those that may move, and
the comparison would be one of luck."""


def make(folder: Path, batches: Iterable[Arrays], scratch: Path) -> Call:
    """The exported `model.onnx` of a folder, quantized by hand and loaded on one thread."""
    nncf.set_log_level(logging.ERROR)
    core = ov.Core()
    model = core.read_model(str(folder / "model.onnx"))
    kinds = {node.get_type_name() for node in model.get_ops()}
    is_transformer = {"Softmax", "MVN"} <= kinds
    quantized = nncf.quantize(
        model,
        nncf.Dataset([dict(batch) for batch in batches]),
        model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
    )
    path = scratch / "quantized.xml"
    ov.save_model(quantized, str(path), compress_to_fp16=False)
    written = core.read_model(str(path))
    request = core.compile_model(written, "CPU", PROPERTIES).create_infer_request()
    names = [port.get_any_name() for port in written.outputs]

    def call(inputs: Arrays) -> dict[str, np.ndarray]:
        values = request.infer(dict(inputs), share_inputs=True)
        return {name: values[at] for at, name in enumerate(names)}

    return call
