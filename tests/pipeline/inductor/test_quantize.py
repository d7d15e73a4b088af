"""Quantizing torch programs: what becomes an integer, what is kept, and what is refused by its field."""

from typing import Any

import numpy as np
import pytest

from strop_api.targets import Target
from strop_job.backends import backend_for
from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.program_files import has_half, operators, read_signature
from strop_job.stages import Artifact
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.quantize.pt2e import refuse

from .conftest import BF16, INT8, TARGET, Line

SQUARE = {"precision": "int8", "method": "Static"}


def outputs(program: Artifact, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What the program computes as it is written."""
    target = Target.model_validate(TARGET)
    session = backend_for(target.runtime).open(program, target, threads=1, optimized=False)
    try:
        return session.run(inputs)["output"]
    finally:
        session.close()


def stored(program: Artifact) -> dict[str, Any]:
    """The weights that the file holds."""
    import torch

    return dict(torch.export.load(program.entry).state_dict)


def test_every_layer_with_weights_becomes_an_integer_one(cnn_int8: Artifact, encoder_int8: Artifact) -> None:
    """A quantizer that skips layers without a word leaves an engine that is int8 by name; the one skipped is told."""
    assert cnn_int8.facts["quantized"] == {"conv2d": 1, "linear": 1}
    assert cnn_int8.facts["excluded"] == ["conv2d"]
    assert encoder_int8.facts["quantized"] == {"linear": 6}
    assert cnn_int8.facts["format"] == "U8S8"
    assert 0.99 < cnn_int8.facts["cosine"] <= 1


def test_a_quantized_program_keeps_the_dynamic_dimensions(encoder: Line, encoder_int8: Artifact, ids: Any) -> None:
    """torchao rewrites a module; exported again carelessly it would serve the example's sizes alone."""
    assert read_signature(encoder_int8.entry) == read_signature(encoder.made["export"].entry)
    for batch, sequence in ((1, 2), (3, 17), (8, 64)):
        assert outputs(encoder_int8, ids(batch, sequence)).shape == (batch, 32)


def test_integer_weights_are_not_kept_beside_their_originals(cnn: Line, cnn_int8: Artifact) -> None:
    """The record would be larger than before the step."""
    before, after = cnn.made["export"], cnn_int8
    assert sum(operators(after.entry).values()) > sum(operators(before.entry).values())
    import torch

    weights = stored(after)
    assert sum(w.dtype == torch.int8 for w in weights.values()) == 2
    assert sum(w.ndim > 1 for w in weights.values() if w.dtype == torch.float32) == 1
    assert all(w.ndim < 2 or w.shape[1] == 1 for w in weights.values() if w.dtype == torch.float32)


@pytest.mark.parametrize("calibrator", ["MinMax", "Percentile", "Entropy", "MSE"])
def test_each_calibrator_chooses_its_own_ranges(cnn: Line, calibrator: str) -> None:
    """One that fell back to another's would be recorded under a name that is not its own."""
    made = cnn.quantize({**INT8, "calibrator": calibrator, "percentile": "99.0"})
    found = made.facts["calibration"]
    assert found["calibrator"] == calibrator
    assert found["samples"] == 24
    inner = found["tensors"][0]
    assert (found["largestClippedShare"] > 0) == (calibrator in ("Percentile", "Entropy"))
    if calibrator == "Percentile":
        assert inner["clippedShare"] == pytest.approx(0.01, abs=0.003)
    if calibrator == "MinMax":
        assert inner["high"] == pytest.approx(inner["maximum"], rel=0.01)


def test_a_layer_that_is_excluded_keeps_its_float_weights(cnn: Line) -> None:
    """Excluding by the module's path is how a sensitive layer is saved."""
    made = cnn.quantize({**INT8, "excludeNodes": ["head"]})
    assert made.facts["quantized"] == {"conv2d": 1}
    assert made.facts["excluded"] == ["conv2d", "linear"]


def test_only_the_listed_operators_are_quantized(cnn: Line) -> None:
    """opTypes speaks of ONNX operators: Gemm is the linear layer."""
    assert cnn.quantize({**INT8, "opTypes": ["Gemm"]}).facts["quantized"] == {"linear": 1}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"opTypes": ["Gather"]}, "spec.steps[0].quantize.opTypes[0]"),
        ({"excludeNodes": ["nothing*"]}, "spec.steps[0].quantize.excludeNodes[0]"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(cnn: Line, options: dict[str, Any], field: str) -> None:
    """Ignored, it would leave the user believing that something was excluded."""
    with pytest.raises(InvalidInput) as refused:
        cnn.quantize({**INT8, **options})
    assert refused.value.field == field


def test_excluding_everything_is_no_quantization(cnn: Line) -> None:
    """A file with no integer in it must not pass for INT8."""
    with pytest.raises(InvalidInput, match="nothing was quantized"):
        cnn.quantize({**INT8, "excludeNodes": ["*"]})


@pytest.mark.parametrize(
    ("options", "target", "field"),
    [
        ({**INT8, "perChannel": False}, TARGET, "spec.steps[0].quantize.perChannel"),
        (INT8, {"name": "gpu", "runtime": "Inductor", "accelerator": {}}, "spec.steps[0].quantize.precision"),
        ({"precision": "fp16", "method": "Cast"}, TARGET, "spec.steps[0].quantize"),
        ({"precision": "int8", "method": "Dynamic"}, TARGET, "spec.steps[0].quantize"),
    ],
)
def test_what_has_no_kernel_is_refused_by_its_field(
    cnn: Line, options: dict[str, Any], target: dict[str, Any], field: str
) -> None:
    """Inductor would run it in float without a word."""
    spec = cnn.spec(options, target)
    assert spec.steps[0].quantize is not None
    with pytest.raises(Unsupported) as refused:
        refuse(spec.steps[0].quantize, 0, spec.targets[0])
    assert refused.value.field == field


def test_nan_in_the_calibration_data_is_the_datas_fault(cnn: Line, tmp_path: Any) -> None:
    """A NaN would make every range NaN, and every output."""
    images = np.full((4, 1, 8, 8), np.nan, np.float32)
    np.savez(tmp_path / "calibration.npz", image=images, label=np.zeros(4, np.int64))
    spec = cnn.spec()
    stage = quantize_stage(spec.steps[0], "export", spec, spec.targets[0])
    bad = Artifact(cnn.made["resolve-calibration"].kind, tmp_path, ("calibration.npz",))
    with pytest.raises(InvalidInput) as refused:
        cnn.run(stage, spec, **{"resolve-calibration": bad})
    assert str(refused.value.field).startswith("spec.data.calibration")


def test_bf16_stores_short_weights_and_keeps_the_types_outside(encoder: Line, ids: Any) -> None:
    """Clients send and read what the spec says, whatever the engine computes with."""
    made = encoder.quantize(BF16)
    assert made.facts["format"] == "bf16"
    assert has_half(made.entry)
    assert made.facts["cosine"] > 0.999
    short = [w for w in stored(made).values() if str(w.dtype) == "torch.bfloat16"]
    assert sum(w.ndim == 2 for w in short) == 6
    found = outputs(made, ids(3, 10))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, outputs(encoder.made["export"], ids(3, 10)), atol=0.02)


def test_bf16_keeps_what_is_excluded(cnn: Line) -> None:
    """The names are those of the modules."""
    made = cnn.quantize({**BF16, "excludeNodes": ["features.*"]})
    assert made.facts["excluded"] == ["conv2d", "conv2d_1"]
    assert made.facts["scales"] == {"tensors": 1}
