"""OpenVINO on a CPU: the engine is the IR with its shapes bounded; its kernels are chosen when it is loaded."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.targets import OpenVINOOptions, PerformanceHint, Target
from strop_job.backends import openvino_graphs as graphs
from strop_job.backends.base import Arithmetic, Arrays, Compilation, Inspection, Session
from strop_job.backends.openvino_layers import layers_of
from strop_job.backends.openvino_library import core, first_line, refused, usable_precision, version
from strop_job.errors import InvalidInput, StropError, Unsupported
from strop_job.hardware import this_machine
from strop_job.stages import Artifact, ArtifactKind

ENGINE_FILE = "engine.xml"
HINTS = {PerformanceHint.LATENCY: "LATENCY", PerformanceHint.THROUGHPUT: "THROUGHPUT"}
NO_END = 1 << 62


class OpenVinoSession:
    """A compiled model and one request to it; names are those of `model`, which was compiled."""

    def __init__(self, compiled: Any, model: Any) -> None:
        self._request: Any = compiled.create_infer_request()
        self._types = {p.get_any_name(): np.dtype(p.get_element_type().to_dtype()) for p in model.inputs}
        self._ranges = {p.get_any_name(): _ranges(p.get_partial_shape()) for p in model.inputs}
        self._outputs = graphs.names(model.outputs)

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
        if self._request is None:
            raise ValueError("the session is closed")
        self._check(inputs)
        try:
            values = self._request.infer(dict(inputs), share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            raise _misfit(inputs, first_line(error)) from error
        return {name: values[at] for at, name in enumerate(self._outputs)}

    def close(self) -> None:
        """Frees the model; the session must not be used afterwards."""
        self._request = None

    def _check(self, inputs: Arrays) -> None:
        """OpenVINO converts another type, and takes a missing input from the call before, without a word."""
        if inputs.keys() != self._types.keys():
            raise _misfit(inputs, f"it takes {', '.join(sorted(self._types))}")
        for name, array in inputs.items():
            if array.dtype != self._types[name]:
                raise _misfit(inputs, f"`{name}` is {self._types[name]}")
            ranges = self._ranges[name]
            if ranges is None:
                continue
            if len(ranges) != array.ndim:
                raise _misfit(inputs, f"`{name}` has {len(ranges)} dimensions")
            if not all(low <= size <= high for (low, high), size in zip(ranges, array.shape, strict=True)):
                raise _misfit(inputs, f"`{name}` takes {_spelled(ranges)}")


class OpenVinoBackend:
    """Compiles by converting to the IR that OpenVINO loads."""

    def check(self, target: Target) -> None:
        """Raises Unsupported for a target with an accelerator: this build measures OpenVINO on CPUs alone."""
        if target.accelerator is not None:
            raise Unsupported(
                "OpenVINO runs on the CPU here, and the target asks for an accelerator",
                field=f"spec.targets[{target.name}].accelerator",
                mend="drop `accelerator`, or choose TensorRT for an NVIDIA device",
            )
        if "CPU" not in core().available_devices:
            raise Unsupported(f"OpenVINO {version()} finds no CPU it supports", field=f"spec.targets[{target.name}]")

    def compile(self, work: Compilation) -> Artifact:
        """Writes `engine.xml` and `engine.bin`, loads them, and says what they were loaded as."""
        self.check(work.target)
        work.report(0.0, "converting the graph")
        model = graphs.read(work.graph)
        graphs.bound(model, work.model)
        half = asked_half(model)
        files = graphs.write(model, work.folder / ENGINE_FILE, half=half)
        made = Artifact(ArtifactKind.ENGINE, work.folder, files)
        work.report(0.5, "loading the engine")
        threads = this_machine().threads_for(work.target)
        written = graphs.read(made)
        compiled = load(written, made, properties(work.target, threads, precision_of(written)))
        facts: dict[str, JsonValue] = {
            "runtime": "openvino",
            "version": version(),
            "sizeBytes": sum((made.folder / name).stat().st_size for name in files),
            "inputs": [_tensor(port) for port in written.inputs],
            "outputs": [_tensor(port) for port in written.outputs],
            **_facts_of(compiled, graphs.asked_precision(model)),
        }
        work.report(1.0, "engine written")
        return Artifact(ArtifactKind.ENGINE, work.folder, files, facts)

    def open(
        self, engine: Artifact, target: Target, *, threads: int, optimized: bool = True, spinning: bool = True
    ) -> Session:
        """An engine or a graph, compiled in memory; threads of OpenVINO sleep when idle, whatever `spinning` says.

        `optimized=False`: an ONNX graph is run by ONNX Runtime with its optimizations off, another implementation
        altogether; an IR in floats, each FakeQuantize as the elementary operations it stands for, without fused
        kernels. (OpenVINO has no reference of its own to offer: the TEMPLATE plugin is not in its wheels,
        `Model.evaluate` cannot compute a FakeQuantize, and with low precision transformations off the plugin still
        quantizes activations at run time.)
        """
        self.check(target)
        if not optimized and engine.kind is ArtifactKind.ONNX_GRAPH:
            from strop_job.backends.reference import open_reference

            return open_reference(engine, threads=threads, spinning=spinning)
        model = graphs.read(engine)
        settings = properties(target, threads, precision_of(model))
        if not optimized:
            graphs.in_floats(model)
            settings |= {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"}
        return OpenVinoSession(load(model, engine, settings), model)

    def inspect(self, engine: Artifact, target: Target, shapes: Mapping[str, tuple[int, ...]]) -> Inspection:
        """The kernels of the loaded engine after one call on zeros; compute from the shapes of that call."""
        model = graphs.read(engine)
        compiled = load(model, engine, properties(target, 1, precision_of(model)))
        session = OpenVinoSession(compiled, model)
        try:
            session.run({name: np.zeros(shapes[name], kind) for name, kind in session.inputs.items()})
        except (StropError, KeyError) as error:
            return Inspection({}, note=f"not inspected: a call on zeros failed: {error}")
        finally:
            session.close()
        graphs.reshape(model, dict(shapes))
        found = layers_of(compiled.get_runtime_model(), model)
        return Inspection(found.nodes, found.layers, dict(shapes), found.note, found.uncounted)

    def arithmetic(self, graph: Artifact) -> Arithmetic:
        """Read from the quantizers and the stored weights of the model."""
        return graphs.arithmetic_of(graphs.read(graph))


def options_of(target: Target) -> OpenVINOOptions:
    """The target's options, defaults where it has none."""
    return target.openvino or OpenVINOOptions()


