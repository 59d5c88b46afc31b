"""TensorRT engines: ``tensorrt`` 8.6 to 11 and ``tensorrt_rtx``, through the calls that all of them have.

An engine is native code for one GPU and one version. So the description beside it is checked before TensorRT sees a
byte of it: the checksum first, then flavour, version and compute capability. Code for the host inside an engine is
never allowed.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import ArtifactError, CunetError, InputError, MissingDependencyError, UntrustedError
from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions.checks import check_crops
from cunet_deploy.sessions.registry import Backend
from cunet_deploy.tensorrt import cuda as cuda_library
from cunet_deploy.tensorrt.flavour import FLAVOURS, is_installed, load
from cunet_deploy.tensorrt.log import get_logger, last_error
from cunet_deploy.tensorrt.sidecar import EngineManifest, build_command, sidecar_path

__all__ = ["TensorRTSession", "describe", "missing", "open_backend"]

_log = logging.getLogger(__name__)
_GRAPH = "graph"
"""The variant that replays CUDA graphs."""
_TYPES = {"UINT8": np.uint8, "FLOAT": np.float32, "HALF": np.float16}


def open_backend(path: Path, backend: Backend, *, threads: int | None, trust: bool) -> TensorRTSession:
    """Load an engine; see `TensorRTSession`. It uses no CPU threads."""
    return TensorRTSession(path, trust=trust, cuda_graph=backend.variant == _GRAPH)


def missing(backend: Backend) -> str:
    """Say what has to be installed; see `cunet_deploy.sessions.registry.BackendModule`."""
    if not any(map(is_installed, FLAVOURS)):
        return f"neither {' nor '.join(FLAVOURS)} is installed; run: {backend.install_line}"
    return cuda_library.missing(graphs=backend.variant == _GRAPH)


def describe(backend: Backend) -> str:
    """The library that ``auto`` takes, with its version."""
    flavour = load()
    return f"{flavour.name} {flavour.version}"


class TensorRTSession:
    """A network in TensorRT. See `cunet_deploy.sessions.base.Session`; several threads take turns.

    All memory is allocated when it opens, for the largest batch of the engine's profile: pinned on the host, and on the
    device. Larger batches run in parts; smaller ones than the profile allows are filled up.
    """

    def __init__(self, path: Path, *, trust: bool = False, cuda_graph: bool = False) -> None:
        """Load an engine.

        Args:
            path: the file; its description is ``NAME.engine.json`` beside it.
            trust: load it although its checksum differs from the described one.
            cuda_graph: replay each batch as a CUDA graph; it is recorded again whenever the batch size changes.

        Raises:
            InputError: the file cannot be read.
            UntrustedError: it is not the one that is described, or there is no description.
            ArtifactError: it is for another flavour, version or GPU, is damaged, or there is no GPU here.
            MissingDependencyError: TensorRT, or what allocates GPU memory, is not installed.
        """
        self._path = path
        self._lock = threading.Lock()
        content, described = _read(path, trust)
        self._manifest = described.model
        trt: Any = _load_flavour(path, described)
        cuda = cuda_library.open_cuda(graphs=cuda_graph)
        try:
            described.check_fits(path, described.flavour, str(trt.__version__), cuda.compute_capability)
            with cuda.current():
                self._runner: _Runner | None = _Runner(trt, content, path, self._manifest, cuda, cuda_graph)
        except BaseException:
            with suppress(CunetError):  # what went wrong first matters more
                cuda.close()
            raise
        self._backend = f"{described.flavour} {trt.__version__} SM{cuda.compute_capability}, {cuda.name}"
        if cuda_graph:
            self._backend += ", CUDA graph"

    @property
    def manifest(self) -> Manifest:
        """Manifest of the network: its input and outputs."""
        return self._manifest

    @property
    def backend(self) -> str:
        """Library with version, GPU and what moves the data."""
        return self._backend

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        check_crops(images, self._manifest)
        cells = self._manifest.map_size
        maps = np.empty((len(images), len(self._manifest.skeleton), cells, cells), np.float32)
        with self._lock:
            runner = self._runner
            if runner is None:
                raise CunetError(f"{self._path}: the session is closed; open the engine again")
            with runner.cuda.current():
                for start in range(0, len(images), runner.largest):
                    part = slice(start, start + runner.largest)
                    runner.run(images[part], maps[part])
        return maps

    def close(self) -> None:
        """Release the network and its memory."""
        with self._lock:
            runner, self._runner = self._runner, None
            if runner is not None:
                cuda = runner.cuda
                with cuda.current():
                    del runner  # the context and the engine before the memory that they work in
                cuda.close()


class _Runner:
    """An engine with its context and its memory. Use it within ``cuda.current()``, from one thread at a time."""

    def __init__(
        self, trt: Any, content: bytes, path: Path, manifest: Manifest, cuda: cuda_library.Cuda, with_graph: bool
    ) -> None:
        self.cuda = cuda
        self._path = path
        self._with_graph = with_graph
        self._runtime = trt.Runtime(get_logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise ArtifactError(
                f"{path}: {trt.__name__} {trt.__version__} cannot load it ({last_error()}); build it on this machine: "
                + build_command(path, manifest.name)
            )
        size, cells = manifest.crop.size, manifest.map_size
        items = {"image": (size, size, 3), "heatmaps": (len(manifest.skeleton), cells, cells)}
        kinds = _check_tensors(trt, self._engine, items, path)
        self._item = items["image"]
        self._smallest, self.largest, self._is_dynamic = _batches(self._engine)
        self._sizes = [math.prod(items[name]) * kinds[name].itemsize for name in items]
        self._pointers = [cuda.allocate(self.largest * size) for size in self._sizes]
        self._host_image, self._host_maps = (cuda.pinned(self.largest * size) for size in self._sizes)
        self._images = self._host_image.view(kinds["image"]).reshape(self.largest, *items["image"])
        self._maps = self._host_maps.view(kinds["heatmaps"]).reshape(self.largest, *items["heatmaps"])
        self._images[:] = 0  # what fills up a batch is a picture too
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise CunetError(f"{path}: TensorRT cannot make an execution context ({last_error()}); free GPU memory")
        for name, pointer in zip(items, self._pointers, strict=True):
            if not self._context.set_tensor_address(name, pointer):
                raise CunetError(f"{path}: TensorRT refuses the address of {name} ({last_error()}); report this")
        self._batch = 0  # that the context is set to
        self._replay: Callable[[], None] | None = None

    def run(self, images: NDArray[np.uint8], maps: NDArray[np.float32]) -> None:
        """Run (B, size, size, 3) crops, at most `largest`, into (B, K, map_size, map_size) heatmaps."""
        count = len(images)
        batch = max(count, self._smallest)
        np.copyto(self._images[:count], images)
        if self._replay is not None and batch == self._batch:
            self._replay()
        else:
            self._replay = None
            self._set_batch(batch)
            self._queue()
            if self._with_graph:
                self.cuda.synchronize()  # the first run of a shape does work of its own, which no graph may hold
                self._replay = self.cuda.record(self._queue)
        self.cuda.synchronize()
        np.copyto(maps, self._maps[:count])

    def _set_batch(self, batch: int) -> None:
        if batch == self._batch:
            return
        self._batch = 0
        if self._is_dynamic and not self._context.set_input_shape("image", (batch, *self._item)):
            raise CunetError(f"{self._path}: TensorRT refuses a batch of {batch} ({last_error()}); use another")
        self._batch = batch

    def _queue(self) -> None:
        """Queue the copy in, the network and the copy out."""
        taken, given = (self._batch * size for size in self._sizes)
        self.cuda.upload(self._pointers[0], self._host_image[:taken])
        if not self._context.execute_async_v3(self.cuda.stream):
            raise CunetError(f"{self._path}: TensorRT failed on {self._batch} crops ({last_error()})")
        self.cuda.download(self._host_maps[:given], self._pointers[1])


def _read(path: Path, trust: bool) -> tuple[bytes, EngineManifest]:
    """The engine and its description, which belong together unless ``trust`` is given."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        described = EngineManifest.read(path)
    except UntrustedError as error:
        if not trust:
            raise
        raise ArtifactError(
            f"{path}: {sidecar_path(path).name} is not beside it; it says what the landmarks are, so trust cannot "
            f"replace it; copy both files, or build the engine again: {build_command(path)}"
        ) from error
    try:
        described.check_checksum(path, content)
    except UntrustedError:
        if not trust:
            raise
        _log.warning("%s: is not the engine that was built; it is loaded because you trust it", path)
    return content, described


