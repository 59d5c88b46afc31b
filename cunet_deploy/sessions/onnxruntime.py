"""ONNX Runtime, on the CPU or on what a provider brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from cunet_deploy.errors import ArtifactError, CunetError
from cunet_deploy.machine.cpu import cpu_features, may_saturate, read_cpuinfo
from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.onnx_graph.external import has_external_data, missing_weights
from cunet_deploy.sessions.base import Decoding
from cunet_deploy.sessions.checks import Port, check_crops, check_file, check_graph, read_manifest
from cunet_deploy.sessions.optimized import find_graph
from cunet_deploy.sessions.providers import (
    ORT_ERRORS,
    PROVIDERS,
    Provider,
    add_plugin,
    check_running,
    first_line,
    missing_provider,
    ort_errors_and,
)
from cunet_deploy.sessions.registry import Backend

__all__ = ["OrtSession", "describe", "missing", "open_backend"]

_FATAL_ONLY, _WARNINGS = 4, 2
_CPU = PROVIDERS["cpu"].key
_DISABLED_OPTIMIZERS = ["WeightBiasQuantization"]
"""It quantizes float biases by the product of two scales, which underflows where the scales are float16, as they are in
graphs for TensorRT. Graphs for the CPU have integer biases already, so it has nothing to do there."""


def open_backend(path: Path, backend: Backend, *, threads: int | None, trust: bool) -> OrtSession:
    """Load a network; see `OrtSession`. ONNX holds no code, so there is nothing to trust."""
    return OrtSession(path, threads=threads, provider=PROVIDERS[backend.variant])


def missing(backend: Backend) -> str:
    """Say what has to be installed; see `cunet_deploy.sessions.registry.BackendModule`."""
    return missing_provider(PROVIDERS[backend.variant])


def describe(backend: Backend) -> str:
    """Library, version and provider."""
    return f"onnxruntime {ort.__version__} {PROVIDERS[backend.variant].key}"


class OrtSession(Decoding):
    """A network in ONNX Runtime. See `cunet_deploy.sessions.base.Session`; safe for several threads."""

    def __init__(self, path: Path, *, threads: int | None = None, provider: Provider = PROVIDERS["cpu"]) -> None:
        """Load an ONNX file that carries a manifest.

        Args:
            path: the file.
            threads: how many one run may use; ``None`` leaves it to ONNX Runtime.
            provider: what it shall run on, and nothing else.

        Raises:
            InputError: the file is missing or empty.
            ArtifactError: it is not ONNX, is cut off, has no manifest, its graph is not what the manifest says, or
                the provider is missing or does not load.
        """
        self._path = path
        self._session: Any = _load(path, threads, provider)
        try:
            text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
            inputs = [_port(node) for node in self._session.get_inputs()]
            outputs = [_port(node) for node in self._session.get_outputs()]
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path}: names in it are damaged ({error}); copy or export it again") from error
        self._manifest = read_manifest(text, path)
        check_graph(path, self._manifest, inputs, outputs)
        self._decodes = len(outputs) > 1
        check_running(self._session, provider, path)

    @property
    def manifest(self) -> Manifest:
        """Manifest of the network: its input and outputs."""
        return self._manifest

    @property
    def backend(self) -> str:
        """Library, version and the provider that really runs it."""
        return f"onnxruntime {ort.__version__} {self._opened().get_providers()[0]}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        (maps,) = self._outputs(images, ["heatmaps"])
        return maps

    @property
    def decodes(self) -> bool:
        """Return whether the graph finds the landmarks itself; see `cunet_deploy.sessions.base.Decoding`."""
        return self._decodes

    def landmarks(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, 2) landmarks in pixels of the crop, and (B, K) scores."""
        points, scores = self._outputs(images, ["landmarks", "scores"])
        return points, scores

    def _outputs(self, images: NDArray[np.uint8], names: list[str]) -> list[NDArray[np.float32]]:
        check_crops(images, self._manifest)
        session = self._opened()
        try:
            found = session.run(names, {"image": images})
        except ORT_ERRORS as error:
            raise CunetError(
                f"{self._path}: ONNX Runtime failed on {len(images)} crops: {first_line(error)}"
            ) from error
        return [np.asarray(values, np.float32) for values in found]

    def close(self) -> None:
        """Release the network."""
        self._session = None

    def _opened(self) -> Any:
        session = self._session
        if session is None:
            raise CunetError(f"{self._path}: the session is closed; open the model again")
        return session


