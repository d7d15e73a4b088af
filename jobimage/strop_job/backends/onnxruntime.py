"""ONNX Runtime on a CPU or an NVIDIA GPU: the engine is the optimized graph, written out once and loaded as it is."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.targets import GraphOptimization, OnnxRuntimeOptions, Target
from strop_job.backends.base import Arithmetic, Arrays, Compilation, Inspection
from strop_job.backends.graphs import arithmetic_of, is_large
from strop_job.backends.profile import compute_by_format, node_counts
from strop_job.errors import InvalidInput, StropError, Unsupported
from strop_job.stages import Artifact, ArtifactKind

ENGINE_FILE = "engine.onnx"
EXTERNAL_FILE = "engine.onnx.data"
ERRORS_ONLY = 3
LEVELS = {
    GraphOptimization.DISABLE: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    GraphOptimization.BASIC: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    GraphOptimization.EXTENDED: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    GraphOptimization.ALL: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
ELEMENT_TYPES: dict[str, type[np.generic]] = {
    "float": np.float32, "float16": np.float16, "double": np.float64, "bool": np.bool_,
    "int64": np.int64, "int32": np.int32, "int16": np.int16, "int8": np.int8,
    "uint64": np.uint64, "uint32": np.uint32, "uint16": np.uint16, "uint8": np.uint8,
}  # fmt: skip
NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |/\S*onnxruntime\S*:\d+ .*?\) (?=[A-Z])|Load model from \S+ failed:"
)
"""Codes, C++ signatures and paths in the runtime's messages."""
REFUSED = (
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.NoSuchFile,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
    ort.capi.onnxruntime_pybind11_state.Fail,
)
"""What ONNX Runtime raises for a file it does not take; all are plain Exceptions with no common base."""


class OrtSession:
    """A loaded ONNX graph."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session: ort.InferenceSession | None = session
        self._types = {i.name: np.dtype(element_type(i.type)) for i in session.get_inputs()}
        self._outputs = tuple(o.name for o in session.get_outputs())

    @property
    def inputs(self) -> Mapping[str, np.dtype[Any]]:
        """Element type of every input, by its name."""
        return self._types

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return self._outputs

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One call. Raises InvalidInput when names, types or shapes do not fit the model."""
        if self._session is None:
            raise ValueError("the session is closed")
        try:
            values = self._session.run(None, dict(inputs))
        except (*REFUSED, ValueError) as error:
            given = ", ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in inputs.items())
            raise InvalidInput(
                f"the model refuses the inputs ({given}): {first_line(error)}",
                field="spec.model.inputs",
                mend="names, types and shapes there must be those of the data and of the model",
            ) from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Frees the model; the session must not be used afterwards."""
        self._session = None


class OnnxRuntimeBackend:
    """Compiles by letting ONNX Runtime write the graph it would run."""

    def check(self, target: Target) -> None:
        """Raises Unsupported when the provider that the target needs is not installed here."""
        provider = provider_for(target)
        if provider not in ort.get_available_providers():
            raise _no_provider(target, provider, "it is not part of the ONNX Runtime in this image")

    def compile(self, work: Compilation) -> Artifact:
        """Writes `engine.onnx`, optimized at the target's level for this very processor."""
        target, folder = work.target, work.folder
        self.check(target)
        work.report(0.0, "optimizing the graph")
        engine = folder / ENGINE_FILE
        options = session_options(level(target), threads=1)
        options.optimized_model_filepath = str(engine)
        if is_large(size_bytes(work.graph)):
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", EXTERNAL_FILE)
        session = self._load(work.graph.entry, options, target)
        files = (ENGINE_FILE, *(n for n in (EXTERNAL_FILE,) if (folder / n).exists()))
        made = Artifact(ArtifactKind.ENGINE, folder, files)
        facts = {
            "runtime": "onnxruntime",
            "version": ort.__version__,
            "provider": provider_for(target),
            "graphOptimization": options_of(target).graph_optimization.value,
            "sizeBytes": size_bytes(made),
            "inputs": [_tensor(i) for i in session.get_inputs()],
            "outputs": [_tensor(o) for o in session.get_outputs()],
            "nodes": dict(sorted(node_counts(engine).items())),
        }
        work.report(1.0, "engine written")
        return Artifact(ArtifactKind.ENGINE, folder, files, facts)

    def open(
        self, engine: Artifact, target: Target, *, threads: int, optimized: bool = True, spinning: bool = True
    ) -> OrtSession:
        """An engine is loaded as it was written; a graph is optimized in memory, or not at all."""
        written = engine.kind is ArtifactKind.ENGINE or not optimized
        options = session_options(LEVELS[GraphOptimization.DISABLE] if written else level(target), threads=threads)
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return OrtSession(self._load(engine.entry, options, target))

    def inspect(self, engine: Artifact, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Inspection:
        """Runs one call under the profiler, on zeros, and reads operand types and shapes from what was executed."""
        nodes = node_counts(engine.entry)
        with TemporaryDirectory(prefix="strop-profile-") as scratch:
            options = session_options(LEVELS[GraphOptimization.DISABLE], threads=1)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(scratch) / "profile")
            session = self._load(engine.entry, options, target)
            try:
                OrtSession(session).run(
                    {i.name: np.zeros(shapes[i.name], element_type(i.type)) for i in session.get_inputs()}
                )
            except (StropError, KeyError) as error:
                return Inspection(nodes, note=f"not inspected: a call on zeros failed: {first_line(error)}")
            finally:
                events = Path(session.end_profiling())
            compute = compute_by_format(events, engine.entry)
        return Inspection(nodes, compute.layers, dict(shapes), compute.note)

    def arithmetic(self, graph: Artifact) -> Arithmetic:
        """Read from the operators and the weights of the file."""
        return arithmetic_of(graph.entry)

    def _load(self, path: Path, options: ort.SessionOptions, target: Target) -> ort.InferenceSession:
        """A session whose provider is the one that was asked for."""
        provider = provider_for(target)
        self.check(target)
        try:
            session = ort.InferenceSession(str(path), options, providers=[provider])
        except REFUSED as error:
            raise refused(path, error) from error
        if session.get_providers()[0] != provider:
            raise _no_provider(target, provider, f"it fell back to {session.get_providers()[0]}")
        return session


