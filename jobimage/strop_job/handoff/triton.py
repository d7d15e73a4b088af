"""A model repository for the Triton Inference Server: `<model>/config.pbtxt` and the engine under `<model>/1/`.

The fields are those of Triton's `model_config.proto`; what a backend does with them is told by its own README, such as
https://github.com/triton-inference-server/onnxruntime_backend.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

from pydantic import JsonValue

from strop_api.model import Dimension, ModelSource
from strop_api.result import RunRequest
from strop_api.targets import OnnxRuntimeOptions, OpenVINOOptions, Runtime, Target
from strop_job.backends import TRAITS
from strop_job.errors import Unsupported
from strop_job.handoff.files import listed, place
from strop_job.handoff.measured import measured_with, threads_of
from strop_job.handoff.pbtxt import Field, Message, Word, message, render
from strop_job.handoff.signature import DYNAMIC, FIELD, Signature, Tensor, read_signature
from strop_job.stages import Artifact, ArtifactKind, Facts, Stage, StageContext

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

VERSION_COMPATIBLE = "--backend-config=tensorrt,version-compatible=true"
"""The server's flag without which a version-compatible plan is refused."""


def triton_stage(name: str, request: RunRequest, target: Target, engine: str) -> Stage:
    """The engine of stage `engine` as a model repository. Facts: maxBatchSize, inputs, outputs, notes."""
    model, threads = request.spec.model, threads_of(target)
    return Stage(
        name=name,
        kind="Triton",
        version=3,
        run=partial(run_triton, engine=engine, threads=threads),
        parameters={
            "name": request.name,
            "threads": threads,
            "target": target.model_dump(mode="json", by_alias=True, exclude={"name", "optional"}),
            "inputs": [tensor.model_dump(mode="json", by_alias=True) for tensor in model.inputs],
            "dimensions": [dimension.model_dump(mode="json", by_alias=True) for dimension in model.dimensions],
        },
        needs=(engine,),
        libraries=TRAITS[target.runtime].libraries,
        hardware=True,
        weight=0.05,
    )


def run_triton(context: StageContext, engine: str, threads: int | None) -> Artifact:
    """Lays out the repository. Raises Unsupported for an engine that Triton cannot be told about."""
    made, target, name = context.inputs[engine], context.target, context.request.name
    signature = read_signature(made)
    notes = [server_note(made, target), *precision_note(made, target), *_names(signature, target)]
    batch = None if target.runtime in UNBATCHED else batch_dimension(context.spec.model, signature)
    config = context.folder / name / "config.pbtxt"
    config.parent.mkdir(parents=True)
    head = "".join(f"# {note}\n" for note in (*notes, _measured(made, threads)))
    config.write_text(head + render(model_config(name, target, signature, batch, Measured.of(made, threads))))
    for file, placed in renamed(made, target.runtime).items():
        place(made.folder / file, config.parent / VERSION / placed)
    facts: dict[str, JsonValue] = {"maxBatchSize": batch.max if batch else 0, **signature.facts(), "notes": [*notes]}
    return Artifact(ArtifactKind.BUNDLE, context.folder, listed(context.folder), facts)


@dataclass(frozen=True)
class Measured:
    """What the measured session had and `config.pbtxt` has a word for."""

    threads: int | None = None
    precision: str = ""
    """What OpenVINO computed floats in, as `bf16`."""
    streams: int | None = None
    """Calls that OpenVINO served at once."""

    @classmethod
    def of(cls, engine: Artifact, threads: int | None) -> "Measured":
        """From the engine's facts."""
        streams = engine.facts.get("streams")
        return cls(threads, _precision(engine), streams if isinstance(streams, int) else None)


def batch_dimension(model: ModelSource, signature: Signature) -> Dimension | None:
    """The dynamic dimension that leads every input of the spec and every tensor of the engine; None if none does."""
    leading = {tensor.shape[0] if tensor.shape else None for tensor in model.inputs}
    if len(leading) != 1 or not all(t.shape and t.shape[0] == DYNAMIC for t in signature.tensors):
        return None
    name = leading.pop()
    # Triton joins from one request on: a batch that starts above 1 is left to clients, who send it whole.
    return next((dimension for dimension in model.dimensions if dimension.name == name and dimension.min == 1), None)


