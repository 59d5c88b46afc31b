"""OpenVINO on the CPU, from the ONNX file that ONNX Runtime runs too.

The network is compiled for one crop: OpenVINO runs a fixed shape 10 to 25 % faster than a free one. Batches run crop by
crop: a network for batches of any size would run eight crops 3 % faster with one thread and 5 to 20 % faster with two,
and takes half a second more to compile, which is longer than most programs run batches at all.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.errors import ArtifactError, CunetError
from cunet_deploy.machine.cpu import cpu_features, is_x86, may_saturate, read_cpuinfo
from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.onnx_graph.external import missing_weights
from cunet_deploy.sessions.checks import Port, check_crops, check_file, check_graph, read_manifest
from cunet_deploy.sessions.registry import Backend

__all__ = ["OpenVINOSession", "describe", "load_openvino", "missing", "open_backend", "openvino_core"]

_SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",  # else float networks are computed in bfloat16 where the processor has it
    "ENABLE_CPU_PINNING": False,  # else the threads of all programs that use OpenVINO share the first processors
}
_FLOAT = {"LP_TRANSFORMS_MODE": "NO"}
"""Integers are computed in float32, which holds them exactly. Without it sums of 8-bit products are cut off on x86
without VNNI, and OpenVINO has no kernels that add them in more bits; on Arm it rounds them otherwise than the network
was trained to: the landmarks of face68-s are 0.10 pixels of the input away then, and 0.02 with it."""
_TELEMETRY = "openvino_telemetry"


def open_backend(path: Path, backend: Backend, *, threads: int | None, trust: bool) -> OpenVINOSession:
    """Load a network; see `OpenVINOSession`. ONNX holds no code, so there is nothing to trust."""
    return OpenVINOSession(path, threads=threads)


def missing(backend: Backend) -> str:
    """Say what has to be installed; see `cunet_deploy.sessions.registry.BackendModule`."""
    found = importlib.util.find_spec("openvino") is not None
    return "" if found else f"openvino is not installed; run: {backend.install_line}"


def describe(backend: Backend) -> str:
    """Version of the library, and the devices that it sees here; only ``CPU`` is used.

    Raises:
        MissingDependencyError: it is not installed.
        RuntimeError: it is, but does not start.
    """
    devices = openvino_core().available_devices
    return f"{_version(load_openvino())}, devices {', '.join(str(device) for device in devices)}"


class OpenVINOSession:
    """A network in OpenVINO. See `cunet_deploy.sessions.base.Session`; several threads take turns."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Load an ONNX file that carries a manifest.

        Args:
            path: the file.
            threads: how many one run may use; ``None`` leaves it to OpenVINO: one for each physical core.

        Raises:
            InputError: the file is missing or empty.
            ArtifactError: it is not ONNX, is cut off, has no manifest, or its graph is not what the manifest says.
            MissingDependencyError: OpenVINO is not installed.
        """
        check_file(path)
        self._path = path
        self._lock = threading.Lock()
        self._openvino: Any = load_openvino()
        settings = _SETTINGS if threads is None else {**_SETTINGS, "INFERENCE_NUM_THREADS": threads}
        model = _read(self._openvino, path)
        self._manifest = read_manifest(_metadata(model), path)
        inputs, outputs = ([_port(port) for port in ports] for ports in (model.inputs, model.outputs))
        check_graph(path, self._manifest, inputs, outputs)
        if len(outputs) > 1:  # landmarks that the graph finds itself; the same are found in the heatmaps
            model = self._openvino.Model([model.output("heatmaps")], model.get_parameters(), "model")
        model.reshape([1, *inputs[0][2][1:]])
        if not _has_exact_integers(self._manifest):
            settings = {**settings, **_FLOAT}
        elif self._manifest.weight_bits < 32:
            _quantize_image(self._openvino, model)
        self._request: Any = self._compile(model, settings)

    @property
    def manifest(self) -> Manifest:
        """Manifest of the network: its input and outputs."""
        return self._manifest

    @property
    def backend(self) -> str:
        """Library, version and device."""
        return f"openvino {_version(self._openvino)} CPU"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        check_crops(images, self._manifest)
        cells = self._manifest.map_size
        maps = np.empty((len(images), len(self._manifest.skeleton), cells, cells), np.float32)
        pixels = np.require(images, requirements=("C", "W"))  # what OpenVINO can read where it is
        tensor = self._openvino.Tensor
        with self._lock:
            request = self._request
            if request is None:
                raise CunetError(f"{self._path}: the session is closed; open the model again")
            try:
                for index in range(len(images)):
                    request.set_input_tensor(tensor(pixels[index : index + 1], shared_memory=True))
                    request.set_output_tensor(tensor(maps[index : index + 1], shared_memory=True))
                    request.infer(share_outputs=True)
            except RuntimeError as error:
                raise CunetError(f"{self._path}: OpenVINO failed on {len(images)} crops: {_reason(error)}") from error
        return maps

    def close(self) -> None:
        """Release the network."""
        with self._lock:
            self._request = None

    def _compile(self, model: Any, settings: Mapping[str, Any]) -> Any:
        try:
            return openvino_core().compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise ArtifactError(
                f"{self._path}: OpenVINO {_version(self._openvino)} cannot compile it ({_reason(error)}); upgrade "
                "openvino, or take the backend ort:cpu"
            ) from error


def _has_exact_integers(manifest: Manifest) -> bool:
    """Return whether OpenVINO's 8-bit kernels compute here what the network was trained to, but for ties."""
    return is_x86() and not (manifest.may_saturate and may_saturate(cpu_features(read_cpuinfo())))