def _tensor(value: ort.NodeArg) -> dict[str, JsonValue]:
    """Name, element type and shape of an input or output; -1 where the size is dynamic."""
    shape = [size if isinstance(size, int) else -1 for size in value.shape]
    return {"name": value.name, "dtype": np.dtype(element_type(value.type)).name, "shape": list(shape)}


def session_options(graph_level: ort.GraphOptimizationLevel, *, threads: int) -> ort.SessionOptions:
    """Options shared by every session: one call at a time, `threads` threads inside it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = graph_level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = ERRORS_ONLY
    return options


def provider_for(target: Target) -> str:
    """The execution provider of a target."""
    return "CUDAExecutionProvider" if target.accelerator else "CPUExecutionProvider"


def options_of(target: Target) -> OnnxRuntimeOptions:
    """The target's options, defaults where it has none."""
    return target.onnx_runtime or OnnxRuntimeOptions()


def level(target: Target) -> ort.GraphOptimizationLevel:
    """The level of graph optimization that the target asks for."""
    return LEVELS[options_of(target).graph_optimization]


def element_type(text: str) -> type[np.generic]:
    """`tensor(float)` as np.float32. Raises InvalidInput for what is not a tensor of numbers."""
    name = text.removeprefix("tensor(").removesuffix(")")
    if name not in ELEMENT_TYPES:
        raise InvalidInput(f"the model has an input of type {text}", field="spec.model.inputs", mend="only tensors")
    return ELEMENT_TYPES[name]


def size_bytes(artifact: Artifact) -> int:
    """Size of all its files together."""
    return sum((artifact.folder / name).stat().st_size for name in artifact.files)


def first_line(error: BaseException) -> str:
    """An exception's text without ONNX Runtime's codes and C++ signatures, short enough for a status."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return NOISE.sub("", line).strip()[:300]


def refused(path: Path, error: BaseException) -> StropError:
    """What ONNX Runtime's refusal of a file means, in words."""
    text = first_line(error)
    if "opset" in text.lower() or "ir version" in text.lower():
        return Unsupported(
            f"ONNX Runtime {ort.__version__} is too old for {path.name}{_versions(path)}: {text}",
            field="spec.model.uri",
            mend="export with an older opset and IR version",
        )
    if "NOT_IMPLEMENTED" in str(error) or "No Op registered" in text or "not a registered function/op" in text:
        return Unsupported(f"{path.name} has an operator this runtime does not know: {text}", field="spec.model.uri")
    return InvalidInput(f"ONNX Runtime refuses {path.name}: {text}", field="spec.model.uri")


def _versions(path: Path) -> str:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # the file is being refused already; its versions only help the reader
        return ""
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    return f" (IR {model.ir_version}, opset {opsets})"


def _no_provider(target: Target, provider: str, why: str) -> Unsupported:
    return Unsupported(
        f"the target needs {provider}, and {why} (there are: {', '.join(ort.get_available_providers())})",
        field=f"spec.targets[{target.name}].accelerator",
        mend="use the worker image for CUDA on a node with the driver, or drop `accelerator` to run on the CPU",
    )
