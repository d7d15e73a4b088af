"""Specs that are accepted, and the edits that cases are made of."""

from collections.abc import Sequence
from typing import Any

from tests.contract.documents import Document
from tests.contract.edits import Edit, drop, put, step

DIGEST = "sha256:" + "a" * 64
TORCH: tuple[Edit, ...] = (
    put("spec.model.format", "Safetensors"),
    put("spec.model.architecture", {"callable": "zoo.digits:cnn"}),
    put("spec.data.training", {"uri": "s3://data/training.npz", "format": "Npz"}),
    put("spec.data.validation", {"uri": "s3://data/validation.npz", "format": "Npz"}),
)
GPU: tuple[Edit, ...] = (put("spec.targets[0].runtime", "TensorRT"), put("spec.targets[0].accelerator", {}))
RTX: tuple[Edit, ...] = (
    put("spec.targets[0].runtime", "TensorRTRTX"),
    put("spec.targets[0].tensorRTRTX", {"computeCapabilities": ["8.9", "12.0"]}),
)
VINO: tuple[Edit, ...] = (put("spec.targets[0].runtime", "OpenVINO"),)
INDUCTOR: tuple[Edit, ...] = (*TORCH, put("spec.targets[0].runtime", "Inductor"))
RETRIEVAL = {"type": "Retrieval", "metric": "mrr", "labels": "answer"}
TOKENIZER = {"uri": "s3://data/tokenizer.json"}
PARQUET = {"uri": "s3://data/e.parquet", "format": "Parquet"}
IMAGES = {"uri": "s3://data/e", "format": "ImageFolder", "image": {"resize": 256}}
INT8 = step("int8", "Quantize", precision="int8", method="Static")
FP16 = step("fp16", "Quantize", precision="fp16", method="Cast")
PRUNE = step("thin", "Prune", method="Structured", amount="30%")
TUNE = step("recover", "FineTune", epochs=5)
MERGE = step("adapters", "Merge", adapters=["s3://models/lora"])
COMPACT = step("compact", "Compact")
QAT = step("qat", "Quantize", precision="int8", method="QAT")


def steps(*listed: Document) -> Edit:
    """These steps instead of the one."""
    return put("spec.steps", list(listed))


def quantize(**config: Any) -> Edit:
    """One Quantize step."""
    return steps(step("q", "Quantize", **config))


def gate(name: str, **config: Any) -> Edit:
    """One gate."""
    return put(f"spec.gates.{name}", config)


