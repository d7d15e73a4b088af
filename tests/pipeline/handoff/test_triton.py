"""The Triton repository, read by Triton's own schema and served by Triton's own core."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from google.protobuf import text_format

from strop_job.errors import Unsupported
from strop_job.hardware import this_machine
from strop_job.stages import Artifact, ArtifactKind
from strop_job.store.digests import file_digest

sys.path.insert(0, str(Path(__file__).parent))

from triton_server import RefusedError, serving, why_not_here

TENSORS = {
    "inputs": [
        {"name": "image", "dtype": "float32", "shape": [-1, 3, 16, 16]},
        {"name": "scale", "dtype": "float16", "shape": [-1, 1]},
    ],
    "outputs": [{"name": "scores", "dtype": "bfloat16", "shape": [-1, 5]}],
}
ENCODER = {
    "uri": "s3://models/bert/model.safetensors",
    "format": "Safetensors",
    "architecture": {
        "callable": "strop_job.zoo.bert:sentence_encoder",
        "arguments": {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "intermediate_size": 32, "max_position_embeddings": 64},
    },
    "inputs": [{"name": n, "dtype": "int64", "shape": ["batch", 16]} for n in ("attention_mask", "input_ids")],
    "dimensions": [{"name": "batch", "min": 1, "opt": 2, "max": 8}],
}  # fmt: skip
DEVICE = {"resource": "nvidia.com/gpu", "product": "NVIDIA-L4"}
PLAN_TARGET = {"name": "l4", "runtime": "TensorRT", "accelerator": DEVICE}


def config_of(schema, bundle: Artifact):
    """`config.pbtxt` as Triton's schema reads it; a word that it does not know is an error."""
    path = next(bundle.folder / file for file in bundle.files if file.endswith("config.pbtxt"))
    return text_format.Parse(path.read_text(), schema.ModelConfig())


def made_elsewhere(bench, name: str, **facts) -> Artifact:
    """An engine that no library here can read: its facts tell of it."""
    folder = bench.fresh()
    (folder / name).write_bytes(b"an engine")
    return Artifact(ArtifactKind.ENGINE, folder, (name,), {"version": "11.4.0", **TENSORS, **facts})


def triton_of(bench, parts, target: dict, engine: Artifact, **changes) -> Artifact:
    """The repository of one engine."""
    request = parts.request_of(parts.spec_of(targets=[target], **changes))
    stage = parts.stages_of(request)["bundle-triton"]
    return bench.run(stage, request, compile=engine, resolve_model=bench.source())


@pytest.fixture
def repository(bench, parts):
    """Makes the repository of an engine on a target."""
    return lambda target, engine, **changes: triton_of(bench, parts, target, engine, **changes)


def test_tritons_own_schema_reads_what_the_engine_takes_and_yields(scores, triton_schema):
    """A server would refuse a file that its schema cannot parse, or requests that the engine would take."""
    config = config_of(triton_schema, scores["triton"])
    assert (config.name, config.backend, config.max_batch_size) == ("scores", "onnxruntime", 16)
    read = [(t.name, triton_schema.DataType.Name(t.data_type), list(t.dims)) for t in (*config.input, *config.output)]
    assert read == [
        ("image", "TYPE_FP32", [3, 16, 16]),
        ("scale", "TYPE_FP32", [1]),
        ("scores", "TYPE_FP32", [5]),
        ("best", "TYPE_INT64", [1]),
    ]
    assert config.output[1].HasField("reshape")
    assert list(config.output[1].reshape.shape) == []
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 16]
    assert list(config.version_policy.specific.versions) == [1]
    assert [triton_schema.ModelInstanceGroup.Kind.Name(g.kind) for g in config.instance_group] == ["KIND_CPU"]
    assert config.optimization.graph.level == 2
    assert config.parameters["intra_op_thread_count"].string_value == "2"