def load_openvino() -> ModuleType:
    """Import the library without its telemetry, which would report the import to its maker over the network.

    Raises:
        MissingDependencyError: it is not installed.
    """
    with _without(_TELEMETRY):
        return require("openvino", extra="openvino")


def openvino_core() -> Any:
    """OpenVINO's ``Core``, the same for the whole process.

    Each would set a stack for signal handlers, and put its predecessor's back when it goes. If that one went first, the
    stack is gone as well, and the next signal that Python handles, such as Ctrl-C, ends in a segmentation fault.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    return _core_of(os.getpid())


@functools.cache
def _core_of(process: int) -> Any:
    """The core of a process: the threads of the parent's do not come along in a fork."""
    openvino: Any = load_openvino()
    return openvino.Core()


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Within the block, importing a module that is not loaded yet fails as if it were not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # that is how Python spells it
    try:
        yield
    finally:
        del sys.modules[name]


def _read(openvino: Any, path: Path) -> Any:
    """The graph of an ONNX file. Through the reader of ONNX: others would try a damaged file too, and complain."""
    frontend = openvino.frontend
    failures = (frontend.GeneralFailure, frontend.OpConversionFailure, frontend.OpValidationFailure, RuntimeError)
    try:
        reader = frontend.FrontEndManager().load_by_framework("onnx")
        return reader.convert(reader.load(str(path)))
    except failures as error:
        missing = missing_weights(path)
        if missing:
            raise ArtifactError(f"{path}: {missing}") from error
        raise ArtifactError(
            f"{path}: OpenVINO {_version(openvino)} cannot load it ({_reason(error)}); it is cut off, not ONNX or too "
            "new; copy it again, export it again or upgrade openvino"
        ) from error


def _quantize_image(openvino: Any, model: Any) -> None:
    """Tell OpenVINO that the image is quantized, so that the first convolution is integer too.

    It knows that of what the graph quantizes, and not of an input that comes as bytes and is only dequantized. So the
    network's ``(image - 128) / 128`` is quantized once more, which changes no value.
    """
    node = model.input(0).get_node()
    while True:
        readers = list(node.output(0).get_target_inputs())
        node = readers[0].get_node()
        if node.get_type_name() not in ("Reshape", "Transpose", "Convert", "Subtract", "Multiply"):
            break
    if len(readers) != 1 or node.get_type_name() != "Convolution":
        return
    low, high = (openvino.opset8.constant(np.array(value, np.float32)) for value in (-1, 127 / 128))
    quantized = openvino.opset8.fake_quantize(readers[0].get_source_output(), low, high, low, high, 256)
    readers[0].replace_source_output(quantized.output(0))
    model.validate_nodes_and_infer_types()


def _metadata(model: Any) -> str | None:
    """The manifest among the metadata of the file, if it is there."""
    key = ["framework", METADATA_KEY]
    return str(model.get_rt_info(key).astype(str)) if model.has_rt_info(key) else None


def _port(port: Any) -> Port:
    shape = port.get_partial_shape()
    sizes = tuple(size.get_length() if size.is_static else None for size in shape)
    return port.get_any_name(), np.dtype(port.get_element_type().to_dtype()).name, sizes


def _version(openvino: Any) -> str:
    """``2026.4.1`` of ``2026.4.1-22982-e213a147257-releases/2026/4``."""
    return str(openvino.__version__).partition("-")[0]


def _reason(error: Exception) -> str:
    """The sentence of an error of OpenVINO that tells something; the lines above it name its source files."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "FrontEnd API"))]
    return (telling or lines or [type(error).__name__])[0][:200] or type(error).__name__
