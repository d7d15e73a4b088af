"""A model repository for the Triton Inference Server: `<model>/config.pbtxt` and the engine under `<model>/1/`.

The fields are those of Triton's `model_config.proto`; what a backend does with them is told by its own README, such as
https://github.com/triton-inference-server/onnxruntime_backend.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

from pydantic import JsonValue

from strop_api.model import Dimension, ModelSource
from strop_api.result import RunRequest
from strop_api.targets import OnnxRuntimeOptions, OpenVINOOptions, Runtime, Target
from strop_job.errors import Unsupported
from strop_job.handoff.files import listed, place
from strop_job.handoff.pbtxt import Field, Message, Word, message, render
from strop_job.handoff.signature import DYNAMIC, FIELD, Signature, Tensor, read_signature
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext

VERSION = "1"
"""The folder of the one version there is."""
BACKENDS = {
    Runtime.ONNX_RUNTIME: (("backend", "onnxruntime"), ("platform", "onnxruntime_onnx")),
    Runtime.OPENVINO: (("backend", "openvino"),),
    Runtime.TENSORRT: (("backend", "tensorrt"), ("platform", "tensorrt_plan")),
    Runtime.INDUCTOR: (("backend", "pytorch"), ("platform", "torch_aoti")),
}
"""What `config.pbtxt` says of each runtime that Triton serves."""
ENTRIES = {
    Runtime.ONNX_RUNTIME: "model.onnx",
    Runtime.OPENVINO: "model.xml",
    Runtime.TENSORRT: "model.plan",
    Runtime.INDUCTOR: "model.pt2",
}
BF16 = "bf16"
UNBATCHED = frozenset({Runtime.INDUCTOR})
"""Triton's PyTorch backend does not join requests for packages of AOTInductor."""
DATA_TYPES = {
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64", "bfloat16": "TYPE_BF16",
    "str": "TYPE_STRING",
}  # fmt: skip
AS_WRITTEN = 2
"""The ONNX Runtime backend's word for no graph optimization: the engine is loaded as it was written and measured."""


def triton_stage(name: str, request: RunRequest, target: Target, engine: str) -> Stage:
    """The engine of stage `engine` as a model repository. Facts: maxBatchSize, inputs, outputs, notes."""
    model = request.spec.model
    return Stage(
        name=name,
        kind="Triton",
        version=2,
        run=partial(run_triton, engine=engine),
        parameters={
            "name": request.name,
            "target": target.model_dump(mode="json", by_alias=True, exclude={"name", "optional"}),
            "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in model.inputs],
            "dimensions": [dimension.model_dump(mode="json", by_alias=True) for dimension in model.dimensions],
        },
        needs=(engine,),
        weight=0.05,
    )


def run_triton(context: StageContext, engine: str) -> Artifact:
    """Lays out the repository. Raises Unsupported for an engine that Triton cannot be told about."""
    made, target, name = context.inputs[engine], context.target, context.request.name
    signature = read_signature(made)
    notes = [server_note(made, target), *_precision_note(made, target), *_names(signature, target)]
    batch = None if target.runtime in UNBATCHED else batch_dimension(context.spec.model, signature)
    config = context.folder / name / "config.pbtxt"
    config.parent.mkdir(parents=True)
    config.write_text(f"# {notes[0]}\n" + render(model_config(name, target, signature, batch, _precision(made))))
    for file, placed in renamed(made, target.runtime).items():
        place(made.folder / file, config.parent / VERSION / placed)
    facts: dict[str, JsonValue] = {"maxBatchSize": batch.max if batch else 0, **signature.facts(), "notes": [*notes]}
    return Artifact(ArtifactKind.BUNDLE, context.folder, listed(context.folder), facts)