def properties(target: Target, threads: int, precision: str) -> dict[str, Any]:
    """What every model of a target is compiled with.

    The precision is always said: left alone, the plugin computes in bf16 wherever the processor has it. Threads are not
    pinned: several containers on a node would all be pinned to its first cores. Activations that meet compressed
    weights are not rounded at run time, which is the plugin's default.
    """
    return {
        "PERFORMANCE_HINT": HINTS[options_of(target).performance_hint],
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }


def asked_half(model: Any) -> bool:
    """Whether weights are stored in 16 bits."""
    return graphs.asked_precision(model) != "f32"


def precision_of(model: Any) -> str:
    """What a model is computed with on this processor."""
    return usable_precision(graphs.asked_precision(model))


def load(model: Any, source: Artifact, settings: Mapping[str, Any]) -> Any:
    """The compiled model. Raises InvalidInput or Unsupported when OpenVINO cannot compile it."""
    try:
        return core().compile_model(model, "CPU", dict(settings))
    except RuntimeError as error:
        raise refused(source.entry, error) from error


def _facts_of(compiled: Any, asked: str) -> dict[str, JsonValue]:
    """Read back from the compiled model, not from what was asked."""
    precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    hint = str(compiled.get_property("PERFORMANCE_HINT")).rpartition(".")[2]
    return {
        "performanceHint": hint.capitalize(),
        "inferencePrecision": precision,
        "askedPrecision": asked,
        "streams": int(compiled.get_property("NUM_STREAMS")),
        "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
        "properties": {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            "ENABLE_CPU_PINNING": "NO",
        },
    }


def _ranges(shape: Any) -> tuple[tuple[int, int], ...] | None:
    """Smallest and largest size of every axis; None where even their number is open."""
    if shape.rank.is_dynamic:
        return None
    return tuple((d.get_min_length(), d.get_max_length() if d.get_max_length() >= 0 else NO_END) for d in shape)


def _spelled(ranges: tuple[tuple[int, int], ...]) -> str:
    return "[" + ", ".join(str(a) if a == b else f"{a}..{'' if b == NO_END else b}" for a, b in ranges) + "]"


def _misfit(inputs: Arrays, why: str) -> InvalidInput:
    given = ", ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in inputs.items())
    return InvalidInput(
        f"the model refuses the inputs ({given}): {why}",
        field="spec.model.inputs",
        mend="names, types and shapes there must be those of the data and of the model, sizes within `dimensions`",
    )


def _tensor(port: Any) -> dict[str, JsonValue]:
    """Name, element type and shape of an input or output; -1 where the size is dynamic."""
    shape = port.get_partial_shape()
    sizes: list[JsonValue] = [d.get_length() if d.is_static else -1 for d in shape] if shape.rank.is_static else []
    return {"name": port.get_any_name(), "dtype": np.dtype(port.get_element_type().to_dtype()).name, "shape": sizes}
