"""ONNX Runtime's own quantizer used by hand, as its documentation advises, and what each integer format is worth.

`make` is what `bench_backends.py` measures ours against: the graph pre-processed, then quantized dynamically where it
is a transformer or a recurrent network, else statically with MinMax; int8 weights per channel, uint8 activations, as
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html advises for processors with VNNI.

    python tests/bench/plain_onnxruntime.py cnn magika      # U8S8 against S8S8 on this CPU, one thread, interleaved
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

Arrays = Mapping[str, np.ndarray]
Call = Callable[[Arrays], dict[str, np.ndarray]]
FORMATS = {"U8S8": (QuantType.QUInt8, False), "S8S8": (QuantType.QInt8, True)}
"""Type of activations, and whether they are symmetric."""
ROUNDS, CALLS = 20, 10


class Batches(CalibrationDataReader):
    """Calibration batches in the shape that the quantizer asks for."""

    def __init__(self, batches: Iterable[Arrays]) -> None:
        self._batches: Iterator[Arrays] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch; None after the last."""
        found = next(self._batches, None)
        return None if found is None else dict(found)


def make(folder: Path, batches: Iterable[Arrays], scratch: Path) -> Call:
    """The exported `model.onnx` of a folder, quantized by hand and loaded on one thread."""
    ready = preprocessed(folder / "model.onnx", scratch)
    operators = {node.op_type for node in onnx.load(str(ready), load_external_data=False).graph.node}
    is_convolutional = "Conv" in operators and "LSTM" not in operators
    path = static(ready, batches, scratch, "U8S8") if is_convolutional else dynamic(ready, scratch)
    return load(path)


def preprocessed(path: Path, scratch: Path) -> Path:
    """Optimized and typed; symbolic inference fails on exports of torch and of JAX alike, so it is left out."""
    ready = scratch / "preprocessed.onnx"
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    return ready


def dynamic(ready: Path, scratch: Path) -> Path:
    """Weights per channel; activations at run time."""
    path = scratch / "dynamic.onnx"
    quantize_dynamic(str(ready), str(path), per_channel=True, weight_type=QuantType.QInt8)
    return path


def static(ready: Path, batches: Iterable[Arrays], scratch: Path, form: str, *, per_channel: bool = True) -> Path:
    """Q/DQ pairs around all operators that the quantizer knows, ranges by MinMax."""
    path = scratch / f"static-{form}.onnx"
    activation, symmetric = FORMATS[form]
    arguments: dict[str, Any] = {
        "per_channel": per_channel,
        "activation_type": activation,
        "weight_type": QuantType.QInt8,
        "calibrate_method": CalibrationMethod.MinMax,
        "extra_options": {"ActivationSymmetric": symmetric, "WeightSymmetric": True},
    }
    try:
        quantize_static(str(ready), str(path), Batches(batches), **arguments)
    except (ValueError, RuntimeError, AssertionError, IndexError):
        if not per_channel:
            raise
        return static(ready, batches, scratch, form, per_channel=False)  # it fails on some graphs' biases
    return path


def load(path: Path) -> Call:
    """A session of one thread, called with arrays by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, dict(inputs)), strict=True))


def interleaved(calls: Mapping[str, Call], inputs: Arrays) -> dict[str, list[float]]:
    """Seconds of each, a few calls at a time in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            call(inputs)
            for _ in range(CALLS):
                start = time.perf_counter()
                call(inputs)
                seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(name: str) -> None:
    """Prints what each format gains over FP32 on one model of the comparison, and how close it stays."""
    from engine_build import calibration_batches, export, request_of
    from engine_models import MODELS
    from lines import emit

    from strop_api.targets import Runtime
    from strop_job.benchmark.inputs import synthetic

    model = MODELS[name]
    with tempfile.TemporaryDirectory(prefix="strop-plain-") as scratch:
        folder = Path(scratch)
        request = request_of(model, Runtime.ONNX_RUNTIME, None)
        ready = preprocessed(export(request, model, folder).entry, folder)
        batches = list(calibration_batches(model))
        calls = {"FP32": load(ready), "dynamic": load(dynamic(ready, folder))}
        calls |= {form: load(static(ready, batches, folder, form)) for form in FORMATS}
        inputs = synthetic(request.spec.model, 0)
        seconds = interleaved(calls, inputs)
        answers = {form: next(iter(call(batches[0]).values())) for form, call in calls.items()}
    for form in calls:
        gain = float(np.median(seconds["FP32"]) / np.median(seconds[form]))
        emit(f"plain_onnxruntime_{name}_{form}_gain", "x", gain, n=ROUNDS * CALLS, baseline=1)
        emit(f"plain_onnxruntime_{name}_{form}_cosine", "1", cosine(answers["FP32"], answers[form]), baseline=1)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine similarity of paired rows."""
    rows, others = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    return float(np.mean(np.sum(rows * others, 1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(others, axis=1)))


def main(names: Sequence[str]) -> None:
    """One model after another."""
    for name in names or ("minilm", "cnn", "magika"):
        compare(name)


if __name__ == "__main__":
    main(sys.argv[1:])
