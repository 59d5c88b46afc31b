"""Our own network in other frameworks and through other quantizers, for `bench_peers.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import Ours, Peer

from cunet_deploy.checkpoint import Checkpoint, float_model, load_checkpoint, make_manifest, normalize
from cunet_deploy.errors import CunetError
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.manifest import Manifest
from cunet_deploy.runtime.sessions import open_session
from cunet_deploy.runtime.sessions.openvino import load_openvino

__all__ = ["network_peers"]

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
        calibration: photos in the 300-W layout that quantizers look at; without them those are left out.
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
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
        def __init__(self, feed: str, crops: Images) -> None:
            self._items = iter([{feed: crop[None]} for crop in crops])

        def get_next(self) -> Any:
            return next(self._items, None)

    with tempfile.TemporaryDirectory() as folder:
        bundle = export_checkpoint(model, Path(folder) / "float").path / "model.onnx"
        yield Ours("same network, ONNX Runtime float", open_session(bundle, threads=threads), bundle.stat().st_size)
        if calibration is None:
            return
        feed = _input_name(bundle)
        target = Path(folder) / "static.onnx"
        quantize_static(bundle, target, Reader(feed, _crops(model, calibration)))
        yield Ours(
            "same network, ONNX Runtime quantize_static with its defaults",
            open_session(target, threads=threads),
            target.stat().st_size,
        )


def _openvino(model: Checkpoint, calibration: Path | None, threads: int) -> Iterator[Peer]:
    core, manifest = load_openvino().Core(), make_manifest(model)

    def compile_model(graph: Any, precision: str) -> Callable[[Images], NDArray[np.float32]]:
        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
        request = core.compile_model(graph, "CPU", options).create_infer_request()
        return lambda images: np.asarray(request.infer([images])[0], np.float32)

    with tempfile.TemporaryDirectory() as folder:
        bundle = export_checkpoint(model, Path(folder) / "float").path / "model.onnx"
        graph = core.read_model(bundle)
        for precision in ("f32", "bf16"):
            yield Ours(
                f"same network, OpenVINO {precision}",
                _Function(manifest, "openvino", compile_model(graph, precision)),
            )
        if calibration is None:
            return
        import nncf

        crops = [crop[None] for crop in _crops(model, calibration)]
        quantized = nncf.quantize(graph, nncf.Dataset(crops), subset_size=len(crops))
        yield Ours(
            "same network, NNCF int8 in OpenVINO", _Function(manifest, "openvino", compile_model(quantized, "f32"))
        )


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
