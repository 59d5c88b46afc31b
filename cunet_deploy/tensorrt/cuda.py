"""Memory and streams of an NVIDIA GPU, through pycuda or, where it is not installed, NVIDIA's cuda-bindings.

Both work in the device's primary context, which is the one that TensorRT uses. pycuda has no stream capture, so CUDA
graphs need cuda-bindings.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import ArtifactError, CunetError, MissingDependencyError

__all__ = ["Cuda", "CudaBindings", "PyCuda", "missing", "open_cuda"]

NO_GPU = (
    "no NVIDIA GPU or driver is usable here ({reason}); `cunet-deploy doctor` shows what is; the .onnx file that the "
    "engine was built from runs on the CPU"
)


_NO_GRAPHS = "CUDA graphs need cuda-bindings; run: pip install cuda-bindings"
_NO_MEMORY = "neither pycuda nor cuda-bindings is installed; run: pip install 'cunet-deploy[tensorrt]'"


class Cuda(Protocol):
    """One GPU and one stream. Use its methods within `current`; pointers are plain integers."""

    @property
    def name(self) -> str:
        """The library, with its version."""
        ...

    @property
    def compute_capability(self) -> int:
        """Compute capability of the GPU: 87 for 8.7."""
        ...

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` that all work goes to."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU the one of this thread, within a block."""
        ...

    def allocate(self, size: int) -> int:
        """Device memory of ``size`` bytes, until `close`."""
        ...

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Page-locked host memory of ``size`` bytes, until `close`: copies to and from it do not wait."""
        ...

    def upload(self, pointer: int, host: NDArray[np.uint8]) -> None:
        """Queue a copy of pinned bytes to the device."""
        ...

    def download(self, host: NDArray[np.uint8], pointer: int) -> None:
        """Queue a copy from the device to pinned bytes."""
        ...

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` queues as a CUDA graph, without running it; the result queues the graph.

        It replaces the graph that was recorded before.
        """
        ...

    def close(self) -> None:
        """Release everything."""
        ...


def open_cuda(*, graphs: bool = False) -> Cuda:
    """The first GPU.

    Args:
        graphs: whether CUDA graphs are needed, which pycuda cannot record.

    Raises:
        MissingDependencyError: neither library is installed.
        ArtifactError: there is no GPU or no driver.
    """
    _check_driver()
    if not graphs:
        try:
            return PyCuda()
        except ModuleNotFoundError:
            pass  # the other library does it as well
    try:
        return CudaBindings()
    except ModuleNotFoundError as error:
        raise MissingDependencyError(_NO_GRAPHS if graphs else _NO_MEMORY) from error


