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
from cunet_deploy.quantize.floats import run_float
from cunet_deploy.quantize.reference import run_integer

__all__ = ["TorchSession", "normalize", "open_torch_session"]


def normalize(images: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 crops to the (B, 3, S, S) float32 tensor that the network computes on."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 128) / 128


class TorchSession:
    """A checkpoint behind the `Session` protocol: the reference that exported models are compared with.

    Args:
        checkpoint: what to run.
        exact: run a quantized network on integers, as a correct runtime does; otherwise on fake-quantized float32,
            as it was trained. Both round the same numbers, but float32 sums can fall on the other side of a half.
    """

    def __init__(self, checkpoint: Checkpoint, *, exact: bool = True) -> None:
        self.checkpoint = checkpoint
        self._manifest = make_manifest(checkpoint)
        self._exact = exact
        self._graph = checkpoint.graph
        self._folded = checkpoint.folded() if checkpoint.kind == "float" else {}
        self._network = checkpoint.quantized_network() if checkpoint.kind == "quantized" else None

    @property
    def manifest(self) -> Manifest:
        """What the network expects and returns."""
        return self._manifest

    @property
    def backend(self) -> str:
        """What runs it."""
        return f"torch {torch.__version__}"

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        if self._network is None:
            maps = run_float(self._graph, self._folded, normalize(images))
        elif self._exact:
            maps = run_integer(self._network, torch.from_numpy(images).permute(0, 3, 1, 2))
        else:
            maps = self._network(normalize(images))
        return np.asarray(maps[-1].numpy(), np.float32)

    def close(self) -> None:
        """Nothing to release."""


def open_torch_session(path: Path) -> TorchSession:
    """A session that runs a checkpoint in torch; raises as `load_checkpoint`."""
    return TorchSession(load_checkpoint(path))
