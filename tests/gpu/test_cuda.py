"""A small CNN through the real stages for an NVIDIA GPU, INT8 and FP16: what ran there, and what is said of it.

The same walk on the CPU keeps this file honest where there is no GPU: only the target differs.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from safetensors.torch import save_file

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome, RunRequest
from strop_job.conclude import Finished
from strop_job.hardware import this_machine
from strop_job.pipeline import run
from strop_job.plan import make_plan
from strop_job.progress import Silent
from strop_job.records import Record
from strop_job.sources import Reach
from strop_job.store.local import LocalStore
from strop_job.walk import Shop, records_of

CPU: dict[str, Any] = {"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"arch": this_machine().arch, "threads": 2}}
GPU: dict[str, Any] = {"name": "gpu", "runtime": "ONNXRuntime", "accelerator": {"resource": "nvidia.com/gpu"}}
PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}
STEPS: dict[str, dict[str, Any]] = {
    "int8": {"precision": "int8", "method": "Static", "calibrator": "MinMax"},
    "fp16": {"precision": "fp16", "method": "Cast"},
}
CHANNELS, SIDE, WIDTH, CLASSES, BATCH = 3, 32, 16, 10, 8
MACS = BATCH * (SIDE * SIDE * WIDTH * CHANNELS * 9 + (SIDE // 2) ** 2 * 2 * WIDTH * WIDTH * 9 + 2 * WIDTH * CLASSES)
COMPUTE = ("Conv", "MatMul", "Gemm")
"""Parts of the names of operators that multiply and accumulate, as runtimes fuse and rename them."""
IMAGES = np.random.default_rng(0).standard_normal((96, CHANNELS, SIDE, SIDE)).astype(np.float32)


@dataclass(frozen=True)
class Walked:
    """A run that has ended."""

    device: str
    recipe: str
    spec: ModelOptimizationSpec
    finished: Finished
    records: dict[str, Record]
    """By the stage that made them."""
    engine: Path

    def facts(self, stage: str) -> Any:
        return self.records[stage].facts


def why_not(device: str) -> str:
    """Why nothing can be run there; empty when it can."""
    if device == "gpu" and not this_machine().gpus:
        return "no NVIDIA GPU is visible here"
    if PROVIDERS[device] not in ort.get_available_providers():
        return f"ONNX Runtime {ort.__version__} has no {PROVIDERS[device]} here: install the extra `cuda`"
    return ""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """An untrained model with seeded weights; its own answers are the labels."""
    import torch

    from strop_job.zoo.cnn import classifier

    root = tmp_path_factory.mktemp("store")
    for bucket in ("models/cnn", "data/cnn"):
        (root / bucket).mkdir(parents=True)
    torch.manual_seed(0)
    model = classifier(CHANNELS, WIDTH, CLASSES).eval()
    with torch.no_grad():
        labels = model(torch.from_numpy(IMAGES)).argmax(dim=1).numpy()
    save_file(model.state_dict(), root / "models/cnn/model.safetensors")
    np.savez(root / "data/cnn/calibration.npz", image=IMAGES[:32])
    np.savez(root / "data/cnn/evaluation.npz", image=IMAGES[32:], label=labels[32:])
    return LocalStore(root)


@pytest.fixture(scope="module", params=["int8", "fp16"])
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    if reason := why_not(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="module")
def walked(store: LocalStore, device: str, recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """The whole run: export, the step, compile, verify, benchmark, judge, publish."""
    asked = request_for(device, recipe)
    records = records_of(asked, store)
    shop = Shop(store, records, tmp_path_factory.mktemp("scratch"), Silent())
    finished = run(make_plan(asked, Reach(store)), shop)
    assert finished.outcome is Outcome.PUBLISHED, finished.result.message
    used = json.loads((store.root / "strop-records/team/runs" / f"{asked.run_id}.json").read_text())["records"]
    made = {}
    for key in used:
        record = records.find(key)
        assert record is not None
        assert record.made_from is not None
        made[record.made_from.stage] = record
    engine = store.root / "engines" / device / recipe / asked.run_id / made["compile"].files[0].name
    return Walked(device, recipe, asked.spec, finished, made, engine)


def request_for(device: str, recipe: str) -> RunRequest:
    """The run of one device and one step; a speed-up of any size will do."""
    return RunRequest.model_validate(
        {
            "namespace": "team",
            "name": f"cnn-{recipe}",
            "uid": "0",
            "runId": f"{device}-{recipe}",
            "target": device,
            "image": "local",
            "store": {"endpoint": "file://local", "region": "local", "recordsUri": "s3://strop-records/team"},
            "spec": {
                "model": {
                    "uri": "s3://models/cnn/model.safetensors",
                    "format": "Safetensors",
                    "architecture": {
                        "callable": "strop_job.zoo.cnn:classifier",
                        "arguments": {"channels": CHANNELS, "width": WIDTH, "classes": CLASSES},
                    },
                    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", CHANNELS, SIDE, SIDE]}],
                    "dimensions": [{"name": "batch", "min": 1, "opt": BATCH, "max": 32}],
                },
                "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
                "data": {
                    "calibration": {"uri": "s3://data/cnn/calibration.npz", "format": "Npz"},
                    "evaluation": {"uri": "s3://data/cnn/evaluation.npz", "format": "Npz"},
                },
                "steps": [{"name": recipe, "type": "Quantize", "quantize": STEPS[recipe]}],
                "targets": [GPU if device == "gpu" else CPU],
                "gates": {"fidelity": {"cosineMin": "0.98"}, "speedup": {"min": "0.001", "over": "BestUnquantized"}},
                "benchmark": {"calls": 300, "maxSeconds": 30},
                "output": {"uri": f"s3://engines/{device}/{recipe}"},
            },
        }
    )


def executed(walked: Walked, scratch: Path) -> list[dict[str, Any]]:
    """What the runtime itself says of every node of the engine that ran in one call."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling, options.profile_file_prefix = True, str(scratch / "profile")
    session = ort.InferenceSession(str(walked.engine), options, providers=[PROVIDERS[walked.device]])
    session.run(None, {"image": IMAGES[:BATCH]})
    events = json.loads(Path(session.end_profiling()).read_text())
    return [e["args"] for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]


