"""A TensorRT that computes with ONNX Runtime, and CUDA memory that is numpy: to test engines without a GPU.

It has only names that NVIDIA's bindings have, which `tests/engine/test_api_matrix.py` checks in the real ones. It is
as strict as the real library about the order of calls, and notes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort

from cunet_deploy._files import file_sha256
from cunet_deploy.manifest import METADATA_KEY
from cunet_deploy.tensorrt.sidecar import EngineManifest

MAGIC = b"fake engine\n"
VERSION = "10.3.0"


class FakeCuda:
    """`cunet_deploy.tensorrt.cuda.Cuda` on numpy. Work is queued and done when waited for, as on a GPU."""

    compute_capability = 87
    stream = 4711
    name = "fake 1.0"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, np.ndarray] = {}
        self.host: list[np.ndarray] = []
        self.queue: list[Callable[[], None]] = []
        self.depth = 0
        self.open = True

    @contextmanager
    def current(self) -> Iterator[None]:
        assert self.open
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def allocate(self, size: int) -> int:
        self._used("allocate")
        array = np.full(size, 255, np.uint8)
        self.memory[array.ctypes.data] = array
        return array.ctypes.data

    def pinned(self, size: int) -> np.ndarray:
        self._used("pinned")
        self.host.append(np.full(size, 255, np.uint8))
        return self.host[-1]

    def upload(self, pointer: int, host: np.ndarray) -> None:
        self._used("upload")
        self.add(lambda: self._copy(self.at(pointer, host.nbytes), host))

    def download(self, host: np.ndarray, pointer: int) -> None:
        self._used("download")
        self.add(lambda: self._copy(host, self.at(pointer, host.nbytes)))

    def synchronize(self) -> None:
        self._used("synchronize")
        while self.queue:
            self.queue.pop(0)()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self._used("record")
        assert not self.queue, "recorded with work under way"
        work()
        recorded, self.queue = self.queue, []

        def replay() -> None:
            self._used("replay")
            self.queue.extend(recorded)

        return replay

    def close(self) -> None:
        assert self.depth == 0
        self.open = False
        self.memory.clear()
        self.calls.append("close")

    def add(self, step: Callable[[], None]) -> None:
        self.queue.append(step)

    def at(self, pointer: int, size: int) -> np.ndarray:
        """Device memory at an address; more bytes than were allocated are an error."""
        whole = self.memory[pointer]
        assert size <= whole.nbytes, f"{size} bytes of {whole.nbytes}"
        return whole[:size]

    def _copy(self, to: np.ndarray, source: np.ndarray) -> None:
        assert any(np.shares_memory(array, pinned) for array in (to, source) for pinned in self.host), "not pinned"
        np.copyto(to, source)

    def _used(self, name: str) -> None:
        assert self.open, f"{name} after close"
        assert self.depth, f"{name} while the GPU is not current"
        self.calls.append(name)


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    UINT8 = 5


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        pass

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        raise NotImplementedError


class Runtime:
    """Of one GPU; see `make_module`."""

    _cuda: FakeCuda

    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._logger = logger

    @property
    def engine_host_code_allowed(self) -> bool:
        return False

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, value: bool) -> None:
        raise AssertionError("code for the host must never be allowed")

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        try:
            assert serialized_engine.startswith(MAGIC)
            table = json.loads(serialized_engine[len(MAGIC) :])
        except (AssertionError, ValueError):
            self._logger.log(ILogger.Severity.ERROR, "Serialization assertion failed.\n  Magic tag does not match")
            return None
        return ICudaEngine(table, self._logger, self._cuda)


class ICudaEngine:
    def __init__(self, table: dict[str, Any], logger: ILogger, cuda: FakeCuda) -> None:
        self._table, self._logger, self._cuda = table, logger, cuda
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(table["onnx"], options, providers=["CPUExecutionProvider"])
        self._tensors: list[dict[str, Any]] = table["tensors"]

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(self._tensors[index]["name"])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self._tensor(name)["mode"]]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._tensor(name)["type"]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensor(name)["shape"])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert self._tensor(name)["mode"] == "INPUT"
        rest = self._tensor(name)["shape"][1:]
        return [(batch, *rest) for batch in self._table["profiles"][profile_index]]

    def create_execution_context(self) -> IExecutionContext | None:
        return None if self._table.get("no_context") else IExecutionContext(self)

    def _tensor(self, name: str) -> dict[str, Any]:
        return next(tensor for tensor in self._tensors if tensor["name"] == name)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine, self._cuda = engine, engine._cuda
        self._addresses: dict[str, int] = {}
        self._shape = engine.get_tensor_shape("image")

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._cuda.calls.append(f"set_tensor_address {name}")
        self._addresses[name] = memory
        return memory in self._cuda.memory

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._cuda.calls.append(f"set_input_shape {shape[0]}")
        smallest, _, largest = self._engine._table["profiles"][0]
        if not smallest <= shape[0] <= largest:
            self._engine._logger.log(ILogger.Severity.ERROR, "satisfyProfile Runtime dimension does not satisfy")
            return False
        self._shape = shape
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._cuda.calls.append("execute_async_v3")
        assert stream_handle == self._cuda.stream
        if min(self._shape) < 0 or set(self._addresses) != {"image", "heatmaps"} or self._engine._table.get("fails"):
            self._engine._logger.log(ILogger.Severity.ERROR, "enqueueV3: an\nillegal memory access")
            return False
        shape, addresses = self._shape, dict(self._addresses)
        self._cuda.add(lambda: self._compute(shape, addresses))
        return True

    def _compute(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
        images = self._cuda.at(addresses["image"], int(np.prod(shape))).reshape(shape)
        (maps,) = self._engine._session.run(None, {"image": images})
        kind = np.float16 if self._engine.get_tensor_dtype("heatmaps") is DataType.HALF else np.float32
        given = maps.astype(kind)
        np.copyto(self._cuda.at(addresses["heatmaps"], given.nbytes).view(kind), given.ravel())


def make_module(cuda: FakeCuda, name: str = "tensorrt", version: str = VERSION) -> ModuleType:
    """A module like ``tensorrt``; its engines compute in the memory of ``cuda``."""
    module = ModuleType(name)
    vars(module).update(
        __version__=version,
        DataType=DataType,
        TensorIOMode=TensorIOMode,
        ILogger=ILogger,
        Runtime=type("Runtime", (Runtime,), {"_cuda": cuda}),
        ICudaEngine=ICudaEngine,
        IExecutionContext=IExecutionContext,
    )
    return module


def write_engine(onnx: Path, engine: Path, *, batches: tuple[int, int, int] | int = (1, 2, 4), **changes: Any) -> Path:
    """An engine of an ONNX file, with its description.

    Args:
        onnx: the network, with a manifest.
        engine: the file to write.
        batches: smallest, usual and largest, or the one that is fixed.
        **changes: to the engine (``type``, ``shape``, ``no_context``, ``fails``, ``extra``) or to its description.
    """
    session = ort.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    (image,), (maps,) = session.get_inputs(), session.get_outputs()
    first = batches if isinstance(batches, int) else -1
    tensors = [
        {"name": "image", "mode": "INPUT", "type": "UINT8", "shape": [first, *image.shape[1:]]},
        {
            "name": "heatmaps",
            "mode": "OUTPUT",
            "type": changes.pop("type", "FLOAT"),
            "shape": changes.pop("shape", [first, *maps.shape[1:]]),
        },
        *changes.pop("extra", []),
    ]
    table = {"onnx": str(onnx), "tensors": tensors, "profiles": [] if isinstance(batches, int) else [batches]}
    table |= {key: changes.pop(key) for key in ("no_context", "fails") if key in changes}
    engine.write_bytes(MAGIC + json.dumps(table).encode())
    values: dict[str, Any] = {
        "manifest": json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY]),
        "engine_sha256": file_sha256(engine),
        "onnx_sha256": file_sha256(onnx),
        "flavour": "tensorrt",
        "version": VERSION,
        "compute_capabilities": (87,),
        "driver": "540.4.0",
        "cuda": "12.6",
        "profiles": (),
        "flags": ("strongly_typed",),
    }
    EngineManifest(**{**values, **changes}).write(engine, overwrite=True)
    return engine


def public_names() -> set[str]:
    """Dotted names that the fake offers: each must exist in the real bindings."""
    module = make_module(FakeCuda())
    names = set()
    for name, item in vars(module).items():
        if name.startswith("__"):
            continue
        names.add(name)
        names |= {f"{name}.{member}" for member in vars(item) if not member.startswith("_")}
    names |= {f"ILogger.Severity.{severity.name}" for severity in ILogger.Severity}
    return names
