"""GPU memory through pycuda and cuda-bindings, on stand-ins for these libraries that copy between numpy arrays.

The names that the stand-ins have are those of the real libraries; `test_names_exist_in_the_real_cuda_bindings` checks
it for the one that installs without a GPU.
"""

from __future__ import annotations

import ast
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cunet_deploy.errors import ArtifactError, CunetError, MissingDependencyError
from cunet_deploy.tensorrt import cuda as library
from cunet_deploy.tensorrt.cuda import Cuda, CudaBindings, PyCuda, open_cuda


class Status(IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815


class FakeRuntime(ModuleType):
    """``cuda.bindings.runtime``: every function gives a status and perhaps a value."""

    cudaHostAllocDefault = 0  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815
    cudaDeviceAttr = SimpleNamespace(  # noqa: N815
        cudaDevAttrComputeCapabilityMajor=75, cudaDevAttrComputeCapabilityMinor=76
    )

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.devices: tuple[int, ...] = (Status.cudaSuccess, 1)
        self.held: dict[int, Any] = {}
        self.captured: list[Callable[[], None]] | None = None

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)
        if name in ("cudaMalloc", "cudaHostAlloc"):
            return self._allocate
        if name in ("cudaFree", "cudaFreeHost", "cudaGraphExecDestroy", "cudaStreamDestroy"):
            return self._free
        return getattr(self, f"_{name}", lambda *arguments: (Status.cudaSuccess,))

    def _cudaGetDeviceCount(self) -> tuple[int, ...]:  # noqa: N802
        return self.devices

    def _cudaGetErrorString(self, status: Status) -> tuple[int, bytes]:  # noqa: N802
        return Status.cudaSuccess, status.name.encode()

    def _cudaDeviceGetAttribute(self, attribute: int, device: int) -> tuple[int, int]:  # noqa: N802
        return Status.cudaSuccess, {75: 8, 76: 7}[attribute]

    def _cudaStreamCreate(self) -> tuple[int, int]:  # noqa: N802
        self.held[4711] = "stream"
        return Status.cudaSuccess, 4711

    def _allocate(self, size: int, flags: int = 0) -> tuple[int, ...]:
        if size > 1 << 30:
            return (Status.cudaErrorMemoryAllocation, 0)
        memory = (ctypes.c_uint8 * size)()
        self.held[ctypes.addressof(memory)] = memory
        return Status.cudaSuccess, ctypes.addressof(memory)

    def _free(self, item: int) -> tuple[int]:
        del self.held[item]
        return (Status.cudaSuccess,)

    def _cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:  # noqa: N802
        assert stream == 4711

        def copy() -> None:
            ctypes.memmove(to, source, size)

        copy() if self.captured is None else self.captured.append(copy)
        return (Status.cudaSuccess,)

    def _cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:  # noqa: N802
        self.captured = []
        return (Status.cudaSuccess,)

    def _cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:  # noqa: N802
        graph, self.captured = self.captured, None
        return Status.cudaSuccess, graph

    def _cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, int]:  # noqa: N802
        key = 100 + len(self.held)
        self.held[key] = graph
        return Status.cudaSuccess, key

    def _cudaGraphLaunch(self, executable: int, stream: int) -> tuple[int]:  # noqa: N802
        for copy in self.held[executable]:
            copy()
        return (Status.cudaSuccess,)


