"""ONNX Runtime on a CPU or an NVIDIA GPU: the engine is the optimized graph, written out once and loaded as it is."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.targets import GraphOptimization, OnnxRuntimeOptions, Target
from strop_job.backends.base import Arithmetic, Arrays, Compilation, Inspection
from strop_job.backends.graphs import arithmetic_of, is_large
from strop_job.backends.profile import compute_by_format, node_counts
from strop_job.backends.providers import (
    CPU,
    RECORD_PLACEMENT,
    TENSORRT,
    check_provider,
    options_of,
    placement,
    provider_for,
    providers_for,
    require_placement,
)
from strop_job.backends.refusals import REFUSED, first_line, out_of_memory, refused
from strop_job.errors import InvalidInput, StropError
from strop_job.stages import Artifact, ArtifactKind

ENGINE_FILE = "engine.onnx"
EXTERNAL_FILE = "engine.onnx.data"
ERRORS_ONLY = 3
UNASKED = ("WeightBiasQuantization",)
"""Quantizes float weights that it finds between integer layers: those that a spec excludes, too."""
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


class OrtSession:
    """A loaded ONNX graph."""

    def __init__(self, session: ort.InferenceSession, run_options: ort.RunOptions | None = None) -> None:
        self._session: ort.InferenceSession | None = session
        self._run_options = run_options
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
            values = self._session.run(None, dict(inputs), self._run_options)
        except (*REFUSED, ValueError) as error:
            if (memory := out_of_memory(error)) is not None:
                raise memory from error
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
        check_provider(target)

    def compile(self, work: Compilation) -> Artifact:
        """Writes `engine.onnx`, optimized at the target's level for this very processor or device.

        Facts beside the usual: `provider`, `placement` (nodes by provider), `graphOptimization`, `nodes` by operator,
        `compiledOnLoad`: what the TensorRT provider makes cannot be written into a graph, so that it makes it on load.
        """
        target, folder = work.target, work.folder
        self.check(target)
        work.report(0.0, "optimizing the graph")
        options = session_options(level(target), threads=1)
        on_load = provider_for(target) == TENSORRT
        if on_load:
            _copy(work.graph, folder)
        else:
            _write_to(folder, options, external=is_large(size_bytes(work.graph)))
        session = self._load(work.graph.entry, options, target)
        files = (ENGINE_FILE, *(n.name for n in sorted(folder.iterdir()) if n.name != ENGINE_FILE))
        made = Artifact(ArtifactKind.ENGINE, folder, files)
        facts: dict[str, JsonValue] = {
            "runtime": "onnxruntime",
            "version": ort.__version__,
            "provider": provider_for(target),
            "placement": {name: len(nodes) for name, nodes in placement(session).items()},
            "graphOptimization": options_of(target).graph_optimization.value,
            "compiledOnLoad": on_load,
            "sizeBytes": size_bytes(made),
            "inputs": [_tensor(i) for i in session.get_inputs()],
            "outputs": [_tensor(o) for o in session.get_outputs()],
            "nodes": dict(sorted(node_counts(made.entry).items())),
        }
        work.report(1.0, "engine written")
        return Artifact(ArtifactKind.ENGINE, folder, files, facts)

    def open(
        self, engine: Artifact, target: Target, *, threads: int, optimized: bool = True, spinning: bool = True
    ) -> OrtSession:
        """An engine is loaded as it was written; a graph is optimized in memory.

        `optimized=False` runs on the CPU whatever the target is: a provider is no reference of itself.
        """
        if not optimized:
            from strop_job.backends.reference import open_reference  # which is made of this module's sessions

            return open_reference(engine, threads=threads, spinning=spinning)
        on_load = provider_for(target) == TENSORRT
        written = engine.kind is ArtifactKind.ENGINE and not on_load
        chosen = LEVELS[GraphOptimization.DISABLE] if written else level(target)
        options = session_options(chosen, threads=threads, asked=options_of(target))
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return OrtSession(self._load(engine.entry, options, target), run_options(target))

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
        return Inspection(nodes, compute.layers, dict(shapes), compute.note, compute.uncounted)

    def arithmetic(self, graph: Artifact) -> Arithmetic:
        """Read from the operators and the weights of the file."""
        return arithmetic_of(graph.entry)

    def _load(self, path: Path, options: ort.SessionOptions, target: Target) -> ort.InferenceSession:
        """A session whose provider, and that of all its compute, is the one that was asked for."""
        self.check(target)
        options.add_session_config_entry(RECORD_PLACEMENT, "1")
        try:
            session = ort.InferenceSession(
                str(path), options, providers=providers_for(target), disabled_optimizers=list(UNASKED)
            )
        except REFUSED as error:
            raise refused(path, error) from error
        require_placement(session, target)
        return session


def _copy(graph: Artifact, folder: Path) -> None:
    """The graph as it is: its entry gets the engine's name, what lies beside it keeps its own."""
    for name in graph.files:
        shutil.copyfile(graph.folder / name, folder / (ENGINE_FILE if name == graph.files[0] else Path(name).name))


def _write_to(folder: Path, options: ort.SessionOptions, *, external: bool) -> None:
    """Makes a session write what it optimized."""
    options.optimized_model_filepath = str(folder / ENGINE_FILE)
    if external:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", EXTERNAL_FILE)


def _tensor(value: ort.NodeArg) -> dict[str, JsonValue]:
    """Name, element type and shape of an input or output; -1 where the size is dynamic."""
    shape = [size if isinstance(size, int) else -1 for size in value.shape]
    return {"name": value.name, "dtype": np.dtype(element_type(value.type)).name, "shape": list(shape)}


def session_options(
    graph_level: ort.GraphOptimizationLevel, *, threads: int, asked: OnnxRuntimeOptions | None = None
) -> ort.SessionOptions:
    """Options shared by every session: one call at a time, `threads` threads inside it, and what a target asks for."""
    asked = asked or OnnxRuntimeOptions()
    parallel = asked.inter_op_threads > 1
    options = ort.SessionOptions()
    options.graph_optimization_level = graph_level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = asked.inter_op_threads
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = asked.memory_arena
    options.log_severity_level = ERRORS_ONLY
    return options


def run_options(target: Target) -> ort.RunOptions | None:
    """Without an arena a device's memory is given back after each call; on a CPU the session itself has none."""
    if options_of(target).memory_arena or provider_for(target) == CPU:
        return None
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "gpu:0")
    return options


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