def batch_dimension(model: ModelSource, signature: Signature) -> Dimension | None:
    """The dynamic dimension that leads every input of the spec and every tensor of the engine; None if none does."""
    leading = {tensor.shape[0] if tensor.shape else None for tensor in model.inputs}
    if len(leading) != 1 or not all(t.shape and t.shape[0] == DYNAMIC for t in signature.tensors):
        return None
    name = leading.pop()
    return next((dimension for dimension in model.dimensions if dimension.name == name), None)


def model_config(
    name: str, target: Target, signature: Signature, batch: Dimension | None, precision: str = ""
) -> Message:
    """`config.pbtxt`: Triton's `ModelConfig`. `precision`: what OpenVINO computed floats in, as `bf16`."""
    kind = "KIND_GPU" if target.accelerator else "KIND_CPU"
    return message(
        ("name", name),
        *BACKENDS[target.runtime],
        ("max_batch_size", batch.max if batch else 0),
        ("version_policy", message(("specific", message(("versions", [int(VERSION)]))))),
        *(("input", _tensor(t, batched=batch is not None)) for t in _spoken(signature.inputs, target, "INPUT")),
        *(("output", _tensor(t, batched=batch is not None)) for t in _spoken(signature.outputs, target, "OUTPUT")),
        ("instance_group", message(("count", 1), ("kind", Word(kind)))),
        *_batching(batch),
        *_options(target, precision),
    )


def _spoken(tensors: tuple[Tensor, ...], target: Target, kind: str) -> tuple[Tensor, ...]:
    """As clients name them: Triton's PyTorch backend knows tensors by their position."""
    if target.runtime is not Runtime.INDUCTOR:
        return tensors
    return tuple(replace(tensor, name=f"{kind}__{at}") for at, tensor in enumerate(tensors))


def _names(signature: Signature, target: Target) -> list[str]:
    """What clients must know where they call tensors by another name than the spec does."""
    told = [
        f"`{spoken.name}` is {tensor.name}"
        for tensors, kind in ((signature.inputs, "INPUT"), (signature.outputs, "OUTPUT"))
        for tensor, spoken in zip(tensors, _spoken(tensors, target, kind), strict=True)
        if tensor != spoken
    ]
    return [f"To clients {', '.join(told)}."] if told else []


def _tensor(tensor: Tensor, *, batched: bool) -> Message:
    """Triton leaves the batch out of `dims`, and wants one dimension of what then has none."""
    if tensor.dtype not in DATA_TYPES:
        raise Unsupported(f"Triton has no type for {tensor.name} ({tensor.dtype})", field=FIELD, mend="leave it out")
    dims = tensor.shape[1:] if batched else tensor.shape
    shape: tuple[Field, ...] = (("dims", [*dims]),) if dims else (("dims", [1]), ("reshape", message(("shape", []))))
    return message(("name", tensor.name), ("data_type", Word(DATA_TYPES[tensor.dtype])), *shape)


def _batching(batch: Dimension | None) -> tuple[Field, ...]:
    """Requests are joined up to the sizes that the engine was tuned for and that it takes at most."""
    if batch is None or batch.max == 1:
        return ()
    sizes = sorted({size for size in (batch.opt, batch.max) if size > 1})
    return (("dynamic_batching", message(("preferred_batch_size", sizes))),)


def _options(target: Target, precision: str) -> tuple[Field, ...]:
    """The options that the measured session had, as far as the backend takes them."""
    if target.runtime is Runtime.ONNX_RUNTIME:
        as_written = message(("graph", message(("level", AS_WRITTEN))))
        return (("optimization", as_written), *_parameters(_onnx_runtime(target)))
    return _parameters(_openvino(target, precision)) if target.runtime is Runtime.OPENVINO else ()


def _onnx_runtime(target: Target) -> Mapping[str, str]:
    options = target.onnx_runtime or OnnxRuntimeOptions()
    parallel = options.inter_op_threads > 1
    threads = {"intra_op_thread_count": str(target.cpu.threads)} if target.cpu and target.cpu.threads else {}
    between = {"execution_mode": "1", "inter_op_thread_count": str(options.inter_op_threads)} if parallel else {}
    return threads | between | {"enable_mem_arena": "1" if options.memory_arena else "0"}