class FakeDriver(ModuleType):
    """``pycuda.driver``: it insists on a context that is current, and on pops that match the pushes."""

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001
        pass

    def __init__(self, devices: int = 1) -> None:
        super().__init__("pycuda.driver")
        self.devices, self.depth, self.detached = devices, 0, False
        self.live: dict[int, np.ndarray] = {}

    def init(self) -> None:
        if not self.devices:
            raise self.Error("cuInit failed: no CUDA-capable device is detected")

    def Device(self, number: int) -> Any:  # noqa: N802
        assert number == 0
        return SimpleNamespace(
            retain_primary_context=lambda: SimpleNamespace(push=self._push, pop=self._pop, detach=self._detach),
            compute_capability=lambda: (8, 7),
        )

    def Stream(self) -> Any:  # noqa: N802
        assert self.depth
        return SimpleNamespace(handle=4711, synchronize=lambda: None)

    def mem_alloc(self, size: int) -> Any:
        assert self.depth
        if size > 1 << 30:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        array = np.zeros(size, np.uint8)
        self.live[array.ctypes.data] = array

        class Allocation:
            def __int__(self) -> int:
                return int(array.ctypes.data)

            def free(self_) -> None:  # noqa: N805
                del self.live[array.ctypes.data]

        return Allocation()

    def pagelocked_empty(self, shape: int, dtype: Any) -> np.ndarray:
        assert self.depth
        return np.empty(shape, dtype)

    def memcpy_htod_async(self, dest: int, src: np.ndarray, stream: Any) -> None:
        self.live[dest][: src.nbytes] = src

    def memcpy_dtoh_async(self, dest: np.ndarray, src: int, stream: Any) -> None:
        dest[:] = self.live[src][: dest.nbytes]

    def _push(self) -> None:
        self.depth += 1

    def _pop(self) -> None:
        self.depth -= 1

    def _detach(self) -> None:
        assert self.depth == 0
        assert not self.live
        self.detached = True


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake, package = FakeRuntime(), ModuleType("cuda.bindings")
    package.__version__ = "12.6.0"  # type: ignore[attr-defined]
    for name, module in {"cuda": ModuleType("cuda"), "cuda.bindings": package, "cuda.bindings.runtime": fake}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(library, "_check_driver", lambda: None)
    return fake


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake, package = FakeDriver(), ModuleType("pycuda")
    package.VERSION_TEXT = "2024.1"  # type: ignore[attr-defined]
    for name, module in {"pycuda": package, "pycuda.driver": fake}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(library, "_check_driver", lambda: None)
    return fake


def _round_trip(cuda: Cuda) -> None:
    with cuda.current():
        pointer, host, back = cuda.allocate(8), cuda.pinned(8), cuda.pinned(8)
        host[:] = np.arange(8)
        cuda.upload(pointer, host[:6])
        cuda.download(back[:6], pointer)
        cuda.synchronize()
        np.testing.assert_array_equal(back[:6], np.arange(6))


def test_pycuda_moves_bytes_and_releases_all(driver: FakeDriver) -> None:
    cuda = open_cuda()
    assert isinstance(cuda, PyCuda)
    assert (cuda.name, cuda.compute_capability, cuda.stream) == ("pycuda 2024.1", 87, 4711)
    _round_trip(cuda)
    assert driver.depth == 0
    cuda.close()
    assert driver.detached