def computing(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [node for node in nodes if any(part in node["op_name"] for part in COMPUTE)]


def first_operand(node: dict[str, Any]) -> str:
    """Its element type."""
    return str(next(iter(node["input_type_shape"][0])))


def test_the_device_that_was_asked_for_did_the_work(walked: Walked, tmp_path: Path) -> None:
    """ONNX Runtime falls back to the CPU without a word; figures of a GPU target would be those of a CPU."""
    provider = PROVIDERS[walked.device]
    assert {walked.facts(s)["provider"] for s in walked.records if s.startswith("compile")} == {provider}
    work = computing(executed(walked, tmp_path))
    assert work
    assert {node["provider"] for node in work} == {provider}


def test_the_engine_computes_what_its_graph_says(walked: Walked) -> None:
    """Kernels of the device would differ from the graph by more than fusion and rounding can explain."""
    facts = walked.facts("verify")
    assert facts["parity"]["passed"] is True
    assert facts["originalParity"]["passed"] is True
    assert {point["sizes"]["batch"] for point in facts["parity"]["shapes"]} >= {1, BATCH, 32}
    assert facts["fidelity"]["cosine"] >= 0.98


def test_the_integers_are_those_the_device_has_kernels_for(walked: Walked) -> None:
    """Unsigned activations have no kernels on an accelerator: the engine would be slow, or refused by its runtime."""
    facts = walked.facts(walked.recipe)
    signed = walked.device == "gpu" or this_machine().arch != "amd64"
    assert facts["format"] == ("fp16" if walked.recipe == "fp16" else "S8S8" if signed else "U8S8")


def test_no_more_is_claimed_than_was_executed(walked: Walked, tmp_path: Path) -> None:
    """A graph with Q/DQ nodes says INT8; where its kernels compute in floats, neither inspection nor status may."""
    inspection = walked.facts("verify")["inspection"]
    work = computing(executed(walked, tmp_path))
    assert inspection["macs"] == pytest.approx(MACS, rel=1e-6)
    kinds = {"int8": ("int8", "uint8"), "fp16": ("float16",)}
    done = inspection["macsByFormat"]
    for claim, types in kinds.items():
        ran = any(first_operand(node) in types for node in work)
        assert bool(done.get(claim)) is ran, f"{claim} = {done.get(claim)}, executed: {work}"
    part = done.get(walked.recipe, 0)
    target = walked.finished.result.target
    assert target is not None
    assert target.realised_precision is not None
    assert target.realised_precision.startswith("0%") is (part == 0)


def test_every_variant_is_measured_on_the_device(walked: Walked) -> None:
    """A speed-up would be against nothing, or against the wrong one: on a GPU, FP16 may be the best unquantized."""
    variants = walked.facts("benchmark")["variants"]
    assert set(variants) == {"original", "optimized"} | ({"fp16"} if walked.device == "gpu" else set())
    for figures in variants.values():
        assert figures["calls"] >= 300
        assert 0 < figures["p50Microseconds"] <= figures["p99Microseconds"]
    target = walked.finished.result.target
    assert target is not None
    assert target.speedup is not None
    assert float(target.speedup.low) <= float(target.speedup.ratio) <= float(target.speedup.high)


def test_a_gpu_target_plans_what_a_gpu_needs(store: LocalStore) -> None:
    """Everything before the first session can be seen without a GPU: the FP16 baseline, and signed integers."""
    plan = make_plan(request_for("gpu", "int8"), Reach(store))
    names = [stage.name for stage in plan.stages]
    assert {"cast-fp16", "compile-fp16"} <= set(names)
    assert next(stage for stage in plan.stages if stage.name == "int8").parameters["format"] == "S8S8"


def test_without_the_device_nothing_is_measured(store: LocalStore, tmp_path: Path) -> None:
    """A run for a GPU would be measured on a CPU, and published for the GPU."""
    asked = request_for("gpu", "int8")
    asked = asked.model_copy(update={"run_id": "nowhere"})
    bare = replace(this_machine(), gpus=())
    finished = run(make_plan(asked, Reach(store)), Shop(store, records_of(asked, store), tmp_path, Silent(), bare))
    assert finished.outcome is Outcome.UNSUPPORTED
    assert finished.result.field == "spec.targets[0].accelerator"
    assert not (store.root / "engines/gpu/int8/nowhere").exists()