def _openvino(target: Target, precision: str) -> Mapping[str, str]:
    hint = (target.openvino or OpenVINOOptions()).performance_hint
    threads = {"INFERENCE_NUM_THREADS": str(target.cpu.threads)} if target.cpu and target.cpu.threads else {}
    half = {"HINT_BF16": "yes"} if precision == BF16 else {}
    return threads | {"PERFORMANCE_HINT": hint.value.upper()} | half


def _precision(engine: Artifact) -> str:
    return str(engine.facts.get("inferencePrecision", ""))


def _precision_note(engine: Artifact, target: Target) -> list[str]:
    """What Triton's OpenVINO backend cannot be told: of all precisions it takes a word for bf16 alone."""
    precision = _precision(engine)
    if target.runtime is not Runtime.OPENVINO or precision in ("", BF16):
        return []
    return [
        f"Measured with floats in {precision}. Triton's OpenVINO backend has no parameter for that: on a processor with"
        " bf16 it computes them in bf16, with figures of its own. Check them there, or serve the engine with"
        f" OpenVINO Model Server and INFERENCE_PRECISION_HINT={precision}."
    ]


def _parameters(values: Mapping[str, str]) -> tuple[Field, ...]:
    return tuple(
        ("parameters", message(("key", key), ("value", message(("string_value", value)))))
        for key, value in values.items()
    )


def renamed(engine: Artifact, runtime: Runtime) -> dict[str, str]:
    """The name of each file of the engine below the version's folder.

    Triton looks for `model.<kind>`; weights beside an ONNX file keep their name, which stands in that file, and those
    beside an IR take the IR's.
    """
    entry, *others = engine.files
    stem = PurePosixPath(entry).stem
    names = {entry: ENTRIES[runtime]}
    for other in others:
        path = PurePosixPath(other)
        of_ir = runtime is Runtime.OPENVINO and path.stem == stem
        names[other] = f"{PurePosixPath(ENTRIES[runtime]).stem}{path.suffix}" if of_ir else other
    return names


def server_note(engine: Artifact, target: Target) -> str:
    """Which server loads the engine, as far as its own facts say. Raises Unsupported where none would."""
    version = engine.facts.get("version")
    if not isinstance(version, str):
        raise Unsupported("the engine does not tell the version that made it", field=FIELD, mend="leave Triton out")
    if target.runtime is Runtime.TENSORRT:
        return _plan_note(version, target)
    if target.runtime is Runtime.OPENVINO:
        return f"An IR written by OpenVINO {version}: take a Triton release whose OpenVINO backend is that or newer."
    if target.runtime is Runtime.INDUCTOR:
        return (
            f"A package of AOTInductor, compiled by torch {version} for the hardware it was measured on: take a Triton"
            f" release from 26.05 on whose PyTorch is {version}. Requests are not joined."
        )
    provider = str(engine.facts.get("provider", "CPUExecutionProvider"))
    return (
        f"Optimized by ONNX Runtime {version} for {provider} on the hardware it was measured on: take a Triton release"
        f" whose ONNX Runtime is {version} or newer."
    )


def _plan_note(version: str, target: Target) -> str:
    options = target.tensorrt
    if options and options.stripped:
        raise Unsupported(
            "Triton cannot load a stripped plan: its weights must be put back first",
            field=FIELD,
            mend="leave Triton out, or unset tensorRT.stripped",
        )
    if options and options.version_compatible:
        return (
            f"A version-compatible plan of TensorRT {version}: take a Triton release whose TensorRT is {version} or a"
            f" later {version.split('.')[0]}.x, started with --backend-config=tensorrt,version-compatible=true."
        )
    return f"A plan of TensorRT {version}: only a Triton release that brings TensorRT {version} loads it."
