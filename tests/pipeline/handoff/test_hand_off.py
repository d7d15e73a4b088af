"""What `output.formats` leads to: stages, folders, findings and refusals."""

import sys

import pytest

from strop_api.targets import Runtime
from strop_job.backends import TRAITS
from strop_job.errors import Unsupported
from strop_job.handoff import BUNDLE_STAGES, folder_of, hand_off
from strop_job.handoff.device import DeviceEnvironment, find_environment
from strop_job.handoff.readme import bundles, files_table
from strop_job.handoff.signature import read_signature
from strop_job.publish import Owner, PublishedFile, Role, current, publish
from strop_job.records import made_from
from strop_job.store.digests import bytes_digest
from strop_job.store.local import LocalStore

NAMES = {"engine": "compile", "graph": "int8", "export": "export", "model": "resolve-model"}
TORCH = {
    "uri": "s3://models/cnn/model.safetensors",
    "format": "Safetensors",
    "architecture": {"callable": "strop_job.zoo.cnn:classifier", "arguments": {"width": 4}},
    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
    "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 32}],
}
COMPLETE = DeviceEnvironment(
    sys.executable,
    {**find_environment().versions, "litert-torch": "0.10.0", "ai-edge-litert": "2.3.0", "coremltools": "9.0"},
)


def asked(parts, *formats: str, target: dict | None = None):
    """What follows from these formats."""
    target = target or parts.spec_of()["targets"][0]
    output = {"uri": "s3://engines/scores", "formats": ["Engine", *formats]}
    request = parts.request_of(parts.spec_of(targets=[target], output=output))
    return hand_off(request, request.spec.targets[0], **NAMES, environment=lambda: COMPLETE)


def test_the_engine_alone_needs_no_stage(parts):
    """Every run would pay for bundles that nobody asked for."""
    found = asked(parts)
    assert (found.stages, found.companions, found.findings) == ((), (), ())


def test_kserve_brings_the_repository_that_it_serves(parts):
    """The manifest would point to a folder that is not there."""
    assert asked(parts, "KServe").companions == ("bundle-triton", "bundle-kserve")


@pytest.mark.parametrize("runtime", ["ONNXRuntime", "OpenVINO", "Inductor"])
@pytest.mark.parametrize("wanted", ["Triton", "KServe", "OCI"])
def test_what_tells_of_the_engine_is_made_again_on_other_hardware(parts, runtime, wanted):
    """Two processors may yield the same bytes; the bundle would tell the version and precision of the other one."""
    stage = asked(parts, wanted, target={"name": "cpu", "runtime": runtime}).stages[-1]
    inputs = dict.fromkeys(stage.needs, bytes_digest(b"engine"))
    one, other = (made_from(stage, inputs, "image", 0, processor).key for processor in ("cpu-a", "cpu-b"))
    assert one != other
    if wanted != "OCI":
        assert set(TRAITS[Runtime(runtime)].libraries) <= set(stage.libraries)


def test_the_graph_is_the_one_that_was_compiled(parts):
    """The Onnx format promises the optimized graph."""
    assert asked(parts, "Onnx").companions == ("int8",)
    assert folder_of("int8") == "onnx"


def test_where_quantization_leaves_onnx_the_plan_says_that_the_graph_is_the_unquantized_one(parts):
    """An FP32 graph beside an INT8 engine would be taken for its source."""
    found = asked(parts, "Onnx", target={"name": "cpu", "runtime": "OpenVINO"})
    assert found.companions == ("export",)
    assert "before quantization" in found.findings[0].message


def test_each_bundle_has_a_folder_of_its_own():
    """Two bundles in one folder would overwrite each other's files."""
    folders = [folder_of(stage) for stage in BUNDLE_STAGES]
    assert len({*folders, "onnx"}) == len(folders) + 1


def test_a_converter_that_is_not_here_is_a_finding_and_nothing_else(parts):
    """A format that is skipped in silence looks as if it had been published."""
    request = parts.request_of(parts.spec_of(model=TORCH, output={"uri": "s3://e/x", "formats": ["LiteRT", "CoreML"]}))
    bare = DeviceEnvironment(sys.executable, {"strop": "0.1.0", "torch": "2.14.1", "coremltools": "9.0"})
    found = hand_off(request, request.spec.targets[0], **NAMES, environment=lambda: bare)
    assert found.companions == ("bundle-coreml",)
    (finding,) = found.findings
    assert finding.message.startswith(
        "spec.output.formats: LiteRT is skipped: this worker has no litert-torch and no ai-edge-litert"
    )
    assert "STROP_DEVICE_PYTHON" in finding.message


