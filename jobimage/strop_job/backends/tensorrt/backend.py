"""The two backends: what is the same in both stands in one class, what differs in the few lines of the other."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import JsonValue

from strop_api.support import RTX_CAPABILITIES
from strop_api.targets import Runtime, Target
from strop_job.backends.base import Arithmetic, Compilation, Inspection, Session
from strop_job.backends.graphs import arithmetic_of
from strop_job.backends.tensorrt.build import built, configured
from strop_job.backends.tensorrt.compile import make, write
from strop_job.backends.tensorrt.cuda import Cuda, load_cuda
from strop_job.backends.tensorrt.layers import layers_of
from strop_job.backends.tensorrt.library import Heard, Library, listener, load_library, uncollected
from strop_job.backends.tensorrt.needs import Device, names_of, obstacle
from strop_job.backends.tensorrt.network import parse
from strop_job.backends.tensorrt.options import DYNAMIC, check_capabilities, field_of, options_of
from strop_job.backends.tensorrt.progress import Watch
from strop_job.backends.tensorrt.rtx import verdict
from strop_job.backends.tensorrt.session import TensorRTSession, signature_of
from strop_job.errors import InvalidInput, StropError, Unsupported
from strop_job.stages import Artifact, ArtifactKind, Facts


class TensorRTBackend:
    """TensorRT: builds on the GPU that the engine is for, and runs there."""

    runtime = Runtime.TENSORRT

    def __init__(self) -> None:
        self.library: Library = load_library(self.runtime)

    @cached_property
    def cuda(self) -> Cuda:
        """The CUDA runtime; loaded when it is first needed."""
        return Cuda(load_cuda())

    def device(self) -> Device | None:
        """The GPU that is here."""
        return self.cuda.device()

    def check(self, target: Target) -> None:
        """Raises Unsupported when no engine for the target can be built here."""
        if self.device() is None:
            raise Unsupported(
                f"{self.library.label} builds on the GPU that the engine is for, and none is visible here",
                field=f"{field_of(target)}.accelerator",
                mend="run where the device is; TensorRT-RTX also builds for named compute capabilities without one",
            )

    def compile(self, work: Compilation) -> Artifact:
        """Writes `engine.plan`; a plan without weights has its graph beside it.

        Facts beside those of every engine: `profiles`, `loadsIn`, `runsOn`, `computeCapabilities`, `network`,
        `compute`, `rebuild`, `sparseWeights`, `timingCache`, `buildSeconds`, `planBytes`, `warnings`.
        """
        self.check(work.target)
        device = None if options_of(work.target).capabilities else self.device()
        with uncollected():
            engine = write(work, make(self.library, work, device), device)
        work.report(1.0, "engine written")
        return engine

    def open(
        self, engine: Artifact, target: Target, *, threads: int, optimized: bool = True, spinning: bool = True
    ) -> Session:
        """An engine on the GPU. A graph: built in memory, or (`optimized=False`) computed by ONNX Runtime on the CPU.

        Raises Unsupported where no GPU is visible ("built, not measured") or where the engine is for another one.
        """
        if engine.kind is not ArtifactKind.ENGINE and not optimized:
            from strop_job.backends.reference import open_reference

            return open_reference(engine, threads=threads, spinning=spinning)
        with uncollected():
            return self.load(engine, target) if engine.kind is ArtifactKind.ENGINE else self._in_memory(engine, target)

    def load(self, engine: Artifact, target: Target) -> TensorRTSession:
        """The session of an engine, which also times its copies and records CUDA graphs."""
        device = self._present(target)
        why = obstacle(engine.facts, self.library.name, self.library.label, self.library.version, device)
        if why:
            raise Unsupported(
                f"the engine cannot run here: {why}",
                field=field_of(target),
                mend="run it where it was built for, or build it again here",
            )
        return self._session(engine.entry.read_bytes(), engine, target)

    def inspect(self, engine: Artifact, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Inspection:
        """Layers as the engine's own inspector tells them; without the GPU nothing, and the note says so."""
        if self.device() is None:
            return Inspection({}, note=f"not inspected: {self.library.label} opens an engine only on its GPU")
        with uncollected():
            text = self._description(engine, target, shapes)
        try:
            told = layers_of(text, _macs(engine.facts, shapes))
        except StropError as error:
            return Inspection({}, note=f"not inspected: {error.message}")
        nodes: dict[str, int] = {}
        for layer in told.layers:
            nodes[layer.operator] = nodes.get(layer.operator, 0) + 1
        return Inspection(nodes, told.layers, dict(shapes), told.note, {**_uncounted(engine.facts), **told.uncounted})

    def arithmetic(self, graph: Artifact) -> Arithmetic:
        """Read from the operators and the weights of the file."""
        return arithmetic_of(graph.entry)

    def _description(self, engine: Artifact, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """The engine as its inspector describes it, in JSON."""
        session = self.load(engine, target)
        try:
            inspector = session.inspector(shapes)
            return str(inspector.get_engine_information(self.library.trt.LayerInformationFormat.JSON))
        finally:
            session.close()

    def _present(self, target: Target) -> Device:
        """The GPU that is here. Raises Unsupported where there is none."""
        device = self.device()
        if device is None:
            raise Unsupported(
                f"built, not measured: {self.library.label} runs an engine only on its GPU, and none is visible here",
                field=f"{field_of(target)}.accelerator",
                mend="add an accelerator to measure it there",
            )
        return device

    def _session(self, plan: bytes, source: Artifact, target: Target) -> TensorRTSession:
        trt, heard = self.library.trt, Heard()
        logger = listener(trt, heard)
        runtime = trt.Runtime(logger)
        runtime.engine_host_code_allowed = bool(source.facts.get("versionCompatible"))
        loaded = runtime.deserialize_cuda_engine(plan)
        if loaded is None:
            raise self._not_loaded(runtime, plan, heard, target)
        if source.facts.get("stripped"):
            self._refit(loaded, source.folder / source.files[1], logger, heard)
        names = names_of(source.facts)
        return TensorRTSession(loaded, signature_of(trt, loaded, names), self.cuda, heard, (runtime, logger))

    def _not_loaded(self, runtime: Any, plan: bytes, heard: Heard, target: Target) -> StropError:
        """Why a plan was refused: of another version, for another device, damaged."""
        more = verdict(self.library.trt, runtime, plan) if self.library.rtx else ""
        return InvalidInput(
            f"{self.library.label} {self.library.version} does not load the engine: "
            f"{more or heard.why('it is damaged, of another version, or for another device')}",
            field=field_of(target),
            mend="build it again with this version, on or for this device",
        )

    def _refit(self, loaded: Any, graph: Path, logger: Any, heard: Heard) -> None:
        """Puts the weights of the graph beside it into a plan without weights."""
        trt = self.library.trt
        refitter = trt.Refitter(loaded, logger)
        reader = trt.OnnxParserRefitter(refitter, logger)
        if not reader.refit_from_file(str(graph)) or not refitter.refit_cuda_engine():
            raise InvalidInput(
                f"the weights of {graph.name} do not fit the engine without weights: {heard.why('no reason given')}",
                field="spec.targets[].tensorRT.stripped",
                mend="keep both files of one build together",
            )

    def _in_memory(self, graph: Artifact, target: Target) -> TensorRTSession:
        """Builds a graph of fixed shapes and opens it."""
        self._present(target)
        parsed = parse(self.library, graph.entry)
        if DYNAMIC in (size for shape in parsed.inputs.values() for size in shape):
            raise Unsupported(
                "a graph with dynamic shapes is compiled for the ranges of spec.model.dimensions, not opened as it is",
                field="spec.model.dimensions",
                mend="compile it first",
            )
        config = configured(parsed, options_of(target), ())
        plan = built(parsed, config, Watch(lambda share, text: None, 0.0, 1.0), target).plan
        with TemporaryDirectory(prefix="strop-engine-") as folder:
            return self._session(plan, Artifact(ArtifactKind.ENGINE, Path(folder), ("engine.plan",)), target)


class TensorRTRTXBackend(TensorRTBackend):
    """TensorRT-RTX: builds ahead of time for named compute capabilities, with or without a GPU."""

    runtime = Runtime.TENSORRT_RTX

    def check(self, target: Target) -> None:
        """Raises Unsupported for a device TensorRT-RTX does not build for, or when neither is named nor visible."""
        check_capabilities(target)
        if options_of(target).capabilities:
            return
        device = self.device()
        if device is None:
            raise Unsupported(
                "TensorRT-RTX builds for the GPU at hand, and none is visible here",
                field=field_of(target, "computeCapabilities"),
                mend="name the compute capabilities to build for, such as 8.9",
            )
        if device.capability not in RTX_CAPABILITIES:
            raise Unsupported(
                f"TensorRT-RTX does not build for {device.name} (compute capability {device.capability})",
                field=f"{field_of(target)}.runtime",
                mend="use TensorRT there",
            )


def _macs(facts: Facts, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Multiply-accumulates by ONNX node, if they were counted for these very shapes."""
    compute = facts.get("compute")
    if not isinstance(compute, dict):
        return {}
    asked: dict[str, JsonValue] = {name: list(shape) for name, shape in shapes.items()}
    counted = compute.get("macsByNode")
    if compute.get("shapes") != asked or not isinstance(counted, dict):
        return {}
    return {node: int(count) for node, count in counted.items() if isinstance(count, int)}


def _uncounted(facts: Facts) -> dict[str, int]:
    """Operators of the graph that multiply and were not counted."""
    compute = facts.get("compute")
    found = compute.get("uncounted") if isinstance(compute, dict) else None
    return {name: count for name, count in found.items() if isinstance(count, int)} if isinstance(found, dict) else {}
