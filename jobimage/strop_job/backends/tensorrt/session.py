"""A loaded engine: shapes are checked against its profiles, then copied in, computed, copied out, each timed apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_job.backends.base import Arrays, CallTimes
from strop_job.backends.tensorrt.cuda import Cuda, view
from strop_job.backends.tensorrt.library import Heard
from strop_job.backends.tensorrt.network import DTYPES, dtype_name
from strop_job.backends.tensorrt.options import Profile, Range, Shape
from strop_job.errors import InvalidInput, StropError, Unsupported


@dataclass(frozen=True)
class Signature:
    """What an engine takes and gives, read from the engine."""

    inputs: Mapping[str, np.dtype[Any]]
    outputs: Mapping[str, np.dtype[Any]]
    profiles: tuple[Profile, ...]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the inputs' dimensions are called, where that is known."""

    def fitting(self, shapes: Mapping[str, Shape]) -> int:
        """The narrowest profile that serves these shapes. Raises InvalidInput naming dimension and range."""
        fits = [at for at, profile in enumerate(self.profiles) if all(profile[n].holds(s) for n, s in shapes.items())]
        if fits:
            return min(fits, key=lambda at: (_room(self.profiles[at]), at))
        for name, shape in shapes.items():
            self._refuse(name, shape)
        raise InvalidInput("no profile of the engine serves these shapes together", field="spec.model.dimensions")

    def _refuse(self, name: str, shape: Shape) -> None:
        span = self.profiles[0][name]
        if len(shape) != len(span.min):
            raise InvalidInput(
                f"input {name} has {len(shape)} dimensions, the engine takes {len(span.min)}", field="spec.model.inputs"
            )
        for at, (low, size, high) in enumerate(zip(span.min, shape, span.max, strict=True)):
            if not low <= size <= high:
                called = (self.names.get(name) or ("",) * len(shape))[at]
                raise InvalidInput(
                    f"dimension {at}{f' ({called})' if called else ''} of input {name} is {size}, the engine serves "
                    f"{low if low == high else f'{low} to {high}'}",
                    field="spec.model.dimensions",
                    mend="widen min and max there and build again, or feed other shapes",
                )

    def checked(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The inputs, contiguous. Raises InvalidInput for missing or unknown names and for other element types."""
        if set(inputs) != set(self.inputs):
            raise InvalidInput(
                f"the engine takes {', '.join(sorted(self.inputs))}, not {', '.join(sorted(inputs)) or 'nothing'}",
                field="spec.model.inputs",
                mend="name every input as the model does",
            )
        for name, array in inputs.items():
            if array.dtype != self.inputs[name]:
                raise InvalidInput(
                    f"input {name} is of type {array.dtype}, the engine takes {self.inputs[name]}",
                    field="spec.model.inputs",
                    mend="correct its dtype",
                )
        return {name: np.ascontiguousarray(inputs[name]) for name in self.inputs}


def _room(profile: Profile) -> int:
    """How many shapes a profile serves beyond one."""
    return sum(high - low for span in profile.values() for low, high in zip(span.min, span.max, strict=True))


def signature_of(trt: Any, engine: Any, names: Mapping[str, tuple[str, ...]]) -> Signature:
    """Reads an engine's inputs, outputs and profiles. Raises Unsupported for types that NumPy does not have."""
    inputs: dict[str, np.dtype[Any]] = {}
    outputs: dict[str, np.dtype[Any]] = {}
    for at in range(engine.num_io_tensors):
        name = engine.get_tensor_name(at)
        kind = dtype_name(engine.get_tensor_dtype(name))
        if kind not in DTYPES:
            raise Unsupported(f"the engine's {name} is of type {kind}", field="spec.model.uri", mend="cast it")
        where = inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs
        where[name] = np.dtype(DTYPES[kind])
    profiles = tuple(
        {name: Range(*map(tuple, engine.get_tensor_profile_shape(name, at))) for name in inputs}
        for at in range(engine.num_optimization_profiles)
    )
    return Signature(inputs, outputs, profiles, names)


class Buffer:
    """Memory on both sides for one tensor; it grows and is never moved otherwise."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._size = cuda, 0
        self.device = self.host = 0
        """Addresses; 0 before the first `hold`."""

    def hold(self, size: int) -> bool:
        """Room for `size` bytes. True when the addresses are new."""
        if self.device and size <= self._size:
            return False
        self.close()
        self._size = max(size, 1)
        self.device = self._cuda.allocate(self._size)
        self.host = self._cuda.allocate_host(self._size)
        return True

    def close(self) -> None:
        """Gives the memory back."""
        device, host = self.device, self.host
        self.device = self.host = 0
        if device:
            self._cuda.release(device)
        if host:
            self._cuda.release_host(host)


class TensorRTSession:
    """One execution context on one stream. `keep` holds what the engine needs alive: runtime and logger."""

    def __init__(self, engine: Any, signature: Signature, cuda: Cuda, heard: Heard, keep: Sequence[object]) -> None:
        self.signature, self._cuda, self._heard, self._keep = signature, cuda, heard, keep
        self._engine = engine
        self._context: Any = engine.create_execution_context()
        if self._context is None:
            raise StropError(f"the engine gives no context: {heard.why('it does not say why')}")
        self._stream = cuda.stream()
        self._marks = tuple(cuda.event() for _ in range(4))
        self._buffers = {name: Buffer(cuda) for name in (*signature.inputs, *signature.outputs)}
        self._profile = 0
        self._graphs: dict[tuple[Shape, ...], Any] = {}

    @property
    def inputs(self) -> Mapping[str, np.dtype[Any]]:
        """Element type of every input, by its name."""
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(self.signature.outputs)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One call. Raises InvalidInput when names, types or shapes do not fit the engine."""
        return self.run_timed(inputs)[0]

    def run_timed(self, inputs: Arrays) -> tuple[dict[str, NDArray[Any]], CallTimes]:
        """One call, its copies timed apart. What the host copies to and from page-locked memory is not in them."""
        arrays = self._given(inputs)
        shapes = self._prepare(arrays)
        stream, marks, cuda = self._stream, self._marks, self._cuda
        cuda.mark(marks[0], stream)
        for name, array in arrays.items():
            cuda.copy_in(self._buffers[name].device, self._buffers[name].host, array.nbytes, stream)
        cuda.mark(marks[1], stream)
        self._compute(_key(arrays))
        cuda.mark(marks[2], stream)
        for name, shape in shapes.items():
            cuda.copy_out(self._buffers[name].host, self._buffers[name].device, self._bytes(name, shape), stream)
        cuda.mark(marks[3], stream)
        cuda.wait(stream)
        outputs = {n: view(self._buffers[n].host, s, self.signature.outputs[n]).copy() for n, s in shapes.items()}
        took = [cuda.between_us(marks[at], marks[at + 1]) for at in range(3)]
        return outputs, CallTimes(took[0], took[1], took[2], cuda_graph=_key(arrays) in self._graphs)

    def capture(self, inputs: Arrays) -> None:
        """Records a CUDA graph for the shapes of these inputs; later calls with the same shapes launch it.

        Raises Unsupported when the engine cannot be recorded, because it waits for the host inside, say.
        """
        arrays = self._given(inputs)
        self.run(arrays)  # a context finishes its own preparations in the first call, which cannot be recorded
        self._cuda.begin_capture(self._stream)
        ran = self._context.execute_async_v3(self._stream_handle)
        try:
            graph = self._cuda.end_capture(self._stream)
        except StropError as error:
            raise Unsupported(f"the engine cannot run as a CUDA graph: {error.message}") from error
        if not ran:
            self._cuda.release_graph(graph)
            raise Unsupported(f"the engine cannot run as a CUDA graph: {self._heard.why('it does not say why')}")
        if (former := self._graphs.get(_key(arrays))) is not None:
            self._cuda.release_graph(former)
        self._graphs[_key(arrays)] = graph

    @property
    def captured(self) -> int:
        """How many shapes run as CUDA graphs."""
        return len(self._graphs)

    def inspector(self, shapes: Mapping[str, Shape]) -> Any:
        """The engine's inspector, with a context at the given input shapes."""
        self._choose(shapes)
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        return inspector

    def close(self) -> None:
        """Frees the engine and its memory; the session must not be used afterwards."""
        if self._context is None:
            return
        self._cuda.wait(self._stream)
        self._forget_graphs()
        for buffer in self._buffers.values():
            buffer.close()
        for mark in self._marks:
            self._cuda.release_event(mark)
        self._context = self._engine = None
        self._cuda.release_stream(self._stream)
        self._keep = ()

    @property
    def _stream_handle(self) -> int:
        return int(self._stream)

    def _given(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        if self._context is None:
            raise ValueError("the session is closed")
        return self.signature.checked(inputs)

    def _compute(self, key: tuple[Shape, ...]) -> None:
        graph = self._graphs.get(key)
        if graph is not None:
            self._cuda.launch(graph, self._stream)
        elif not self._context.execute_async_v3(self._stream_handle):
            raise StropError(f"the engine failed: {self._heard.why('it does not say why')}")

    def _prepare(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Shape]:
        """Sets profile, shapes and addresses, fills the host's side. Returns the outputs' shapes."""
        self._choose({name: array.shape for name, array in arrays.items()})
        shapes = self._output_shapes()
        moved = False
        for name, array in arrays.items():
            moved |= self._buffers[name].hold(array.nbytes)
            view(self._buffers[name].host, array.shape, array.dtype)[...] = array
        for name, shape in shapes.items():
            moved |= self._buffers[name].hold(self._bytes(name, shape))
        if moved:
            self._forget_graphs()  # they know the addresses of before
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.device)
        return shapes

    def _choose(self, shapes: Mapping[str, Shape]) -> None:
        context, profile = self._context, self.signature.fitting(shapes)
        if profile != self._profile:
            if not context.set_optimization_profile_async(profile, self._stream_handle):
                raise StropError(f"the engine does not take profile {profile}: {self._heard.why('no reason given')}")
            self._cuda.wait(self._stream)
            self._profile = profile
        for name, shape in shapes.items():
            if not context.set_input_shape(name, tuple(shape)):
                raise InvalidInput(
                    f"the engine refuses {list(shape)} for {name}: {self._heard.why('no reason given')}",
                    field="spec.model.dimensions",
                )

    def _output_shapes(self) -> dict[str, Shape]:
        self._context.infer_shapes()
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self.signature.outputs}
        for name, shape in shapes.items():
            if min(shape, default=0) < 0:
                raise Unsupported(
                    f"the shape of output {name} depends on the data ({list(shape)}); such outputs are not served",
                    field="spec.model.uri",
                    mend="export the model with outputs whose shape follows from the inputs' shapes",
                )
        return shapes

    def _bytes(self, name: str, shape: Shape) -> int:
        return int(np.prod(shape, dtype=np.int64)) * self.signature.outputs[name].itemsize

    def _forget_graphs(self) -> None:
        for graph in self._graphs.values():
            self._cuda.release_graph(graph)
        self._graphs.clear()


def _key(arrays: Mapping[str, NDArray[Any]]) -> tuple[Shape, ...]:
    return tuple(array.shape for array in arrays.values())
