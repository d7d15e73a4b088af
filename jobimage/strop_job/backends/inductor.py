"""Inductor: a torch program compiled ahead of time (AOTInductor) into one package, for a CPU or a GPU torch drives."""

import atexit
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.targets import InductorOptions, Target
from strop_job.backends.aoti import kernels
from strop_job.backends.aoti.child import MACS_FILE
from strop_job.backends.aoti.package import ENGINE_FILE, KERNELS, WRAPPER, code, describe, require_fit
from strop_job.backends.base import Arithmetic, Arrays, Compilation, Inspection, Session
from strop_job.errors import InvalidInput, StropError, Unsupported
from strop_job.hardware import this_machine
from strop_job.models.exporter import PASSED_ON, TIMEOUT_SECONDS, environment_in, run_child
from strop_job.models.program_files import has_half, is_quantized, read_signature
from strop_job.models.signature import Signature
from strop_job.models.torch_programs import arrays, eager, quiet, tensor
from strop_job.stages import Artifact, ArtifactKind, Report

CHILD = (sys.executable, "-P", "-s", "-m", "strop_job.backends.aoti.child")
COMPILER_VARIABLES = ("CXX", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
INSPECT_SECONDS = 600
HALF_ISA = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Instruction sets that multiply in bf16; without them a library converts back and forth."""


class InductorSession:
    """A loaded package or program. Threads are the process's: they are set before every call."""

    def __init__(self, signature: Signature, threads: int, call: Callable[[Arrays], list[NDArray[Any]]]) -> None:
        self._signature, self._threads = signature, threads
        self._call: Callable[[Arrays], list[NDArray[Any]]] | None = call

    @property
    def inputs(self) -> Mapping[str, np.dtype[Any]]:
        """Element type of every input, by its name."""
        return {i.name: np.dtype(i.dtype) for i in self._signature.inputs}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(o.name for o in self._signature.outputs)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One call. Raises InvalidInput when names, types or shapes do not fit the model."""
        if self._call is None:
            raise ValueError("the session is closed")
        self._signature.require(inputs)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        try:
            values = self._call(inputs)
        except (RuntimeError, IndexError) as error:
            raise InvalidInput(
                f"the model fails on these inputs: {_words(error)}", field="spec.model.inputs"
            ) from error
        return dict(zip(self.outputs, values, strict=True))

    def close(self) -> None:
        """Frees the model; the session must not be used afterwards."""
        self._call = None


class InductorBackend:
    """Compiles in a child process, and loads what it wrote."""

    def check(self, target: Target) -> None:
        """Raises Unsupported when the target needs a device that torch does not see here."""
        if target.accelerator is not None and not torch.cuda.is_available():
            raise Unsupported(
                "the target needs an accelerator, and torch sees none here",
                field=f"spec.targets[{target.name}].accelerator",
                mend="run on a node with the device and its driver, or drop `accelerator` to run on the CPU",
            )

    def compile(self, work: Compilation) -> Artifact:
        """Writes `engine.pt2`: code for this very processor, for the target's number of threads."""
        self.check(work.target)
        require_compiler()
        machine = this_machine()
        _build(work.graph.entry, work.target, work.folder, work.report)
        engine = work.folder / ENGINE_FILE
        signature, built = describe(engine)
        facts: dict[str, JsonValue] = {
            "runtime": "inductor",
            "version": version("torch"),
            "sizeBytes": engine.stat().st_size,
            **signature.facts(),
            "device": built.device,
            "arch": built.arch,
            "isa": list(built.isa),
            "threads": built.threads,
            "maxAutotune": built.max_autotune,
            "nodes": dict(sorted(kernels.node_counts(code(engine, WRAPPER)).items())),
        }
        if built.device == "cpu" and has_half(work.graph.entry):
            facts["halfInHardware"] = bool(HALF_ISA & set(machine.isa))
        work.report(1.0, "engine written")
        return Artifact(ArtifactKind.ENGINE, work.folder, (ENGINE_FILE,), facts)

    def open(
        self, engine: Artifact, target: Target, *, threads: int, optimized: bool = True, spinning: bool = True
    ) -> Session:
        """An engine is loaded; a program runs operator by operator, or is compiled into a folder that goes again.

        `spinning` changes nothing: sessions of one process share its threads, whose waiting OMP_WAIT_POLICY decides.
        """
        self.check(target)
        if engine.kind is ArtifactKind.ENGINE:
            signature, call = load_engine(engine.entry)
        elif not optimized:
            signature, call = read_signature(engine.entry), eager(engine.entry)
        else:
            with TemporaryDirectory(prefix="strop-inductor-") as scratch:
                require_compiler()
                _build(engine.entry, target, Path(scratch), lambda _share, _message: None)
                signature, call = load_engine(Path(scratch) / ENGINE_FILE)
        return InductorSession(signature, threads, call)

    def inspect(self, engine: Artifact, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Inspection:
        """Runs one call in a process of its own, on zeros, and reads oneDNN's log of it."""
        nodes = kernels.node_counts(code(engine.entry, WRAPPER))
        _, built = describe(engine.entry)
        if built.device != "cpu":
            return Inspection(nodes, note="not inspected: GPU libraries do not log the types they compute with")
        with TemporaryDirectory(prefix="strop-inspect-") as scratch:
            order = {"action": "call", "engine": str(engine.entry.resolve()), "shapes": dict(shapes)}
            try:
                _run(Path(scratch), order, lambda: None, INSPECT_SECONDS, "inspection")
            except StropError as error:
                return Inspection(nodes, note=f"not inspected: {error.message}")
            log = (Path(scratch) / "log.txt").read_text(errors="replace")
            macs = json.loads((Path(scratch) / MACS_FILE).read_text())
        generated = kernels.templates(code(engine.entry, KERNELS), code(engine.entry, WRAPPER))
        layers, note = kernels.layers_of(built.layers, macs, kernels.executed(log), generated)
        return Inspection(nodes, layers, dict(shapes), note)

    def arithmetic(self, graph: Artifact) -> Arithmetic:
        """Read from the operators and types of the file."""
        return Arithmetic(integer=is_quantized(graph.entry), half=has_half(graph.entry))


def load_engine(path: Path) -> tuple[Signature, Callable[[Arrays], list[NDArray[Any]]]]:
    """An engine's signature, and its call. Raises Unsupported, before anything is loaded, for one not made for here."""
    signature, built = describe(path)
    machine = this_machine()
    require_fit(built, torch=torch.__version__, arch=machine.arch, isa=machine.isa)
    scratch = TemporaryDirectory(prefix="strop-engine-")  # torch's own copy stays behind when a process just ends
    try:
        with zipfile.ZipFile(path) as archive, quiet():
            archive.extractall(scratch.name)
            runner = torch._inductor.aoti_load_package(scratch.name)
    except (RuntimeError, OSError, zipfile.BadZipFile) as error:
        scratch.cleanup()
        raise InvalidInput(
            f"{path.name} cannot be loaded: {_words(error)}", field="spec.model", mend="compile it again"
        ) from error
    if built.device == "cpu":
        scratch.cleanup()  # the library is mapped
    else:
        atexit.register(scratch.cleanup)  # a GPU's kernels are read when they first run

    def call(inputs: Arrays) -> list[NDArray[Any]]:
        with torch.inference_mode():
            return arrays(runner(**{i.name: tensor(inputs[i.name]).to(built.device) for i in signature.inputs}))

    return signature, call


def require_compiler() -> str:
    """The C++ compiler that Inductor will call. Raises Unsupported, naming it, where it is not installed."""
    name = os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        raise Unsupported(
            f"Inductor needs a C++ compiler to build an engine, and there is no `{name}` here",
            field="spec.worker.image",
            mend="use the worker image for Inductor, or install g++ in yours",
        )
    return name


def options_of(target: Target) -> InductorOptions:
    """The target's options, defaults where it has none."""
    return target.inductor or InductorOptions()


def _build(program: Path, target: Target, folder: Path, report: Report) -> None:
    """`engine.pt2` in the folder, and nothing else of the compiler."""
    work = folder / "work"
    work.mkdir()
    order = {
        "action": "compile",
        "program": str(program.resolve()),
        "threads": this_machine().threads_for(target),
        "maxAutotune": options_of(target).max_autotune,
        "device": "cuda" if target.accelerator else "cpu",
    }
    _run(work, order, lambda: report(0.1, "compiling with Inductor"), TIMEOUT_SECONDS, "compilation")
    (work / ENGINE_FILE).rename(folder / ENGINE_FILE)
    shutil.rmtree(work)


def _run(folder: Path, order: Mapping[str, object], waiting: Callable[[], None], seconds: float, what: str) -> None:
    environment = environment_in(folder, (*PASSED_ON, *COMPILER_VARIABLES))
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": str(order.get("threads", 1))}
    environment |= {"AOTI_RUNTIME_CHECK_INPUTS": "1"} if order["action"] == "compile" else {}
    run_child(CHILD, folder, order, environment, what=what, waiting=waiting, timeout_seconds=seconds)


def _words(error: BaseException) -> str:
    """The first line of torch's message, without paths and stacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = " ".join(lines[:2]) if lines else type(error).__name__
    return " ".join(word for word in words.split() if not word.startswith("/"))[:300]
