"""A checkpoint behind the `Session` protocol, in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.storage import Checkpoint, load_checkpoint
from cunet_deploy.manifest import Manifest
from cunet_deploy.model.device import CPU, exact_device, float32_multiplications
from cunet_deploy.quantize.floats import run_float
from cunet_deploy.quantize.reference import run_integer

__all__ = ["TorchSession", "normalize", "open_torch_session"]


def normalize(images: NDArray[np.uint8] | Tensor, device: torch.device = CPU) -> Tensor:
    """(B, S, S, 3) uint8 crops to the (B, 3, S, S) float32 tensor that the network computes on."""
    crops = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    # as bytes: a quarter of what has to be moved
    return (crops.to(device, non_blocking=True).permute(0, 3, 1, 2).float() - 128) / 128


class TorchSession:
    """A checkpoint behind the `Session` protocol: the reference that exported models are compared with.

    Args:
        checkpoint: what to run.
        exact: run a quantized network on integers, as a correct runtime does; otherwise on fake-quantized float32,
            as it was trained. Both round the same numbers, but float32 sums can fall on the other side of a half.
        device: where it runs. Integers are computed on the CPU where the device has no float64.
    """

    def __init__(self, checkpoint: Checkpoint, *, exact: bool = True, device: torch.device = CPU) -> None:
        self._device = exact_device(device) if checkpoint.kind == "quantized" else device
        self.checkpoint = checkpoint
        self._manifest = make_manifest(checkpoint)
        self._exact = exact
        self._graph = checkpoint.graph
        folded = checkpoint.folded() if checkpoint.kind == "float" else {}
        self._folded = {name: value.to(self._device) for name, value in folded.items()}
        network = checkpoint.quantized_network() if checkpoint.kind == "quantized" else None
        self._network = None if network is None else network.to(self._device)

    @property
    def manifest(self) -> Manifest:
        """Manifest of the network: its input and outputs."""
        return self._manifest

    @property
    def backend(self) -> str:
        """Name of the backend."""
        where = "" if self._device.type == "cpu" else f" on {self._device}"
        return f"torch {torch.__version__}{where}"

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        with float32_multiplications("ieee"):
            if self._network is None:
                maps = run_float(self._graph, self._folded, normalize(images, self._device))
            elif self._exact:
                maps = run_integer(self._network, torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2))
            else:
                maps = self._network(normalize(images, self._device))
        return np.asarray(maps[-1].cpu().numpy(), np.float32)

    def close(self) -> None:
        """Nothing to release."""


def open_torch_session(path: Path, device: torch.device = CPU) -> TorchSession:
    """A session that runs a checkpoint in torch; raises as `load_checkpoint`."""
    return TorchSession(load_checkpoint(path), device=device)
