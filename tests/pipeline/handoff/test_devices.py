"""LiteRT and Core ML files, made by the real converters and opened again by their own readers.

The converters live in an environment of their own: `make devices` makes it and runs these tests.
"""

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from strop_job.errors import InvalidInput, Unsupported
from strop_job.handoff.device import find_environment, missing
from strop_job.stages import Artifact, ArtifactKind

PYTHON = os.environ.get("STROP_DEVICE_PYTHON", "")
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PYTHON, reason="the converters have an environment of their own: run `make devices`"),
]
CNN = {
    "uri": "s3://models/cnn/model.safetensors",
    "format": "Safetensors",
    "architecture": {"callable": "strop_job.zoo.cnn:classifier", "arguments": {"width": 4}},
    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
    "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 32}],
}
ENCODER = {
    "uri": "s3://models/bert/model.safetensors",
    "format": "Safetensors",
    "architecture": {
        "callable": "strop_job.zoo.bert:sentence_encoder",
        "arguments": {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "intermediate_size": 32, "max_position_embeddings": 64},
    },
    "inputs": [{"name": n, "dtype": "int64", "shape": ["batch", "sequence"]} for n in ("input_ids", "attention_mask")],
    "dimensions": [
        {"name": "batch", "min": 1, "opt": 2, "max": 8},
        {"name": "sequence", "min": 1, "opt": 16, "max": 64},
    ],
}  # fmt: skip
RUN_LITERT = """\
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
path, out = sys.argv[1:]
interpreter = Interpreter(path)
interpreter.allocate_tensors()
runner = interpreter.get_signature_runner()
random = np.random.default_rng(7)
def made_up(d):
    whole = d["dtype"] is np.int32
    return (random.integers(1, 2, d["shape"]) if whole else random.normal(size=d["shape"])).astype(d["dtype"])
given = {name: made_up(d) for name, d in runner.get_input_details().items()}
np.savez(out, **{"in_" + n: v for n, v in given.items()}, **{"out_" + n: v for n, v in runner(**given).items()})
"""
READ_CORE_ML = """\
import json, sys
import coremltools as ct
spec = ct.models.MLModel(sys.argv[1], skip_model_load=True).get_spec()
print(json.dumps([spec.WhichOneof("Type"), [f.name for f in spec.description.input],
                  [f.name for f in spec.description.output]]))
"""