def _load_flavour(path: Path, described: EngineManifest) -> ModuleType:
    """The library that the engine is for, in the version that it is for."""
    try:
        flavour = load(described.flavour)
    except MissingDependencyError:
        for other in FLAVOURS:
            with suppress(MissingDependencyError):
                described.check_fits(path, other, load(other).version, None)
        raise
    described.check_fits(path, flavour.name, flavour.version, None)
    return flavour.module


def _check_tensors(trt: Any, engine: Any, items: Mapping[str, tuple[int, ...]], path: Path) -> dict[str, np.dtype[Any]]:
    """The types of the tensors, where these are the ones of the manifest."""
    types = {getattr(trt.DataType, name): np.dtype(kind) for name, kind in _TYPES.items()}
    allowed = {"image": ("INPUT", (np.uint8,)), "heatmaps": ("OUTPUT", (np.float32, np.float16))}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found: dict[str, np.dtype[Any]] = {}
    for name in names:
        shape, kind = tuple(engine.get_tensor_shape(name)), types.get(engine.get_tensor_dtype(name))
        mode, kinds = allowed.get(name, ("", ()))
        fits = bool(mode) and engine.get_tensor_mode(name) == getattr(trt.TensorIOMode, mode) and kind in kinds
        if not fits or kind is None or shape[1:] != items[name]:
            raise ArtifactError(
                f"{path}: its tensor {name}, {shape} {kind}, is not what its description says; build it again: "
                + build_command(path)
            )
        found[name] = kind
    if set(found) != set(items):
        raise ArtifactError(
            f"{path}: has tensors {names}, expected {list(items)}; build it again: {build_command(path)}"
        )
    return found


def _batches(engine: Any) -> tuple[int, int, bool]:
    """Smallest and largest batch, of the first profile or the one that is fixed, and whether it may change."""
    fixed = int(engine.get_tensor_shape("image")[0])
    if fixed >= 0:
        return fixed, fixed, False
    smallest, _, largest = engine.get_tensor_profile_shape("image", 0)
    return int(smallest[0]), int(largest[0]), True
