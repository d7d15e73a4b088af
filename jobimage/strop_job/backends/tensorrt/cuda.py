"""The few calls of the CUDA runtime that a session needs: memory, a stream, events, graphs. Nothing else makes any."""

import ctypes
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_job.backends.tensorrt.needs import Device
from strop_job.errors import OutOfMemory, StropError, Unsupported

OUT_OF_MEMORY = "cudaErrorMemoryAllocation"


def load_cuda() -> Any:
    """NVIDIA's bindings of the CUDA runtime. Raises Unsupported where they are not installed."""
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise Unsupported(
            f"the CUDA runtime cannot be called here: {error}",
            field="spec.targets[].runtime",
            mend="install cuda-bindings, or use the worker image of the runtime",
        ) from error


class Cuda:
    """The first device that this process may use. `cudart` is the module cuda.bindings.runtime."""

    def __init__(self, cudart: Any) -> None:
        self._cudart = cudart

    def ok(self, result: tuple[Any, ...]) -> Any:
        """The value of a call. Raises OutOfMemory or StropError, naming CUDA's error."""
        error, *values = result
        if int(error):
            name = str(getattr(error, "name", error))
            if name == OUT_OF_MEMORY:
                raise OutOfMemory(
                    "the device's memory does not suffice",
                    field="spec.model.dimensions",
                    mend="lower the max of the dimensions, or take a device with more memory",
                )
            raise StropError(f"CUDA failed: {name}")
        return values[0] if values else None

    def device(self) -> Device | None:
        """The device, or None where there is none or no driver."""
        cudart = self._cudart
        error, count = cudart.cudaGetDeviceCount()
        if int(error) or not count:
            return None
        seen = self.ok(cudart.cudaGetDeviceProperties(0))
        name = seen.name.decode() if isinstance(seen.name, bytes) else str(seen.name)
        return Device(name.rstrip("\0"), f"{seen.major}.{seen.minor}")

    def memory_in_use(self) -> int:
        """Bytes of the device that are taken, by whomever."""
        error, free, total = self._cudart.cudaMemGetInfo()
        self.ok((error,))
        return int(total) - int(free)

    def allocate(self, size: int) -> int:
        """Device memory; its address."""
        return int(self.ok(self._cudart.cudaMalloc(size)))

    def release(self, address: int) -> None:
        """Gives device memory back."""
        self.ok(self._cudart.cudaFree(address))

    def allocate_host(self, size: int) -> int:
        """Page-locked memory of the host, from which copies run at full speed; its address."""
        return int(self.ok(self._cudart.cudaMallocHost(size)))

    def release_host(self, address: int) -> None:
        """Gives page-locked memory back."""
        self.ok(self._cudart.cudaFreeHost(address))

    def stream(self) -> Any:
        """A new stream."""
        return self.ok(self._cudart.cudaStreamCreate())

    def release_stream(self, stream: Any) -> None:
        """Gives a stream back."""
        self.ok(self._cudart.cudaStreamDestroy(stream))

    def wait(self, stream: Any) -> None:
        """Until all work on the stream is done."""
        self.ok(self._cudart.cudaStreamSynchronize(stream))

    def copy_in(self, device: int, host: int, size: int, stream: Any) -> None:
        """Queues a copy from host to device."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.ok(self._cudart.cudaMemcpyAsync(device, host, size, kind, stream))

    def copy_out(self, host: int, device: int, size: int, stream: Any) -> None:
        """Queues a copy from device to host."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.ok(self._cudart.cudaMemcpyAsync(host, device, size, kind, stream))

    def event(self) -> Any:
        """A new event."""
        return self.ok(self._cudart.cudaEventCreate())

    def release_event(self, event: Any) -> None:
        """Gives an event back."""
        self.ok(self._cudart.cudaEventDestroy(event))

    def mark(self, event: Any, stream: Any) -> None:
        """Queues the event."""
        self.ok(self._cudart.cudaEventRecord(event, stream))

    def between_us(self, first: Any, second: Any) -> float:
        """Microseconds between two events that have passed."""
        return float(self.ok(self._cudart.cudaEventElapsedTime(first, second))) * 1000.0

    def begin_capture(self, stream: Any) -> None:
        """From here on work is recorded, not run."""
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.ok(self._cudart.cudaStreamBeginCapture(stream, mode))

    def end_capture(self, stream: Any) -> Any:
        """What was recorded, ready to be launched."""
        graph = self.ok(self._cudart.cudaStreamEndCapture(stream))
        try:
            return self.ok(self._cudart.cudaGraphInstantiate(graph, 0))
        finally:
            self.ok(self._cudart.cudaGraphDestroy(graph))

    def launch(self, graph: Any, stream: Any) -> None:
        """Queues a recorded graph."""
        self.ok(self._cudart.cudaGraphLaunch(graph, stream))

    def release_graph(self, graph: Any) -> None:
        """Gives a recorded graph back."""
        self.ok(self._cudart.cudaGraphExecDestroy(graph))


def view(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Memory of the host as an array; it is valid for as long as the memory is."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = memoryview((ctypes.c_ubyte * size).from_address(address))
    array: NDArray[Any] = np.ndarray(shape, dtype, raw)
    return array