ACCEPTED: dict[str, Sequence[Edit]] = {
    "the smallest": (),
    "no steps": (drop("spec.steps"),),
    "a pinned model": (put("spec.model.digest", DIGEST),),
    "fixed shapes": (drop("spec.model.dimensions"), put("spec.model.inputs[0].shape", [1, 1, 8, 8])),
    "safetensors with an architecture": TORCH,
    "arguments of any JSON": (
        *TORCH,
        put("spec.model.architecture.arguments", {"width": 32, "rate": 0.5, "names": ["a", None], "deep": {"x": None}}),
    ),
    "TorchExport with a digest": (put("spec.model.format", "TorchExport"), put("spec.model.digest", DIGEST)),
    "the golden order": (*TORCH, steps(MERGE, PRUNE, COMPACT, TUNE, INT8, FP16)),
    "QAT from safetensors": (*TORCH, steps(QAT)),
    "dynamic without calibration": (
        drop("spec.data.calibration"),
        quantize(precision="int8", method="Dynamic"),
    ),
    "percentile": (quantize(precision="int8", method="Static", calibrator="Percentile", percentile="99.9"),),
    "fp16": (drop("spec.data.calibration"), steps(FP16)),
    "fp8 for TensorRT": (*GPU, quantize(precision="fp8", method="Static")),
    "every option of TensorRT": (
        *GPU,
        put(
            "spec.targets[0].tensorRT",
            {
                "workspace": "2Gi",
                "sparseWeights": True,
                "versionCompatible": True,
                "refittable": True,
                "hardwareCompatibility": "AmperePlus",
                "stripped": True,
                "timingCache": False,
                "optimizationLevel": 5,
                "tf32": False,
            },
        ),
        put("spec.output.formats", ["Engine", "Onnx"]),
    ),
    "a plan for servers": (*GPU, put("spec.output.formats", ["Triton", "KServe", "OCI"])),
    "RTX ahead of time": RTX,
    "RTX on its device": (
        put("spec.targets[0].runtime", "TensorRTRTX"),
        put("spec.targets[0].accelerator", {"product": "NVIDIA-L4"}),
    ),
    "fp8 for the RTX devices that have it": (*RTX, quantize(precision="fp8", method="Static")),
    "OpenVINO for throughput": (
        *VINO,
        put("spec.targets[0].openVINO", {"performanceHint": "Throughput"}),
        put("spec.output.formats", ["Engine", "Triton"]),
    ),
    "OpenVINO as it is, with the graph": (*VINO, drop("spec.steps"), put("spec.output.formats", ["Onnx"])),
    "weights of four bits": (*VINO, quantize(precision="int4", method="WeightOnly", groupSize=64)),
    "Inductor": (
        *INDUCTOR,
        put("spec.targets[0].inductor", {"maxAutotune": True}),
        put("spec.output.formats", ["Triton", "LiteRT", "CoreML"]),
    ),
    "ONNX Runtime by CUDA": (
        put("spec.targets[0].accelerator", {}),
        put(
            "spec.targets[0].onnxRuntime",
            {"provider": "CUDA", "memoryArena": False, "interOpThreads": 2, "graphOptimization": "Extended"},
        ),
    ),
    "ONNX Runtime by the processor": (put("spec.targets[0].onnxRuntime", {"provider": "CPU"}),),
    "a target with a cpu": (put("spec.targets[0].cpu", {"arch": "arm64", "threads": 2}),),
    "two targets": (put("spec.targets[1]", {"name": "vino", "runtime": "OpenVINO"}),),
    "every gate": (
        gate("metricDrop", maxPoints="1.0", confidence="95%"),
        gate("metricMin", min="0.9", confidence="99.9%"),
        gate("speedup", min="1.5", over="Original", confidence="95%"),
        gate("latency", p50MaxMicroseconds=100, p99MaxMicroseconds=800, confidence="50.001%"),
        gate("throughput", minPerSecond=10),
        gate("size", max="100Mi"),
        gate("peakMemory", max="1Gi"),
        gate("fidelity", cosineMin="0.99", agreementMin="99%", sqnrMinDecibels=20),
        gate("realisedPrecision", min="80%"),
    ),
    "a perplexity of at most 40": (
        put("spec.task", {"type": "LanguageModeling", "metric": "perplexity", "labels": "x"}),
        gate("metricMin", min="40"),
    ),
    "a custom figure below zero": (
        put(
            "spec.task",
            {"type": "Custom", "metric": "custom", "labels": "y", "callable": "zoo.m:f", "direction": "Maximize"},
        ),
        gate("metricMin", min="-2.5"),
    ),
    "four sets pinned": (
        put("spec.data.calibration.digest", DIGEST),
        put("spec.data.evaluation.digest", "sha256:" + "b" * 64),
    ),
    "retrieval over text": (
        put("spec.task", RETRIEVAL),
        put("spec.data.evaluation", {**PARQUET, "tokenizer": {**TOKENIZER, "column": "text"}}),
    ),
    "calibration on plain text": (
        put("spec.data.calibration", {"uri": "s3://data/c.txt", "format": "Text", "tokenizer": TOKENIZER}),
    ),
    "a folder of images": (put("spec.data.evaluation", IMAGES),),
    "grey images": (
        put("spec.data.evaluation", {**IMAGES, "image": {"resize": 28, "channels": "L", "mean": ["0.1"]}}),
    ),
    "a custom metric": (
        put(
            "spec.task",
            {"type": "Custom", "metric": "custom", "labels": "y", "callable": "zoo.m:f", "direction": "Maximize"},
        ),
    ),
    "plain variables": (put("spec.worker.env", [{"name": "OMP_NUM_THREADS", "value": "2"}]),),
    "a request as large as its limit": (
        put(
            "spec.worker.resources",
            {
                "requests": {"cpu": "700m", "memory": "1024Mi", "ephemeral-storage": "1k"},
                "limits": {"cpu": "0.7", "memory": "1Gi", "ephemeral-storage": "1000"},
            },
        ),
    ),
    "a request without a limit": (put("spec.worker.resources", {"requests": {"cpu": "1"}, "limits": {}}),),
    "a selector that agrees with the target": (
        put("spec.targets[0].cpu", {"arch": "arm64"}),
        put("spec.worker.nodeSelector", {"kubernetes.io/arch": "arm64"}),
    ),
    "a name that begins like a stage's": (put("spec.steps[0].name", "exported"),),
    "labels and a selector": (
        put("spec.worker.labels", {"example.org/team": "vision"}),
        put("spec.worker.nodeSelector", {"disk": "ssd"}),
    ),
    "tolerations": (put("spec.worker.tolerations", [{"operator": "Exists"}, {"key": "gpu", "value": "yes"}]),),
    "an explicit null is an absent field": (put("spec.gates", None), put("spec.model.digest", None)),
    "a null where a default stands": (put("spec.seed", None), put("spec.benchmark", None)),
}