def model_config(
    name: str, target: Target, signature: Signature, batch: Dimension | None, measured: Measured
) -> Message:
    """`config.pbtxt`: Triton's `ModelConfig`."""
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
        *_options(target, measured),
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


def _options(target: Target, measured: Measured) -> tuple[Field, ...]:
    """The options that the measured session had, as far as the backend takes them."""
    if target.runtime is Runtime.ONNX_RUNTIME:
        as_written = message(("graph", message(("level", AS_WRITTEN))))
        return (("optimization", as_written), *_parameters(_onnx_runtime(target, measured)))
    return _parameters(_openvino(target, measured)) if target.runtime is Runtime.OPENVINO else ()


def _onnx_runtime(target: Target, measured: Measured) -> Mapping[str, str]:
    options = target.onnx_runtime or OnnxRuntimeOptions()
    parallel = options.inter_op_threads > 1
    threads = {"intra_op_thread_count": str(measured.threads)} if measured.threads else {}
    between = {"execution_mode": "1", "inter_op_thread_count": str(options.inter_op_threads)} if parallel else {}
    return threads | between | {"enable_mem_arena": "1" if options.memory_arena else "0"}


def _openvino(target: Target, measured: Measured) -> Mapping[str, str]:
    hint = (target.openvino or OpenVINOOptions()).performance_hint
    threads = {"INFERENCE_NUM_THREADS": str(measured.threads)} if measured.threads else {}
    streams = {"NUM_STREAMS": str(measured.streams)} if measured.streams else {}
    half = {"HINT_BF16": "yes"} if measured.precision == BF16 else {}
    return threads | streams | {"PERFORMANCE_HINT": hint.value.upper()} | half


def _measured(engine: Artifact, threads: int | None) -> str:
    return "As measured: " + ", ".join(
        f"{name} {value}" for name, value in measured_with(engine.facts, threads).items()
    )


def _precision(engine: Artifact) -> str:
    return str(engine.facts.get("inferencePrecision", ""))


def precision_note(engine: Artifact, target: Target) -> list[str]:
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
        return _plan_note(engine.facts, release(version), target)
    if target.runtime is Runtime.OPENVINO:
        return f"An IR written by OpenVINO {version}: take a Triton release whose OpenVINO backend is that or newer."
    if target.runtime is Runtime.INDUCTOR:
        return (
            f"A package of AOTInductor, compiled by torch {version} for the hardware it was measured on: take a Triton"
            f" release from 26.05 on whose PyTorch is {version}. Requests are not joined."
        )
    provider = str(engine.facts.get("provider", "CPUExecutionProvider"))
    if engine.facts.get("compiledOnLoad"):
        raise Unsupported(
            f"what {provider} compiles cannot be kept: Triton would serve the graph as it is, not what was measured",
            field=FIELD,
            mend="leave Triton and KServe out, or choose onnxRuntime.provider CUDA or the runtime TensorRT",
        )
    return (
        f"Optimized by ONNX Runtime {version} for {provider} on the hardware it was measured on: take a Triton release"
        f" whose ONNX Runtime is {version} or newer."
    )


def _plan_note(facts: Facts, version: str, target: Target) -> str:
    if facts.get("stripped") or (target.tensorrt and target.tensorrt.stripped):
        raise Unsupported(
            "Triton cannot load a stripped plan: its weights must be put back first",
            field=FIELD,
            mend="leave Triton out, or unset tensorRT.stripped",
        )
    where = f" It runs on {facts['runsOn']}." if facts.get("runsOn") else ""
    if loads_any_later(facts, target):
        return (
            f"A version-compatible plan of TensorRT {version}: take a Triton release whose TensorRT is {version} or a"
            f" later {version.split('.')[0]}.x, started with {VERSION_COMPATIBLE}: code that lies in the plan runs in"
            f" the server, so load no such plan from others.{where}"
        )
    return f"A plan of TensorRT {version}: only a Triton release that brings TensorRT {version} loads it.{where}"


def loads_any_later(facts: Facts, target: Target) -> bool:
    """Whether a plan is loaded by later releases too, if the server is told to (`engine_host_code_allowed`)."""
    asked = target.runtime is Runtime.TENSORRT and target.tensorrt is not None and target.tensorrt.version_compatible
    return asked or bool(facts.get("versionCompatible"))


def release(version: str) -> str:
    """`11.4.0.106` as `11.4.0`: plans do not cross releases, builds of one release do."""
    return ".".join(version.split(".")[:3])