def _load(path: Path, threads: int | None, provider: Provider) -> Any:
    check_file(path)
    reason = missing_provider(provider)
    if reason:
        raise ArtifactError(reason)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL_ONLY  # what goes wrong is raised and said once, by us
    if provider.key != _CPU:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    else:
        # It plans memory for each size of a batch anew and keeps the plans and their blocks. Measured with batches of 1
        # to 8, in turns: without it face68-s takes 6 MiB less, face68-m 13 and 8 U-Nets for 256 px 76, in the same
        # time and with the same results. Without the arena each run takes 3 % longer; treating denormals as zero
        # changes nothing.
        options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    if provider.plugin:
        add_plugin(provider, options)
    keys = [] if provider.plugin else [provider.key]
    quiet = provider.key != _CPU
    if quiet:
        ort.set_default_logger_severity(_FATAL_ONLY)  # providers log to another logger than the session's
    try:
        return _open_on_cpu(path, options) if provider.key == _CPU else _open(path, options, keys)
    except ORT_ERRORS as error:
        reason = missing_weights(path)
        if reason:
            raise ArtifactError(f"{path}: {reason}") from error
        if provider.key != _CPU:
            raise ArtifactError(
                f"{path}: {provider.key} of onnxruntime {ort.__version__} cannot load it ({first_line(error)}); "
                f"{provider.remedy}"
            ) from error
        raise ArtifactError(
            f"{path}: ONNX Runtime {ort.__version__} cannot load it ({first_line(error)}); it is cut off, not ONNX or "
            "too new; copy it again, export it again or upgrade onnxruntime"
        ) from error
    finally:
        if quiet:
            ort.set_default_logger_severity(_WARNINGS)


def _open(path: Path, options: Any, keys: list[str], model: bytes | None = None) -> Any:
    """A file, or what stands for it."""
    source = str(path) if model is None else model
    # Without enable_fallback=0 it prints to stdout and goes on with the CPU.
    return ort.InferenceSession(
        source, options, providers=keys, enable_fallback=0, disabled_optimizers=_DISABLED_OPTIMIZERS
    )


def _open_on_cpu(path: Path, options: Any) -> Any:
    """From the optimized graph where one is kept; else the graph is optimized, and kept where that is possible.

    ``options`` are changed. Errors are those of ONNX Runtime about ``path``, and no others.
    """
    saturates = may_saturate(cpu_features(read_cpuinfo()))
    settings: dict[str, Any] = {
        "version": ort.__version__,
        "build": ort.get_build_info(),
        "level": "all",
        "disabled": _DISABLED_OPTIMIZERS,
        **({"saturation_safe": True} if saturates else {}),
    }
    graph = find_graph(path, settings)
    kept = None if graph is None else graph.find()
    if graph is not None and kept is not None:
        level = options.graph_optimization_level
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return _open(kept, options, [_CPU])
        except ORT_ERRORS:
            graph.drop(kept)
        options.graph_optimization_level = level
    safe = _saturation_safe(path) if saturates else None
    if safe is not None:
        options.add_session_config_entry("session.x64quantprecision", "1")
        if has_external_data(safe):
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    if graph is None:
        return _open(path, options, [_CPU], safe)
    try:
        with graph.making() as temporary:
            options.optimized_model_filepath = str(temporary)
            return _open(path, options, [_CPU], safe)
    except ort_errors_and(OSError):  # the cache cannot be written to, or the network does not load: said below
        options.optimized_model_filepath = ""
        return _open(path, options, [_CPU], safe)


def _saturation_safe(path: Path) -> bytes | None:
    """Model to load in place of a file so that no sum saturates; ``None``: the file itself."""
    from cunet_deploy.sessions.saturation import saturation_safe_graph  # loads protobuf, which most processors spare

    return saturation_safe_graph(path)


def _port(node: Any) -> Port:
    kind = {"tensor(float)": "float32"}.get(node.type, node.type.removeprefix("tensor(").removesuffix(")"))
    return node.name, kind, tuple(size if isinstance(size, int) else None for size in node.shape)