def test_the_engine_in_the_repository_is_the_measured_one(scores):
    """Another file under the same name would be published as measured."""
    engine, bundle = scores["engine"], scores["triton"]
    assert file_digest(bundle.folder / "scores/1/model.onnx") == file_digest(engine.entry)


@pytest.mark.skipif(why_not_here() is not None, reason=why_not_here() or "")
def test_a_real_triton_server_serves_the_repository(scores, parts, tmp_path):
    """Triton checks more than its schema says: sizes against each other, files, batches."""
    random = np.random.default_rng(1)
    given = {"image": random.normal(size=(3, 3, 16, 16)), "scale": np.ones((3, 1))}
    given = {name: value.astype(np.float32) for name, value in given.items()}
    wanted = onnx_outputs(scores["engine"].entry, given)
    home = tmp_path / "server"
    home.mkdir()
    with serving(parts.package_file("pytriton"), home, scores["triton"].folder) as server:
        told = server.get("models/scores")
        answer = server.post("models/scores/infer", {"inputs": [wire(n, v) for n, v in given.items()]})
    assert {tensor["name"]: tensor["shape"] for tensor in told["inputs"]} == {
        "image": [-1, 3, 16, 16],
        "scale": [-1, 1],
    }
    found = {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in answer["outputs"]}
    np.testing.assert_allclose(found["scores"], wanted["scores"], rtol=1e-5)
    assert found["best"].ravel().tolist() == wanted["best"].tolist()


@pytest.mark.skipif(why_not_here() is not None, reason=why_not_here() or "")
def test_the_real_server_is_no_rubber_stamp(scores, parts, tmp_path):
    """If Triton took anything, its taking our repository would show nothing."""
    config = scores["triton"].folder / "scores" / "config.pbtxt"
    config.write_text(config.read_text().replace("[4, 16]", "[4, 17]"))
    home = tmp_path / "server"
    home.mkdir()
    with (
        pytest.raises(RefusedError, match="preferred size"),
        serving(parts.package_file("pytriton"), home, scores["triton"].folder),
    ):
        pass


def test_an_ir_is_read_by_openvino_and_keeps_its_weights(bench, repository, parts, triton_schema):
    """OpenVINO looks for the weights under the name of the IR."""
    target = {"name": "cpu", "runtime": "OpenVINO", "openVINO": {"performanceHint": "Throughput"}}
    engine = bench.engine(parts.request_of(parts.spec_of(targets=[target])), parts.network())
    bundle = repository(target, engine)
    assert bundle.files == ("scores/1/model.bin", "scores/1/model.xml", "scores/config.pbtxt")
    config = config_of(triton_schema, bundle)
    assert (config.backend, config.max_batch_size) == ("openvino", 16)
    assert config.parameters["PERFORMANCE_HINT"].string_value == "THROUGHPUT"
    model = openvino.Core().read_model(str(bundle.folder / "scores/1/model.xml"))
    assert [port.get_any_name() for port in model.inputs] == [tensor.name for tensor in config.input]


@pytest.mark.parametrize("runtime", ["ONNXRuntime", "OpenVINO"])
def test_a_server_gets_the_threads_that_were_measured(bench, repository, parts, triton_schema, runtime):
    """Left to itself it takes every core, and serves with a latency that nobody measured."""
    target = {"name": "cpu", "runtime": runtime}
    engine = bench.engine(parts.request_of(parts.spec_of(targets=[target])), parts.network())
    given = config_of(triton_schema, repository(target, engine)).parameters
    measured = str(this_machine().threads)
    if runtime == "ONNXRuntime":
        assert given["intra_op_thread_count"].string_value == measured
    else:
        assert given["INFERENCE_NUM_THREADS"].string_value == measured
        assert given["NUM_STREAMS"].string_value == str(engine.facts["streams"])


