"""The export to a torch program: what it keeps of the module, and what it refuses to load."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from strop_api.targets import Target
from strop_job.backends import backend_for
from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.program import refuse_foreign_code
from strop_job.models.program_files import has_half, is_quantized, operators, read_signature
from strop_job.stages import Artifact, ArtifactKind

from .conftest import TARGET, Line


def test_a_program_keeps_both_dynamic_dimensions_and_says_so_itself(encoder: Line) -> None:
    """Were a dimension fixed, the engine would serve the example's size alone."""
    program = encoder.made["export"]
    signature = read_signature(program.entry)
    assert signature.bounds == {"batch": (1, 8), "sequence": (2, 64)}
    assert [i.shape for i in signature.inputs] == [("batch", "sequence")] * 2
    assert [(o.name, o.dtype, o.shape) for o in signature.outputs] == [("output", "float32", (-1, 32))]
    assert program.files == ("model.pt2",)
    assert program.facts["parity"]["worst"] < 1e-4
    assert {at["sizes"]["sequence"] for at in program.facts["parity"]["shapes"]} >= {2, 16, 64}


def test_a_program_carries_no_path_of_the_machine_that_made_it(cnn: Line) -> None:
    """A stack trace in the file would publish where this worker's sources lie, and change its bytes with them."""
    with zipfile.ZipFile(cnn.made["export"].entry) as archive:
        assert all(b"site-packages" not in archive.read(name) for name in archive.namelist() if "json" in name)
        assert all(b"zoo/cnn.py" not in archive.read(name) for name in archive.namelist() if "json" in name)


def test_what_a_program_computes_with_is_read_from_its_own_operators(cnn: Line, cnn_int8: Artifact) -> None:
    """The tolerance of compile parity rests on it: an integer graph taken for a float one would fail."""
    plain, short = cnn.made["export"].entry, cnn_int8.entry
    assert not is_quantized(plain)
    assert is_quantized(short)
    assert not has_half(short)
    assert operators(plain)["aten.conv2d.default"] == 2


def test_a_module_that_fixes_a_dimension_is_refused_by_the_dimensions_name(
    cnn: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the engine would be built, and fail at the first other batch."""
    import torch

    from strop_api.model import ModelSource
    from strop_job.models.program_export import export_to_program

    class Fixed(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.reshape(4, 64)

    with pytest.raises(InvalidInput, match="batch"):
        export_to_program(Fixed(), cnn.spec().model, tmp_path, 0)
    assert isinstance(cnn.spec().model, ModelSource)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": "TorchExport", "architecture": None}, "spec.model.format"),
        ({"format": "Onnx", "architecture": None}, "spec.model.format"),
        (
            {"architecture": {"callable": "m:f", "source": {"uri": "s3://m/f.py", "digest": "sha256:" + "0" * 64}}},
            "spec.model.architecture.source",
        ),
    ],
)
def test_a_model_that_is_code_never_becomes_a_torch_program(cnn: Line, change: dict[str, object], field: str) -> None:
    """The quantizer and the compiler load programs outside of the lock: foreign code would run in the worker."""
    from strop_api.model import ModelSource

    document = cnn.spec().model.model_dump(mode="json", by_alias=True) | change
    with pytest.raises(Unsupported) as refused:
        refuse_foreign_code(ModelSource.model_validate(document), None)
    assert refused.value.field == field


def test_a_damaged_program_is_an_error_in_words(cnn: Line, tmp_path: Path) -> None:
    """A truncated blob must not end in a stack trace of a zip reader."""
    path = tmp_path / "model.pt2"
    path.write_bytes(cnn.made["export"].entry.read_bytes()[:2000])
    backend = backend_for(Target.model_validate(TARGET).runtime)
    with pytest.raises(InvalidInput, match="damaged"):
        backend.open(
            Artifact(ArtifactKind.EXPORTED_PROGRAM, tmp_path, ("model.pt2",)),
            Target.model_validate(TARGET),
            threads=1,
            optimized=False,
        )


def test_an_eager_program_is_the_module(cnn: Line) -> None:
    """It is the reference that the engine is held against."""
    import torch
    from safetensors.torch import load_file

    from strop_job.steps.export import SOURCE_STAGE
    from strop_job.zoo.cnn import classifier

    module = classifier(width=8).eval()
    module.load_state_dict(load_file(cnn.made[SOURCE_STAGE].entry))
    target = Target.model_validate(TARGET)
    session = backend_for(target.runtime).open(cnn.made["export"], target, threads=1, optimized=False)
    image = np.random.default_rng(3).standard_normal((5, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(session.run({"image": image})["output"], expected, rtol=1e-4, atol=1e-5)
    session.close()
    assert json.loads(read_signature(cnn.made["export"].entry).text())["bounds"] == {"batch": [1, 20]}