def test_converters_of_another_release_are_not_used(parts):
    """Two releases of our own code would read one order differently."""
    request = parts.request_of(parts.spec_of(model=TORCH, output={"uri": "s3://e/x", "formats": ["CoreML"]}))
    other = DeviceEnvironment(sys.executable, {**COMPLETE.versions, "strop": "0.0.1"})
    found = hand_off(request, request.spec.targets[0], **NAMES, environment=lambda: other)
    assert found.companions == ()
    assert "strop 0.0.1" in found.findings[0].message


def test_a_python_that_is_not_there_is_told(parts, monkeypatch):
    """A mistyped path must not end every run, nor pass for an environment without converters."""
    monkeypatch.setenv("STROP_DEVICE_PYTHON", "/nowhere/python")
    request = parts.request_of(parts.spec_of(model=TORCH, output={"uri": "s3://e/x", "formats": ["LiteRT"]}))
    found = hand_off(request, request.spec.targets[0], **NAMES)
    assert found.companions == ()
    assert "STROP_DEVICE_PYTHON names no usable Python" in found.findings[0].message


def test_a_device_format_of_an_onnx_model_is_refused(parts):
    """No converter here reads ONNX; to skip it would leave out what installing nothing can mend."""
    with pytest.raises(Unsupported, match=r"spec\.output\.formats: LiteRT is converted from torch"):
        asked(parts, "LiteRT")


def test_new_converters_make_new_files(parts):
    """A record of an older converter's file would be published as the newer one's."""
    spec = parts.spec_of(model=TORCH, output={"uri": "s3://e/x", "formats": ["CoreML"]})
    request = parts.request_of(spec)
    newer = DeviceEnvironment(sys.executable, {**COMPLETE.versions, "coremltools": "9.1"})
    stages = [
        hand_off(request, request.spec.targets[0], **NAMES, environment=lambda e=e: e).stages[0]
        for e in (COMPLETE, newer)
    ]
    assert stages[0].parameters != stages[1].parameters


def test_bytes_that_were_measured_are_marked_so_under_every_name(parts, scores, tmp_path):
    """A copy of the engine called a companion, or a companion called measured, would say what was not measured."""
    store, engine = LocalStore(tmp_path / "store"), scores["engine"]
    files = {name: engine.folder / name for name in engine.files}
    companions = {f"bundle-{kind}": scores[kind] for kind in ("triton", "kserve", "oci")}
    for stage, bundle in companions.items():
        files |= {f"{folder_of(stage)}/{name}": bundle.folder / name for name in bundle.files}
    told: list[PublishedFile] = []

    def describe(published):
        told.extend(published)
        return files_table(published) + bundles(companions)

    owner = Owner(namespace="team", name="scores", uid="u")
    reference = publish(store, "s3://engines/scores", "r1", owner, files, {}, measured=engine.files, readme=describe)
    roles = {file.name: file.role for file in told}
    digest = next(file.digest for file in told if file.name == engine.files[0])
    measured = {name for name, role in roles.items() if role is Role.MEASURED}
    assert measured == {engine.files[0], "triton/scores/1/model.onnx", f"oci/blobs/sha256/{digest[7:]}"}
    assert reference.size_bytes == engine.entry.stat().st_size
    text = store.read("s3://engines/scores/r1/README.md", 1 << 20).decode()
    assert "| `triton/scores/1/model.onnx` |" in text
    assert text.count("**measured** |") == 3
    assert "ONNX Runtime" in text
    pointer = current(store, "s3://engines/scores")
    assert pointer is not None
    manifest = store.read("s3://engines/scores/r1/manifest.json", 1 << 20)
    assert pointer.manifest_digest == bytes_digest(manifest)
    assert b'"README.md"' in manifest


def test_the_signature_of_an_onnx_engine_is_read_from_its_file(scores):
    """What the spec says of the inputs may differ from what the engine was compiled to take."""
    signature = read_signature(scores["engine"])
    assert [(t.name, t.dtype, t.shape) for t in signature.outputs] == [
        ("scores", "float32", (-1, 5)),
        ("best", "int64", (-1,)),
    ]