def test_what_was_measured_stands_in_the_configuration(bench, repository, parts):
    """Who reads the repository alone could not tell under which settings its figures hold."""
    target = {"name": "cpu", "runtime": "OpenVINO", "cpu": {"threads": 2}}
    engine = bench.engine(parts.request_of(parts.spec_of(targets=[target])), parts.network())
    text = (repository(target, engine).folder / "scores/config.pbtxt").read_text()
    told = next(line for line in text.splitlines() if line.startswith("# As measured: "))
    assert {"threads 2", *(f"{k} {v}" for k, v in engine.facts["properties"].items())} <= set(
        told.removeprefix("# As measured: ").split(", ")
    )


def test_a_precision_that_the_server_cannot_be_told_is_said(bench, repository, parts, triton_schema):
    """Triton's OpenVINO backend computes in bf16 where it can, and the figures of the report would be another's."""
    target = {"name": "cpu", "runtime": "OpenVINO"}
    engine = bench.engine(parts.request_of(parts.spec_of(targets=[target])), parts.network())
    assert engine.facts["inferencePrecision"] == "f32"
    plain = repository(target, engine)
    assert any("floats in f32" in note for note in plain.facts["notes"])
    assert "HINT_BF16" not in config_of(triton_schema, plain).parameters
    half = repository(target, replace(engine, facts={**engine.facts, "inferencePrecision": "bf16"}))
    assert config_of(triton_schema, half).parameters["HINT_BF16"].string_value == "yes"
    assert not any("floats in" in note for note in half.facts["notes"])


def test_a_plan_names_the_tensorrt_that_loads_it(bench, repository, triton_schema):
    """A plan loads in one version of TensorRT alone, and a server that brings another one fails at its start."""
    bundle = repository(PLAN_TARGET, made_elsewhere(bench, "engine.plan"))
    config = config_of(triton_schema, bundle)
    assert "scores/1/model.plan" in bundle.files
    assert (config.platform, config.backend) == ("tensorrt_plan", "tensorrt")
    assert [t.name for t in config.input] == ["image", "scale"]
    assert triton_schema.ModelInstanceGroup.Kind.Name(config.instance_group[0].kind) == "KIND_GPU"
    assert bundle.facts["notes"] == [
        "A plan of TensorRT 11.4.0: only a Triton release that brings TensorRT 11.4.0 loads it."
    ]


def test_a_version_compatible_plan_says_how_it_is_loaded(bench, repository):
    """Without the flag a server refuses the plan even where its version would do."""
    target = {**PLAN_TARGET, "tensorRT": {"versionCompatible": True}}
    bundle = repository(target, made_elsewhere(bench, "engine.plan"))
    assert "--backend-config=tensorrt,version-compatible=true" in bundle.facts["notes"][0]


def test_a_plan_is_told_by_what_it_says_of_itself(bench, repository):
    """A build number is not part of what must agree, and a plan for another device fails at the server's start."""
    facts = {
        "version": "11.4.0.106",
        "versionCompatible": True,
        "runsOn": "devices of compute capability 8.0 and above",
    }
    (note,) = repository(PLAN_TARGET, made_elsewhere(bench, "engine.plan", **facts)).facts["notes"]
    assert "TensorRT is 11.4.0 or a later 11.x" in note
    assert "It runs on devices of compute capability 8.0 and above." in note


def test_a_stripped_plan_is_refused(bench, repository):
    """A server that loads a plan without weights fails at its start."""
    target = {**PLAN_TARGET, "tensorRT": {"stripped": True}}
    with pytest.raises(Unsupported, match=r"spec\.output\.formats: .*stripped"):
        repository(target, made_elsewhere(bench, "engine.plan"))


@pytest.mark.parametrize("wanted", ["triton", "kserve"])
def test_what_is_compiled_on_load_is_refused(bench, parts, wanted):
    """Triton would serve the unoptimized graph beside figures of what the TensorRT provider made of it."""
    request = parts.request_of(parts.spec_of())
    engine = bench.engine(request, parts.network())
    facts = {**engine.facts, "provider": "TensorrtExecutionProvider", "compiledOnLoad": True}
    with pytest.raises(Unsupported, match=r"spec\.output\.formats: what TensorrtExecutionProvider compiles"):
        bench.run(parts.stages_of(request)[f"bundle-{wanted}"], request, compile=replace(engine, facts=facts))


