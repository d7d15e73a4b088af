"""Specs that are refused: the edits that spoil them, the field to blame, and words that lead to the mend."""

from collections.abc import Sequence

from tests.contract.cases import (
    COMPACT,
    DIGEST,
    FP16,
    GPU,
    IMAGES,
    INDUCTOR,
    INT8,
    MERGE,
    PARQUET,
    PRUNE,
    QAT,
    RTX,
    TOKENIZER,
    TORCH,
    TUNE,
    VINO,
    gate,
    quantize,
    steps,
)
from tests.contract.edits import Edit, drop, put, step

from strop_api.support import RETIRED

RETIRED_AT = {
    "spec.model.format": "spec.model.format",
    "spec.targets[].runtime": "spec.targets[0].runtime",
    "spec.output.formats[]": "spec.output.formats[0]",
    "spec.steps[].quantize.calibrator": "spec.steps[0].quantize.calibrator",
}
"""A field of the smallest document for each place of the table."""
OPTIONS = ("tensorRT", "tensorRTRTX", "openVINO", "inductor")

REFUSED: dict[str, tuple[Sequence[Edit], str, str]] = {
    "no model": ((drop("spec.model"),), "spec.model", "Required"),
    "an accuracy of 90": ((gate("metricMin", min="90"),), "spec.gates.metricMin.min", "0.9, not 90"),
    "an accuracy of nothing": ((gate("metricMin", min="0"),), "spec.gates.metricMin.min", "above 0"),
    "an error below zero": (
        (
            put("spec.task", {"type": "Regression", "metric": "mse", "labels": "y"}),
            gate("metricMin", min="-1"),
        ),
        "spec.gates.metricMin.min",
        "above 0",
    ),
    "evaluation on calibration data under another name": (
        (put("spec.data.calibration.digest", DIGEST), put("spec.data.evaluation.digest", DIGEST)),
        "spec.data.evaluation.digest",
        "digest of the calibration",
    ),
    "validation on training data under another name": (
        (*TORCH, put("spec.data.training.digest", DIGEST), put("spec.data.validation.digest", DIGEST)),
        "spec.data.validation.digest",
        "digest of the calibration or the training",
    ),
    "training on calibration data under another name": (
        (*TORCH, put("spec.data.training.digest", DIGEST), put("spec.data.calibration.digest", DIGEST)),
        "spec.data.training.digest",
        "digest of the calibration",
    ),
    "no targets": ((put("spec.targets", []),), "spec.targets", "at least 1"),
    "nine targets": (
        (put("spec.targets", [{"name": f"t{i}", "runtime": "OpenVINO"} for i in range(9)]),),
        "spec.targets",
        "at most 8",
    ),
    "an unknown format": ((put("spec.model.format", "Pickle"),), "spec.model.format", "Safetensors"),
    "an unknown scheme": ((put("spec.model.uri", "http://x/y"),), "spec.model.uri", "s3|hf|pvc|oci|file"),
    "a malformed digest": ((put("spec.model.digest", "sha256:zz"),), "spec.model.digest", "sha256"),
    "a number for a string": ((put("spec.model.uri", 5),), "spec.model.uri", "string"),
    "a string for a number": ((put("spec.retries", "3"),), "spec.retries", "integer"),
    "too many retries": ((put("spec.retries", 21),), "spec.retries", "20"),
    "a name in capitals": ((put("spec.steps[0].name", "INT8"),), "spec.steps[0].name", "[a-z0-9]"),
    "a step named like a stage": (
        (put("spec.steps[0].name", "compile-original"),),
        "spec.steps[0].name",
        "choose another",
    ),
    "a step named like a lookup": ((put("spec.steps[0].name", "resolve-x"),), "spec.steps[0].name", "choose another"),
    "two steps of one name": ((steps(INT8, {**FP16, "name": "int8"}),), "spec.steps[1]", "uplicate"),
    "two targets of one name": (
        (put("spec.targets[1]", {"name": "cpu", "runtime": "OpenVINO"}),),
        "spec.targets[1]",
        "uplicate",
    ),
    "two equal formats": ((put("spec.output.formats", ["Onnx", "Onnx"]),), "spec.output.formats[1]", "uplicate"),
    "an undeclared dimension": ((put("spec.model.inputs[0].shape", ["n", 1]),), "spec.model.inputs", "not declared"),
    "an unused dimension": (
        (put("spec.model.dimensions[1]", {"name": "length", "min": 1, "opt": 1, "max": 1}),),
        "spec.model.dimensions",
        "not used",
    ),
    "opt below min": ((put("spec.model.dimensions[0].min", 9),), "spec.model.dimensions[0].opt", "smaller than min"),
    "max below opt": ((put("spec.model.dimensions[0].max", 7),), "spec.model.dimensions[0].max", "smaller than opt"),
    "a size of zero": ((put("spec.model.inputs[0].shape", ["batch", 0]),), "spec.model.inputs[0].shape[1]", "1"),
    "safetensors without architecture": (
        (put("spec.model.format", "Safetensors"),),
        "spec.model.architecture",
        "needs an architecture",
    ),
    "Onnx with an architecture": (
        (put("spec.model.architecture", {"callable": "zoo.digits:cnn"}),),
        "spec.model.architecture",
        "bring their own",
    ),
    "TorchExport without a digest": ((put("spec.model.format", "TorchExport"),), "spec.model.digest", "pin it"),
    "a metric of another task": ((put("spec.task.metric", "mse"),), "spec.task.metric", "Regression: mse, mae"),
    "custom without a callable": (
        (put("spec.task.metric", "custom"), put("spec.task.direction", "Minimize")),
        "spec.task.callable",
        "needs a callable",
    ),
    "custom without a direction": (
        (put("spec.task.metric", "custom"), put("spec.task.callable", "zoo.m:f")),
        "spec.task.direction",
        "needs a direction",
    ),
    "a callable for accuracy": ((put("spec.task.callable", "zoo.m:f"),), "spec.task.callable", "no other metric"),
    "a direction for accuracy": ((put("spec.task.direction", "Minimize"),), "spec.task.direction", "know theirs"),
    "text without a tokenizer": (
        (put("spec.data.calibration", {"uri": "s3://data/c.txt", "format": "Text"}),),
        "spec.data.calibration.tokenizer",
        "needs a tokenizer",
    ),
    "a tokenizer for arrays": (
        (put("spec.data.evaluation.tokenizer", TOKENIZER),),
        "spec.data.evaluation.tokenizer",
        "Text and Parquet",
    ),
    "a tokenizer without a column": (
        (put("spec.data.evaluation", {**PARQUET, "tokenizer": TOKENIZER}),),
        "spec.data.evaluation.tokenizer.column",
        "column",
    ),
    "judged by plain text": (
        (put("spec.data.evaluation", {"uri": "s3://data/e.txt", "format": "Text", "tokenizer": TOKENIZER}),),
        "spec.data.evaluation.format",
        "no labels",
    ),
    "images without preprocessing": (
        (put("spec.data.evaluation", {"uri": "s3://data/e", "format": "ImageFolder"}),),
        "spec.data.evaluation.image",
        "resize",
    ),
    "preprocessing of arrays": (
        (put("spec.data.evaluation.image", {"resize": 8}),),
        "spec.data.evaluation.image",
        "do not take it",
    ),
    "a crop larger than the image": (
        (put("spec.data.evaluation", {**IMAGES, "image": {"resize": 8, "crop": 9}}),),
        "spec.data.evaluation.image.crop",
        "larger than resize",
    ),
    "two means for three channels": (
        (put("spec.data.evaluation", {**IMAGES, "image": {"resize": 8, "mean": ["0", "0"]}}),),
        "spec.data.evaluation.image.mean",
        "one for each",
    ),
    "a deviation of zero": (
        (put("spec.data.evaluation", {**IMAGES, "image": {"resize": 8, "std": ["0"]}}),),
        "spec.data.evaluation.image.std",
        "above zero",
    ),
    "calibrated on the evaluation set": (
        (put("spec.data.calibration.uri", "s3://data/evaluation.npz"),),
        "spec.data.evaluation.uri",
        "disjoint",
    ),
    "trained on the calibration set": (
        (put("spec.data.training", {"uri": "s3://data/calibration.npz", "format": "Npz"}),),
        "spec.data.training.uri",
        "disjoint",
    ),
    "validated on the training set": (
        (*TORCH, put("spec.data.validation.uri", "s3://data/training.npz")),
        "spec.data.validation.uri",
        "disjoint",
    ),
    "a local file": ((put("spec.model.uri", "file:///m.onnx"),), "spec.model.uri", "command line only"),
    "a local output": ((put("spec.output.uri", "file:///out"),), "spec.output.uri", "command line only"),
    "a climbing address": ((put("spec.model.uri", "s3://models/../m.onnx"),), "spec.model.uri", "write the address"),
    "a type without its member": (
        (steps({"name": "q", "type": "Quantize"}),),
        "spec.steps[0].quantize",
        "exactly when type is Quantize",
    ),
    "a member without its type": (
        (put("spec.steps[0].compact", {}),),
        "spec.steps[0].compact",
        "exactly when type is Compact",
    ),
    **{
        f"{kind} without its member": (
            (*TORCH, steps({"name": "x", "type": kind})),
            f"spec.steps[0].{kind[0].lower()}{kind[1:]}",
            f"exactly when type is {kind}",
        )
        for kind in ("Merge", "Prune", "FineTune", "Distil")
    },
    "nothing to prune": (
        (*TORCH, steps({**PRUNE, "prune": {"method": "Structured", "amount": "0%"}})),
        "spec.steps[0].prune.amount",
        "between 0% and 100%",
    ),
    "two of four, but more": (
        (*TORCH, steps(step("p", "Prune", method="TwoFour", amount="60%"))),
        "spec.steps[0].prune.amount",
        "always 50%",
    ),
    "rounds without a schedule": (
        (*TORCH, steps(step("p", "Prune", method="Structured", rounds=3))),
        "spec.steps[0].prune.rounds",
        "OneShot exactly 1",
    ),
    "a digest of no teacher": (
        (*TORCH, steps(step("d", "Distil", teacherDigest=DIGEST))),
        "spec.steps[0].distil.teacherDigest",
        "name it in teacher",
    ),
    "a cast to int8": ((quantize(precision="int8", method="Cast"),), "spec.steps[0].quantize.method", "fp16 Cast"),
    "a calibrator for Dynamic": (
        (quantize(precision="int8", method="Dynamic", calibrator="Entropy"),),
        "spec.steps[0].quantize.calibrator",
        "remove calibrator",
    ),
    "channels of a cast": (
        (quantize(precision="fp16", method="Cast", perChannel=False),),
        "spec.steps[0].quantize.perChannel",
        "no scales",
    ),
    "a percentile for MinMax": (
        (quantize(precision="int8", method="Static", percentile="99.9"),),
        "spec.steps[0].quantize.percentile",
        "needs calibrator Percentile",
    ),
    "a percentile of ten": (
        (quantize(precision="int8", method="Static", calibrator="Percentile", percentile="10"),),
        "spec.steps[0].quantize.percentile",
        "between 50 and 100",
    ),
    "SmoothQuant without calibration": (
        (quantize(precision="int8", method="Dynamic", smoothQuant="0.5"),),
        "spec.steps[0].quantize.smoothQuant",
        "needs method Static",
    ),
    "groups of activations": (
        (quantize(precision="int8", method="Static", groupSize=64),),
        "spec.steps[0].quantize.groupSize",
        "WeightOnly",
    ),
    "training for Static": (
        (quantize(precision="int8", method="Static", training={}),),
        "spec.steps[0].quantize.training",
        "needs method QAT",
    ),
    "a budget for Static": (
        (quantize(precision="int8", method="Static", budgetSeconds=5),),
        "spec.steps[0].quantize.budgetSeconds",
        "needs method Auto",
    ),
    "keepHigh for Static": (
        (quantize(precision="int8", method="Static", keepHigh="1"),),
        "spec.steps[0].quantize.keepHigh",
        "needs method Auto",
    ),
    "merging what is pruned": ((*TORCH, steps(PRUNE, MERGE)), "spec.steps", "Merge must come before"),
    "compacting what is not pruned": ((*TORCH, steps(COMPACT, PRUNE)), "spec.steps", "put a Prune step before"),
    "training what is quantized": ((*TORCH, steps(INT8, TUNE)), "spec.steps", "Quantize steps come last"),
    "quantizing twice": ((steps(INT8, {**INT8, "name": "again"}),), "spec.steps", "quantized once"),
    "casting first": ((steps(FP16, INT8),), "spec.steps", "Cast comes after"),
    "static without calibration data": ((drop("spec.data.calibration"),), "spec.data.calibration", "method Dynamic"),
    "training without data": ((*TORCH, drop("spec.data.training"), steps(TUNE)), "spec.data.training", "learns from"),
    "QAT without data": ((*TORCH, drop("spec.data.training"), steps(QAT)), "spec.data.training", "learns from"),
    "stopping early by nothing": (
        (*TORCH, drop("spec.data.validation"), steps(step("t", "FineTune", earlyStoppingEpochs=2))),
        "spec.data.validation",
        "early stopping",
    ),
    "a search that chooses by nothing": (
        (quantize(precision="int8", method="Auto"),),
        "spec.data.validation",
        "choose by data",
    ),
    "pruning an ONNX file": ((steps(PRUNE),), "spec.model.format", "Safetensors or TorchExport"),
    "TensorRT on a CPU": ((put("spec.targets[0].runtime", "TensorRT"),), "spec.targets[0].accelerator", "needs an"),
    "two devices": (
        (put("spec.targets[0].accelerator", {}), put("spec.targets[0].cpu", {})),
        "spec.targets[0].cpu",
        "not both",
    ),
    "another runtime's options": (
        (put("spec.targets[0].runtime", "OpenVINO"), put("spec.targets[0].onnxRuntime", {})),
        "spec.targets[0].onnxRuntime",
        "needs runtime ONNXRuntime",
    ),
    **{
        f"{name} for ONNX Runtime": (
            (put(f"spec.targets[0].{name}", {}),),
            f"spec.targets[0].{name}",
            f"{name} needs runtime ",
        )
        for name in OPTIONS
    },
    "RTX for no device": (
        (*RTX, put("spec.targets[0].tensorRTRTX", {})),
        "spec.targets[0].accelerator",
        "or tensorRTRTX.computeCapabilities",
    ),
    "RTX for Hopper": (
        (*RTX, put("spec.targets[0].tensorRTRTX.computeCapabilities", ["8.9", "9.0"])),
        "spec.targets[0].tensorRTRTX.computeCapabilities[1]",
        "no Hopper (9.0)",
    ),
    "RTX for a device twice": (
        (*RTX, put("spec.targets[0].tensorRTRTX.computeCapabilities", ["8.9", "8.9"])),
        "spec.targets[0].tensorRTRTX.computeCapabilities[1]",
        "uplicate",
    ),
    "RTX on a processor": ((*RTX, put("spec.targets[0].cpu", {})), "spec.targets[0].cpu", "runs on no processor"),
    "fp8 for Ampere": (
        (
            *RTX,
            put("spec.targets[0].tensorRTRTX.computeCapabilities", ["8.6", "8.9"]),
            quantize(precision="fp8", method="Static"),
        ),
        "spec.targets",
        "fp8 needs compute capability 8.9 or newer: remove 7.5, 8.0 or 8.6",
    ),
    "bf16 for Turing": (
        (
            *RTX,
            put("spec.targets[0].tensorRTRTX.computeCapabilities", ["7.5"]),
            quantize(precision="bf16", method="Cast"),
        ),
        "spec.targets",
        "bf16 needs compute capability 8.0",
    ),
    "fp8 for every Ampere": (
        (
            *GPU,
            put("spec.targets[0].tensorRT", {"hardwareCompatibility": "AmperePlus"}),
            quantize(precision="fp8", method="Static"),
        ),
        "spec.steps",
        "fp8 begins with 8.9",
    ),
    "a stripped plan alone": (
        (*GPU, put("spec.targets[0].tensorRT", {"stripped": True})),
        "spec.output.formats",
        "publish Onnx beside it",
    ),
    "a stripped plan for a server": (
        (
            *GPU,
            put("spec.targets[0].tensorRT", {"stripped": True}),
            put("spec.output.formats", ["Onnx", "Triton"]),
        ),
        "spec.output.formats",
        "must be refitted before it runs",
    ),
    "an optimization level of six": (
        (*GPU, put("spec.targets[0].tensorRT", {"optimizationLevel": 6})),
        "spec.targets[0].tensorRT.optimizationLevel",
        "5",
    ),
    "CUDA without a device": (
        (put("spec.targets[0].onnxRuntime", {"provider": "CUDA"}),),
        "spec.targets[0].accelerator",
        "provider CUDA or TensorRT needs an accelerator",
    ),
    "a device that is not used": (
        (put("spec.targets[0].accelerator", {}), put("spec.targets[0].onnxRuntime", {"provider": "CPU"})),
        "spec.targets[0].onnxRuntime.provider",
        "leave the accelerator idle",
    ),
    "an ONNX graph of OpenVINO's INT8": (
        (*VINO, put("spec.output.formats", ["Engine", "Onnx"])),
        "spec.output.formats",
        "quantized in its own IR",
    ),
    "LiteRT from an ONNX file": (
        (put("spec.output.formats", ["LiteRT"]),),
        "spec.output.formats",
        "LiteRT or CoreML is converted from a torch model",
    ),
    "an ONNX graph of Inductor": (
        (*INDUCTOR, put("spec.output.formats", ["Onnx"])),
        "spec.output.formats",
        "Inductor is published as",
    ),
    **{
        f"{name} at {place}": (
            (
                put("spec.output.formats", ["Engine"]),
                put(RETIRED_AT[place], name),
            ),
            RETIRED_AT[place],
            entry.instead,
        )
        for place, names in RETIRED.items()
        for name, entry in names.items()
    },
    "Dynamic on TensorRT": (
        (*GPU, quantize(precision="int8", method="Dynamic")),
        "spec.steps",
        "TensorRT takes int8 (Static",
    ),
    "bf16 on ONNX Runtime": ((quantize(precision="bf16", method="Cast"),), "spec.steps", "ONNXRuntime takes"),
    "fp8 on OpenVINO": (
        (put("spec.targets[0].runtime", "OpenVINO"), quantize(precision="fp8", method="Static")),
        "spec.steps",
        "OpenVINO takes",
    ),
    "Triton for RTX": (
        (*GPU, put("spec.targets[0].runtime", "TensorRTRTX"), put("spec.output.formats", ["Triton"])),
        "spec.output.formats",
        "TensorRTRTX is published as",
    ),
    "int4 for RTX": (
        (*GPU, put("spec.targets[0].runtime", "TensorRTRTX"), quantize(precision="int4", method="WeightOnly")),
        "spec.steps",
        "TensorRTRTX takes",
    ),
    "fp16 for Inductor": (
        (*TORCH, put("spec.targets[0].runtime", "Inductor"), quantize(precision="fp16", method="Cast")),
        "spec.steps",
        "Inductor takes",
    ),
    "seconds without an effect": (
        (put("spec.worker.tolerations", [{"key": "gpu", "tolerationSeconds": 5}]),),
        "spec.worker.tolerations[0].tolerationSeconds",
        "NoExecute",
    ),
    "an ONNX file for Inductor": (
        (put("spec.targets[0].runtime", "Inductor"),),
        "spec.model.format",
        "Inductor takes a model as",
    ),
    "no bound of the drop": ((gate("metricDrop"),), "spec.gates.metricDrop", "exactly one"),
    "two bounds of the drop": (
        (gate("metricDrop", maxPoints="1", maxRelative="1%"),),
        "spec.gates.metricDrop",
        "exactly one",
    ),
    "a ratio for a percentage": (
        (gate("metricDrop", maxPoints="1", confidence="0.95"),),
        "spec.gates.metricDrop.confidence",
        "%",
    ),
    "certainty": (
        (gate("metricDrop", maxPoints="1", confidence="100%"),),
        "spec.gates.metricDrop.confidence",
        "between 50% and 100%",
    ),
    "certainty of a minimum": (
        (gate("metricMin", min="0.9", confidence="100%"),),
        "spec.gates.metricMin.confidence",
        "between 50% and 100%",
    ),
    "a coin's toss of a latency": (
        (gate("latency", p99MaxMicroseconds=800, confidence="50.000%"),),
        "spec.gates.latency.confidence",
        "both excluded",
    ),
    "a coin's toss": ((gate("speedup", min="1", confidence="50%"),), "spec.gates.speedup.confidence", "both excluded"),
    "a speed-up of nothing": ((gate("speedup", min="0"),), "spec.gates.speedup.min", "above zero"),
    "a float speed-up": ((gate("speedup", min=1.5),), "spec.gates.speedup.min", "string"),
    "over an FP16 that is not": (
        (*TORCH, drop("spec.steps"), put("spec.targets[0].runtime", "Inductor"), gate("speedup", min="1", over="FP16")),
        "spec.gates.speedup.over",
        "over FP16 needs",
    ),
    "a latency gate without a bound": ((gate("latency"),), "spec.gates.latency", "or both"),
    "a median above the p99": (
        (gate("latency", p50MaxMicroseconds=9, p99MaxMicroseconds=8),),
        "spec.gates.latency.p99MaxMicroseconds",
        "smaller than p50",
    ),
    "a p99 of few calls": (
        (gate("latency", p99MaxMicroseconds=8), put("spec.benchmark.calls", 100)),
        "spec.benchmark.calls",
        "at least 300",
    ),
    "a fidelity gate without a bound": ((gate("fidelity"),), "spec.gates.fidelity", "at least one"),
    "a cosine of two": ((gate("fidelity", cosineMin="2"),), "spec.gates.fidelity.cosineMin", "at most 1"),
    "precision of nothing": (
        (drop("spec.steps"), gate("realisedPrecision", min="80%")),
        "spec.gates.realisedPrecision",
        "needs a Quantize step",
    ),
    "calibration of nothing": (
        (drop("spec.steps"), gate("calibration", maxMismatches=0)),
        "spec.gates.calibration",
        "method Static",
    ),
    "the worker's own variable": (
        (put("spec.worker.env", [{"name": "STROP_X"}]),),
        "spec.worker.env[0].name",
        "worker's own",
    ),
    "the operator's own label": (
        (put("spec.worker.labels", {"strop.dev/run": "x"}),),
        "spec.worker.labels",
        "operator's own",
    ),
    "nodes of another architecture": (
        (
            put("spec.targets[0].cpu", {"arch": "arm64"}),
            put("spec.worker.nodeSelector", {"kubernetes.io/arch": "amd64"}),
        ),
        "spec.worker.nodeSelector",
        "contradicts the target's cpu.arch",
    ),
    "nodes of another device": (
        (
            *GPU,
            put("spec.targets[0].accelerator.product", "NVIDIA-H100"),
            put("spec.worker.nodeSelector", {"nvidia.com/gpu.product": "NVIDIA-T4"}),
        ),
        "spec.worker.nodeSelector",
        "contradicts the target's accelerator.product",
    ),
    **{
        f"a request of {name} above its limit": (
            (put("spec.worker.resources", {"requests": {name: more}, "limits": {name: less}}),),
            f"spec.worker.resources.requests.{name}",
            "at most its limit",
        )
        for name, more, less in (("cpu", "1.001", "1000m"), ("memory", "1Gi", "1G"), ("ephemeral-storage", "2k", "1k"))
    },
    "a label that is none": ((put("spec.worker.labels", {"a b": "x"}),), "spec.worker.labels", ""),
    "a toleration with too much": (
        (put("spec.worker.tolerations", [{"operator": "Exists", "value": "x"}]),),
        "spec.worker.tolerations[0].value",
        "takes no value",
    ),
    "a toleration of nothing": (
        (put("spec.worker.tolerations", [{"value": "x"}]),),
        "spec.worker.tolerations[0].operator",
        "needs operator Exists",
    ),
    "an output in a registry": ((put("spec.output.uri", "oci://r/x"),), "spec.output.uri", "name it by s3"),
    "an output in a hub": ((put("spec.output.uri", "hf://a/b"),), "spec.output.uri", "s3"),
}