def device(program: str, *words: Any) -> str:
    """What a program prints in the environment of the converters."""
    command = [PYTHON, "-c", program, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_DEVICE_PYTHON", PYTHON)
    found = find_environment()
    assert not found.problem


@pytest.fixture
def weights(bench) -> Callable[[dict], Artifact]:
    """Seeded weights of a model of the zoo, as its source."""

    def make(model: dict) -> Artifact:
        import torch
        from safetensors.torch import save_file

        from strop_job.models.architectures import find_callable

        torch.manual_seed(0)
        module = find_callable(model["architecture"]["callable"], field="")(**model["architecture"]["arguments"])
        folder = bench.fresh()
        save_file(module.state_dict(), folder / "model.safetensors")
        return Artifact(ArtifactKind.SOURCE, folder, ("model.safetensors",))

    return make


@pytest.fixture
def convert(bench, parts) -> Callable[..., Artifact]:
    """A bundle of one device format."""

    def make(model: dict, wanted: str, source: Artifact, **options: Any) -> Artifact:
        spec = parts.spec_of(model=model, output={"uri": "s3://e/x", "formats": [wanted]})
        request = parts.request_of(spec).model_copy(update=options)
        (stage,) = parts.stages_of(request).values()
        return bench.run(stage, request, resolve_model=source)

    return make


@pytest.mark.parametrize("model", [CNN, ENCODER], ids=["cnn", "encoder"])
def test_litert_computes_what_the_original_does(convert, weights, tmp_path, model):
    """A file that loads and computes something else would be shipped to devices."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from strop_job.models.architectures import find_callable

    source = weights(model)
    bundle = convert(model, "LiteRT", source)
    assert bundle.files == ("model.tflite",)
    device(RUN_LITERT, bundle.entry, tmp_path / "ran.npz")
    ran = np.load(tmp_path / "ran.npz")
    module = find_callable(model["architecture"]["callable"], field="")(**model["architecture"]["arguments"])
    module.load_state_dict(load_file(source.entry))
    kinds = {t["name"]: t["dtype"] for t in model["inputs"]}
    with torch.no_grad():
        wanted = module.eval()(**{n: torch.from_numpy(ran[f"in_{n}"].astype(kinds[n])) for n in kinds})
    wanted = next(iter(wanted.values())) if isinstance(wanted, dict) else wanted
    np.testing.assert_allclose(ran["out_output_0"], wanted.numpy(), atol=1e-4)
    assert bundle.facts["worstDifference"] < 1e-3
    assert "neither evaluated nor timed" in bundle.facts["notes"][0]


@pytest.mark.parametrize("model", [CNN, ENCODER], ids=["cnn", "encoder"])
def test_core_ml_is_an_ml_program_with_the_models_signature(convert, weights, model):
    """Xcode shows these names to whoever writes the app."""
    bundle = convert(model, "CoreML", weights(model))
    assert "model.mlpackage/Manifest.json" in bundle.files
    kind, inputs, outputs = json.loads(device(READ_CORE_ML, bundle.folder / "model.mlpackage"))
    assert kind == "mlProgram"
    assert sorted(inputs) == sorted(t["name"] for t in model["inputs"])
    assert outputs == [t["name"] for t in bundle.facts["outputs"]]
    assert {t["name"]: t["shape"][0] for t in bundle.facts["inputs"]} == dict.fromkeys(inputs, -1)
    assert "It was not run" in bundle.facts["notes"][0]


def test_a_torch_export_is_converted_locked_in(convert, bench):
    """Loading a `.pt2` runs code, in this environment as in the worker's."""
    folder = bench.fresh()
    program = (
        "import sys, torch\nfrom strop_job.zoo.cnn import classifier\ntorch.manual_seed(0)\n"
        "dims = {'image': {0: torch.export.Dim('batch', min=1, max=32)}}\n"
        "made = torch.export.export(classifier(width=4).eval(), (torch.randn(4, 1, 8, 8),), dynamic_shapes=dims)\n"
        "torch.export.save(made, sys.argv[1])"
    )
    device(program, folder / "model.pt2")
    model = {k: v for k, v in CNN.items() if k != "architecture"} | {
        "format": "TorchExport",
        "digest": f"sha256:{'0' * 64}",
    }
    source = Artifact(ArtifactKind.SOURCE, folder, ("model.pt2",))
    for wanted, file in (("LiteRT", "model.tflite"), ("CoreML", "model.mlpackage/Manifest.json")):
        assert file in convert(model, wanted, source, allow_code=True).files
    with pytest.raises(Unsupported, match="the policy does not allow"):
        convert(model, "LiteRT", source)


def test_weights_of_another_architecture_are_an_error_of_the_input(convert, weights):
    """What the export would say must be said here too, not a trace of the converter's."""
    with pytest.raises(InvalidInput, match="the weights do not fit the architecture"):
        convert(CNN, "LiteRT", weights(ENCODER))


def test_everything_is_there():
    """The environment that `make device-env` makes must serve both formats."""
    from strop_api.targets import OutputFormat

    assert missing(find_environment(), OutputFormat.LITERT) is None
    assert missing(find_environment(), OutputFormat.CORE_ML) is None


def test_a_file_that_differs_is_refused(weights, bench):
    """A check that takes anything would let a wrong file through."""
    source = weights(CNN)
    program = """
import json, sys
from pathlib import Path
import torch
from strop_api.model import ModelSource
from strop_job.errors import Unsupported
from strop_job.handoff import coreml, litert, original
from strop_job.stages import Artifact, ArtifactKind
model = ModelSource.model_validate(json.loads(sys.argv[1]))
source = Artifact(ArtifactKind.SOURCE, Path(sys.argv[2]), ("model.safetensors",))
given = original.load(model, source, None, 0)
litert.convert(given, Path(sys.argv[3]))
arrays = given.arrays({"batch": 4})
found = litert.run(litert.load(Path(sys.argv[3]) / litert.FILE), given, arrays)
with torch.no_grad():
    given.module.head.bias += 0.5
print(litert.worst(found, given.run(arrays)) > litert.TOLERANCE)
right = {"inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 1, 8, 8]}], "outputs": [{"name": "output"}]}
coreml.refuse_other_signature(right, model, ["output"])
for wrong in ({**right, "outputs": [{"name": "other"}]}, {**right, "inputs": []}):
    try:
        coreml.refuse_other_signature(wrong, model, ["output"])
    except Unsupported:
        print(True)
"""
    said = device(program, json.dumps(CNN), source.folder, bench.fresh())
    assert said.split()[-3:] == ["True"] * 3