@pytest.mark.parametrize("lacking", ["inputs", "outputs", "version"])
def test_an_engine_that_does_not_tell_enough_is_refused(bench, repository, lacking):
    """Guessed names or types would be a repository that no client can call."""
    engine = made_elsewhere(bench, "engine.plan", **{lacking: None})
    with pytest.raises(Unsupported, match="does not tell"):
        repository(PLAN_TARGET, engine)


def test_a_package_of_aotinductor_is_called_by_position_and_one_at_a_time(bench, repository, triton_schema):
    """Triton's PyTorch backend knows neither the model's names nor batches for such a package."""
    bundle = repository({"name": "cpu", "runtime": "Inductor"}, made_elsewhere(bench, "engine.pt2"))
    config = config_of(triton_schema, bundle)
    assert (config.platform, config.max_batch_size) == ("torch_aoti", 0)
    assert [(t.name, list(t.dims)) for t in config.input] == [("INPUT__0", [-1, 3, 16, 16]), ("INPUT__1", [-1, 1])]
    assert not config.HasField("dynamic_batching")
    assert "`INPUT__1` is scale" in bundle.facts["notes"][1]


@pytest.mark.nightly
@pytest.mark.skipif(not os.environ.get("STROP_NIGHTLY"), reason="compiles for a minute: set STROP_NIGHTLY=1")
def test_aotinductor_numbers_the_inputs_as_the_repository_does(bench, parts, repository):
    """Triton's names are positions in the package's own call: another order would feed one input to the other."""
    import torch
    from safetensors.torch import save_file

    from strop_job.steps.export import export_stage
    from strop_job.zoo.bert import sentence_encoder

    target = {"name": "cpu", "runtime": "Inductor"}
    request = parts.request_of(parts.spec_of(model=ENCODER, targets=[target]))
    folder = bench.fresh()
    save_file(sentence_encoder(**ENCODER["architecture"]["arguments"]).state_dict(), folder / "model.safetensors")
    source = Artifact(ArtifactKind.SOURCE, folder, ("model.safetensors",))
    program = bench.run(export_stage(request.spec, ArtifactKind.EXPORTED_PROGRAM), request, resolve_model=source)
    engine = bench.compiled(request, program)
    (_, flat), _ = (
        json.loads(side) for side in torch._inductor.aoti_load_package(str(engine.entry)).loader.get_call_spec()
    )
    (_, named) = flat["children_spec"]
    told = repository(target, engine, model=ENCODER).facts["notes"][1]
    for at, name in enumerate(json.loads(named["context"])):
        assert f"`INPUT__{at}` is {name}" in told


def test_without_a_batch_that_all_share_requests_are_not_joined(bench, repository, parts, triton_schema):
    """Triton would otherwise join requests along an axis that means something else."""
    target = parts.spec_of()["targets"][0]
    model = parts.spec_of()["model"]
    model["inputs"][1]["shape"] = ["rows", 1]
    model["dimensions"].append({"name": "rows", "min": 1, "opt": 4, "max": 16})
    engine = bench.engine(parts.request_of(parts.spec_of()), parts.network())
    config = config_of(triton_schema, repository(target, engine, model=model))
    assert config.max_batch_size == 0
    assert [list(t.dims) for t in config.input] == [[-1, 3, 16, 16], [-1, 1]]
    assert not config.HasField("dynamic_batching")


def wire(name: str, value: np.ndarray) -> dict:
    """A tensor in the JSON of Triton's protocol."""
    return {"name": name, "shape": list(value.shape), "datatype": "FP32", "data": value.ravel().tolist()}


def onnx_outputs(path: Path, given: dict) -> dict:
    """The engine's own answer."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))
