"""What a machine without a GPU lacks, at its outermost edge: calls of the CUDA runtime, and an engine on the device.

"Device" memory is the host's. The names and the number of arguments are held against NVIDIA's real bindings in
test_signatures.py.
"""

# ruff: noqa: N802, N803, N815 - the names are those of CUDA

import ctypes
from enum import IntEnum
from typing import Any

import numpy as np

W = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35


class MemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class CaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class Properties:
    name = b"NVIDIA L4"
    major, minor = 8, 9


class FakeCudart:
    """Memory, a stream that does everything at once, a clock of one millisecond a step, graphs that are recorded."""

    cudaMemcpyKind, cudaStreamCaptureMode = MemcpyKind, CaptureMode

    def __init__(self, *, devices: int = 1, memory: int = 1 << 20) -> None:
        self.devices, self.memory = devices, memory
        self.held: dict[int, Any] = {}
        self.open: set[str] = set()
        self.clock = 0
        self.capturing: list[Any] | None = None
        self.launched = 0
        self._graphs: dict[int, list[Any]] = {}

    def cudaGetDeviceCount(self) -> Any:
        return (Error.cudaSuccess, self.devices) if self.devices else (Error.cudaErrorInsufficientDriver, None)

    def cudaGetDeviceProperties(self, device: int) -> Any:
        return Error.cudaSuccess, Properties()

    def cudaMemGetInfo(self) -> Any:
        return Error.cudaSuccess, self.memory - self._used(), self.memory

    def cudaMalloc(self, size: int) -> Any:
        if self._used() + size > self.memory:
            return Error.cudaErrorMemoryAllocation, None
        raw = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(raw)] = raw
        return Error.cudaSuccess, ctypes.addressof(raw)

    def cudaMallocHost(self, size: int) -> Any:
        return self.cudaMalloc(size)

    def cudaFree(self, devPtr: int) -> Any:
        del self.held[devPtr]
        return (Error.cudaSuccess,)

    def cudaFreeHost(self, ptr: int) -> Any:
        return self.cudaFree(ptr)

    def cudaStreamCreate(self) -> Any:
        return self._made("stream", 7)

    def cudaStreamDestroy(self, stream: Any) -> Any:
        return self._gone("stream")

    def cudaStreamSynchronize(self, stream: Any) -> Any:
        return (Error.cudaSuccess,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Any) -> Any:
        self.clock += 1
        ctypes.memmove(dst, src, count)
        return (Error.cudaSuccess,)

    def cudaEventCreate(self) -> Any:
        return Error.cudaSuccess, [0]

    def cudaEventDestroy(self, event: Any) -> Any:
        return (Error.cudaSuccess,)

    def cudaEventRecord(self, event: Any, stream: Any) -> Any:
        event[0] = self.clock
        return (Error.cudaSuccess,)

    def cudaEventElapsedTime(self, start: Any, end: Any) -> Any:
        return Error.cudaSuccess, float(end[0] - start[0])

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> Any:
        self.capturing = []
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Any) -> Any:
        work, self.capturing = self.capturing or [], None
        self._graphs[len(self._graphs)] = work
        return self._made("graph", len(self._graphs) - 1)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        return self._made("exec", graph)

    def cudaGraphDestroy(self, graph: int) -> Any:
        return self._gone("graph")

    def cudaGraphExecDestroy(self, graphExec: int) -> Any:
        return self._gone("exec")

    def cudaGraphLaunch(self, graphExec: int, stream: Any) -> Any:
        self.launched += 1
        for work in self._graphs[graphExec]:
            work()
        return (Error.cudaSuccess,)

    def _used(self) -> int:
        return sum(len(raw) for raw in self.held.values())

    def _made(self, what: str, handle: int) -> Any:
        self.open.add(what)
        return Error.cudaSuccess, handle

    def _gone(self, what: str) -> Any:
        self.open.discard(what)
        return (Error.cudaSuccess,)


class FakeEngine:
    """x [batch, 4] -> y = x W [batch, 3], with a range of batches and a profile for the batch of 2 alone."""

    num_io_tensors, num_optimization_profiles = 2, 2

    def __init__(self, trt: Any, cudart: FakeCudart, *, data_dependent: bool = False) -> None:
        self._trt, self._cudart, self._data_dependent = trt, cudart, data_dependent
        self.contexts: list[FakeContext] = []

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType.FLOAT

    def get_tensor_mode(self, name: str) -> Any:
        return self._trt.TensorIOMode.INPUT if name == "x" else self._trt.TensorIOMode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
        return [(1, 4), (2, 4), (8, 4)] if profile_index == 0 else [(2, 4)] * 3

    def create_execution_context(self) -> "FakeContext":
        self.contexts.append(FakeContext(self._cudart, self._data_dependent))
        return self.contexts[-1]


class FakeContext:
    """Computes when it is told to, or records that it would."""

    def __init__(self, cudart: FakeCudart, data_dependent: bool) -> None:
        self._cudart, self._data_dependent = cudart, data_dependent
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.profile = 0
        self.executed = 0

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3) if self._data_dependent else (self.shape[0], 3)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        shape, where = self.shape, dict(self.addresses)
        if self._cudart.capturing is None:
            self._work(shape, where)
        else:
            self._cudart.capturing.append(lambda: self._work(shape, where))
        return True

    def _work(self, shape: tuple[int, ...], where: dict[str, int]) -> None:
        self.executed += 1
        self._cudart.clock += 5
        x = np.ndarray(shape, np.float32, (ctypes.c_char * (16 * shape[0])).from_address(where["x"]))
        y = np.ndarray((shape[0], 3), np.float32, (ctypes.c_char * (12 * shape[0])).from_address(where["y"]))
        y[...] = x @ W