def missing(*, graphs: bool = False) -> str:
    """Say what has to be installed before `open_cuda` works, in one line; empty if nothing."""
    if _is_installed("cuda.bindings") or (not graphs and _is_installed("pycuda")):
        return ""
    return _NO_GRAPHS if graphs else _NO_MEMORY


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def _check_driver() -> None:
    """Without a driver no library helps, so that is said before one is asked for."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        raise ArtifactError(NO_GPU.format(reason=error)) from error


class PyCuda:
    """`Cuda` through pycuda."""

    def __init__(self) -> None:
        """Open the first GPU.

        Raises:
            ModuleNotFoundError: pycuda is not installed.
            ArtifactError: there is no GPU or no driver.
        """
        importlib.import_module("pycuda")
        try:
            driver: Any = importlib.import_module("pycuda.driver")  # needs libcuda.so.1
        except ImportError as error:
            raise ArtifactError(NO_GPU.format(reason=error)) from error
        self._driver = driver
        try:
            driver.init()
            device = driver.Device(0)
            self._context = device.retain_primary_context()
            with self.current():
                self._stream = driver.Stream()
        except driver.Error as error:
            raise ArtifactError(NO_GPU.format(reason=error)) from error
        self._capability = tuple(device.compute_capability())
        self._memory: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """The library, with its version."""
        return f"pycuda {importlib.import_module('pycuda').VERSION_TEXT}"

    @property
    def compute_capability(self) -> int:
        """Compute capability of the GPU: 87 for 8.7."""
        return int(self._capability[0] * 10 + self._capability[1])

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` that all work goes to."""
        return int(self._stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU the one of this thread, within a block; its errors become `CunetError`."""
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            hint = "use a smaller batch or stop other programs" if isinstance(error, self._driver.MemoryError) else ""
            raise CunetError(f"the GPU failed: {error}{'; ' * bool(hint)}{hint}") from error
        finally:
            self._context.pop()

    def allocate(self, size: int) -> int:
        """Device memory of ``size`` bytes, until `close`."""
        memory = self._driver.mem_alloc(size)
        self._memory[int(memory)] = memory
        return int(memory)

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Page-locked host memory of ``size`` bytes, as long as the array lives."""
        array: NDArray[np.uint8] = self._driver.pagelocked_empty(size, np.uint8)
        return array

    def upload(self, pointer: int, host: NDArray[np.uint8]) -> None:
        """Queue a copy of pinned bytes to the device."""
        self._driver.memcpy_htod_async(pointer, host, self._stream)

    def download(self, host: NDArray[np.uint8], pointer: int) -> None:
        """Queue a copy from the device to pinned bytes."""
        self._driver.memcpy_dtoh_async(host, pointer, self._stream)

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""
        self._stream.synchronize()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Not possible: pycuda has no stream capture.

        Raises:
            MissingDependencyError: always.
        """
        raise MissingDependencyError("pycuda cannot record CUDA graphs; run: pip install cuda-bindings")

    def close(self) -> None:
        """Release everything; the primary context stays as long as others use it."""
        with self.current():
            for memory in self._memory.values():
                memory.free()
            self._memory.clear()
            self._stream = None
        self._context.detach()


class CudaBindings:
    """`Cuda` through NVIDIA's cuda-bindings."""

    def __init__(self) -> None:
        """Open the first GPU.

        Raises:
            ModuleNotFoundError: cuda-bindings is not installed.
            ArtifactError: there is no GPU or no driver.
        """
        self._runtime: Any = importlib.import_module("cuda.bindings.runtime")
        attribute = self._runtime.cudaDeviceAttr
        try:
            if self._call("cudaGetDeviceCount") < 1:
                raise ArtifactError(NO_GPU.format(reason="the driver counts no device"))
            self._call("cudaSetDevice", 0)
            self._major = int(self._call("cudaDeviceGetAttribute", attribute.cudaDevAttrComputeCapabilityMajor, 0))
            self._minor = int(self._call("cudaDeviceGetAttribute", attribute.cudaDevAttrComputeCapabilityMinor, 0))
            self._stream = self._call("cudaStreamCreate")
        except (CunetError, RuntimeError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(NO_GPU.format(reason=error)) from error
        self._memory: list[int] = []
        self._pinned: list[int] = []
        self._graph: Any = None

    @property
    def name(self) -> str:
        """The library, with its version."""
        return f"cuda-bindings {importlib.import_module('cuda.bindings').__version__}"

    @property
    def compute_capability(self) -> int:
        """Compute capability of the GPU: 87 for 8.7."""
        return self._major * 10 + self._minor

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` that all work goes to."""
        return int(self._stream)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU the one of this thread, within a block."""
        self._call("cudaSetDevice", 0)
        yield

    def allocate(self, size: int) -> int:
        """Device memory of ``size`` bytes, until `close`."""
        pointer = int(self._call("cudaMalloc", size))
        self._memory.append(pointer)
        return pointer

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Page-locked host memory of ``size`` bytes, until `close`."""
        pointer = int(self._call("cudaHostAlloc", size, self._runtime.cudaHostAllocDefault))
        self._pinned.append(pointer)
        return _as_array(pointer, size)

    def upload(self, pointer: int, host: NDArray[np.uint8]) -> None:
        """Queue a copy of pinned bytes to the device."""
        self._copy(pointer, host.ctypes.data, host.nbytes, "cudaMemcpyHostToDevice")

    def download(self, host: NDArray[np.uint8], pointer: int) -> None:
        """Queue a copy from the device to pinned bytes."""
        self._copy(host.ctypes.data, pointer, host.nbytes, "cudaMemcpyDeviceToHost")

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""
        self._call("cudaStreamSynchronize", self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` queues as a CUDA graph, without running it; the result queues the graph."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            self._runtime.cudaStreamEndCapture(self._stream)  # else the stream stays unusable
            raise
        graph = self._call("cudaStreamEndCapture", self._stream)
        executable = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        self._drop_graph()
        self._graph = executable
        return lambda: self._call("cudaGraphLaunch", executable, self._stream)

    def close(self) -> None:
        """Release everything."""
        self._call("cudaSetDevice", 0)
        self._drop_graph()
        for name, items in (("cudaFree", self._memory), ("cudaFreeHost", self._pinned)):
            while items:
                self._call(name, items.pop())
        self._call("cudaStreamDestroy", self._stream)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._call("cudaGraphExecDestroy", self._graph)
            self._graph = None

    def _copy(self, to: int, source: int, size: int, kind: str) -> None:
        self._call("cudaMemcpyAsync", to, source, size, getattr(self._runtime.cudaMemcpyKind, kind), self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime, which gives its status and perhaps one value."""
        status, *values = getattr(self._runtime, name)(*arguments)
        if int(status):
            text = self._runtime.cudaGetErrorString(status)[1]
            text = text.decode() if isinstance(text, bytes) else str(text)
            raise CunetError(f"{name} failed: {text} (CUDA error {int(status)})")
        return values[0] if values else None


def _as_array(pointer: int, size: int) -> NDArray[np.uint8]:
    """The bytes at an address as an array, without a copy; it does not own them."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))