def test_cuda_bindings_are_used_where_pycuda_is_not_installed(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    cuda = open_cuda()
    assert isinstance(cuda, CudaBindings)
    assert (cuda.name, cuda.compute_capability, cuda.stream) == ("cuda-bindings 12.6.0", 87, 4711)
    _round_trip(cuda)
    cuda.close()
    assert runtime.held == {}


def test_graphs_come_from_cuda_bindings_even_beside_pycuda(driver: FakeDriver, runtime: FakeRuntime) -> None:
    assert isinstance(open_cuda(), PyCuda)
    assert isinstance(open_cuda(graphs=True), CudaBindings)


def test_a_graph_replays_what_was_recorded_and_the_next_one_replaces_it(runtime: FakeRuntime) -> None:
    cuda = CudaBindings()
    with cuda.current():
        pointer, host, back = cuda.allocate(4), cuda.pinned(4), cuda.pinned(4)
        back[:] = 0

        def work() -> None:
            cuda.upload(pointer, host)
            cuda.download(back, pointer)

        host[:] = 1
        cuda.record(work)
        replay = cuda.record(work)
        np.testing.assert_array_equal(back, 0)
        for value in (2, 3):
            host[:] = value
            replay()
            np.testing.assert_array_equal(back, value)
    cuda.close()
    assert runtime.held == {}


def test_a_recording_that_fails_leaves_the_stream_usable(runtime: FakeRuntime) -> None:
    cuda = CudaBindings()

    def work() -> None:
        raise CunetError("TensorRT failed")

    with pytest.raises(CunetError, match="TensorRT failed"):
        cuda.record(work)
    assert runtime.captured is None


def test_pycuda_records_no_graphs(driver: FakeDriver) -> None:
    with pytest.raises(MissingDependencyError, match="pip install cuda-bindings"):
        PyCuda().record(lambda: None)


def test_too_little_memory_is_one_error(driver: FakeDriver, runtime: FakeRuntime) -> None:
    for cuda in (PyCuda(), CudaBindings()):
        with pytest.raises(CunetError, match=r"memory|Memory"), cuda.current():
            cuda.allocate(1 << 40)
    assert driver.depth == 0


def test_a_machine_without_a_device_is_one_error(driver: FakeDriver, runtime: FakeRuntime) -> None:
    driver.devices = 0
    with pytest.raises(ArtifactError, match=r"no NVIDIA GPU or driver is usable here \(cuInit failed"):
        PyCuda()
    for found in ((Status.cudaErrorInsufficientDriver, 0), (Status.cudaSuccess, 0)):
        runtime.devices = found
        with pytest.raises(ArtifactError, match="no NVIDIA GPU or driver is usable here"):
            CudaBindings()


def test_without_either_library_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_check_driver", lambda: None)
    for name in ("pycuda", "cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'cunet-deploy\[tensorrt\]'"):
        open_cuda()
    with pytest.raises(MissingDependencyError, match="pip install cuda-bindings"):
        open_cuda(graphs=True)


def test_without_a_driver_that_is_said_before_any_library_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ArtifactError, match=r"no NVIDIA GPU or driver is usable here \(libcuda\.so\.1: cannot open"):
        open_cuda()


def _used_names() -> list[str]:
    """Names of ``cuda.bindings.runtime`` that `CudaBindings` uses, from its source."""
    tree = ast.parse(Path(library.__file__).read_text(encoding="utf-8"))
    (body,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "CudaBindings")
    names = {node.value for node in ast.walk(body) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names |= {node.attr for node in ast.walk(body) if isinstance(node, ast.Attribute)}
    functions = {name for name in names if name.startswith("cuda") and name.isidentifier()}
    parents = {"cudaMemcpy": "cudaMemcpyKind", "cudaDevAttr": "cudaDeviceAttr"}
    parents["cudaStreamCaptureModeT"] = "cudaStreamCaptureMode"
    dotted = set()
    for name in functions - {"cudaMemcpyAsync"}:
        parent = next((owner for start, owner in parents.items() if name.startswith(start) and name != owner), "")
        dotted.add(f"{parent}.{name}".lstrip("."))
    return sorted(dotted | {"cudaMemcpyAsync"})


@pytest.mark.slow
def test_names_exist_in_the_real_cuda_bindings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]
    packages = ["cuda-bindings", "cuda-pathfinder"]
    result = subprocess.run([*command, str(tmp_path), *packages], capture_output=True, text=True, timeout=300)
    if result.returncode:
        reason = f"cuda-bindings cannot be installed: {result.stderr.strip()[-300:]}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    code = (
        "import json, sys, operator; from cuda.bindings import runtime\n"
        "names = json.loads(sys.stdin.read())\n"
        "for name in names: operator.attrgetter(name)(runtime)\n"
        "print(len(names))"
    )
    names = _used_names()
    assert {"cudaGraphInstantiate", "cudaMemcpyKind.cudaMemcpyHostToDevice", "cudaFreeHost"} <= set(names)
    probe = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert probe.returncode == 0, probe.stderr
    assert int(probe.stdout) == len(names) > 15
