"""Batches as large as the memory of a GPU allows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions.base import Session

__all__ = ["FittingSession", "batch_size_of"]

_CPU_BATCH, _GPU_BATCH = 16, 128
_ON_GPU = ("CUDAExecutionProvider", "on cuda", "on mps")
_NO_MEMORY = ("out of memory", "allocate memory", "OutOfMemory")


def batch_size_of(session: Session) -> int:
    """Crops a run with which a session is usually fast: more on a GPU, which is idle with few."""
    return _GPU_BATCH if any(name in session.backend for name in _ON_GPU) else _CPU_BATCH


class FittingSession:
    """A session that runs a batch in halves, quarters and so on where the memory is not enough for it.

    What has been found to be too much is not tried again.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._most: int | None = None

    @property
    def manifest(self) -> Manifest:
        """Manifest of the network: its input and outputs."""
        return self._session.manifest

    @property
    def backend(self) -> str:
        """Name of the backend that runs it."""
        return self._session.backend

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        while True:
            most = len(images) if self._most is None else self._most
            try:
                parts = [self._session.run(images[start : start + most]) for start in range(0, len(images), most)]
            except Exception as error:
                if most < 2 or not any(words in str(error) for words in _NO_MEMORY):
                    raise
                self._most = most // 2
            else:
                return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Release the network."""
        self._session.close()
