"""Our own network in other frameworks and through other quantizers, for `faces.py`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint, float_model, load_checkpoint
from cunet_deploy.errors import CunetError, MissingDependencyError
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.openvino import load_openvino, openvino_core
from tools.peers.adapters import Ours, Peer

__all__ = [
    "OpenVINOGraph",
    "network_peers",
    "quantize_with_nncf",
    "quantize_with_onnxruntime",
    "read_openvino",
]

Images = NDArray[np.uint8]
CALIBRATION = 64


@dataclass(frozen=True, eq=False)
class _Function:
    """A function behind the `Session` protocol: (B, S, S, 3) BGR uint8 to (B, K, M, M) float32."""

    manifest: Manifest
    backend: str
    function: Callable[[Images], NDArray[np.float32]]

    def run(self, images: Images) -> NDArray[np.float32]:
        return self.function(images)

    def close(self) -> None:
        """Nothing to release."""


def network_peers(
    checkpoint: Path, calibration: Path | None, threads: int, *, compiled: bool, missing: list[str]
) -> list[Peer]:
    """A float checkpoint in torch, ONNX Runtime and OpenVINO, in float and through the quantizers of others.

    Args:
        checkpoint: float.pt of a model.
        calibration: calibration photos of the quantizers, in the 300-W layout; without them those are left out.
        threads: of each.
        compiled: also torch.compile.
        missing: collects what is left out and why.
    """
    model = load_checkpoint(checkpoint)
    makers: dict[str, Callable[[], Iterator[Peer]]] = {
        "torch": partial(_torch, model, threads, compiled),
        "ONNX Runtime": partial(_onnxruntime, model, calibration, threads),
        "OpenVINO": partial(_openvino, model, calibration, threads),
    }
    found: list[Peer] = []
    for name, make in makers.items():
        try:
            found.extend(make())
        except (CunetError, ImportError) as error:
            missing.append(f"{name}: {error}")
    return found


def _torch(model: Checkpoint, threads: int, compiled: bool) -> Iterator[Peer]:
    import torch

    torch.set_num_threads(threads)
    network, manifest = float_model(model), make_manifest(model)

    def run(module: Any, images: Images) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(module(normalize(images))[-1].numpy(), np.float32)

    yield Ours("same network, torch float", _Function(manifest, "torch", partial(run, network)))
    if compiled:
        yield Ours(
            "same network, torch.compile float", _Function(manifest, "torch", partial(run, torch.compile(network)))
        )


def _onnxruntime(model: Checkpoint, calibration: Path | None, threads: int) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_checkpoint(model, Path(folder) / "float").path / "model.onnx"
        yield Ours("same network, ONNX Runtime float", open_session(bundle, threads=threads), bundle.stat().st_size)
        if calibration is None:
            return
        target = Path(folder) / "static.onnx"
        quantize_with_onnxruntime(bundle, target, _crops(model, calibration))
        yield Ours(
            "same network, ONNX Runtime quantize_static with its defaults",
            open_session(target, threads=threads),
            target.stat().st_size,
        )


def quantize_with_onnxruntime(model: Path, target: Path, crops: Images) -> None:
    """Write what ONNX Runtime's ``quantize_static`` makes of a float file, with its default options.

    Args:
        model: float ``model.onnx``.
        target: the file to write.
        crops: (N, S, S, 3) BGR, what ranges are taken from.
    """
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
        def __init__(self, feed: str) -> None:
            self._items = iter([{feed: crop[None]} for crop in crops])

        def get_next(self) -> Any:
            return next(self._items, None)

    quantize_static(model, target, Reader(_input_name(model)))


def _openvino(model: Checkpoint, calibration: Path | None, threads: int) -> Iterator[Peer]:
    manifest = make_manifest(model)
    with tempfile.TemporaryDirectory() as folder:
        graph = read_openvino(export_checkpoint(model, Path(folder) / "float").path / "model.onnx")
        for precision in ("f32", "bf16"):
            session = OpenVINOGraph(manifest, graph, threads, precision)
            yield Ours(f"same network, OpenVINO {precision}", session)
        if calibration is not None:
            quantized = quantize_with_nncf(graph, _crops(model, calibration))
            yield Ours("same network, NNCF int8 in OpenVINO", OpenVINOGraph(manifest, quantized, threads))


def read_openvino(path: Path) -> Any:
    """An ONNX file as OpenVINO's graph for one crop: a fixed shape runs faster than a free one."""
    graph = openvino_core().read_model(path)
    graph.reshape([1, *(size.get_length() for size in list(graph.input(0).get_partial_shape())[1:])])
    return graph


def quantize_with_nncf(graph: Any, crops: Images) -> Any:
    """A float graph of OpenVINO in int8, quantized by NNCF with its default options.

    Args:
        graph: for one crop, see `read_openvino`.
        crops: (N, S, S, 3) BGR, what ranges are taken from.

    Raises:
        MissingDependencyError: NNCF is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # else it reports every call to its maker over the network
    try:
        import nncf
    except ImportError as error:
        raise MissingDependencyError(f"nncf does not load ({error}): pip install nncf") from error
    return nncf.quantize(graph, nncf.Dataset([crop[None] for crop in crops]), subset_size=len(crops))


class OpenVINOGraph:
    """A graph for one crop in OpenVINO behind the `Session` protocol, compiled and called as our own session does."""

    backend = "openvino"

    def __init__(self, manifest: Manifest, graph: Any, threads: int, precision: str = "f32") -> None:
        openvino: Any = load_openvino()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        self.manifest, self._tensor = manifest, openvino.Tensor
        self._request: Any = openvino_core().compile_model(graph, "CPU", settings).create_infer_request()

    def run(self, images: Images) -> NDArray[np.float32]:
        """(B, S, S, 3) BGR to (B, K, M, M) float32, crop by crop."""
        cells = self.manifest.map_size
        maps = np.empty((len(images), len(self.manifest.skeleton), cells, cells), np.float32)
        for index in range(len(images)):
            self._request.set_input_tensor(self._tensor(images[index : index + 1], shared_memory=True))
            self._request.set_output_tensor(self._tensor(maps[index : index + 1], shared_memory=True))
            self._request.infer(share_outputs=True)
        return maps

    def close(self) -> None:
        """Release the network."""
        self._request = None


def _input_name(path: Path) -> str:
    import onnx

    return str(onnx.load(path).graph.input[0].name)


def _crops(model: Checkpoint, folder: Path) -> Images:
    """(N, S, S, 3) training crops."""
    from cunet_deploy.data.batches import plain_batches
    from cunet_deploy.data.examples import PhotoCache
    from cunet_deploy.data.ibug import read_300w

    manifest = make_manifest(model)
    examples = read_300w(folder, len(manifest.skeleton))
    examples = examples[:: max(1, len(examples) // CALIBRATION)][:CALIBRATION]
    (batch,) = plain_batches(examples, manifest.crop, PhotoCache(1 << 30), size=len(examples))
    return batch.images
