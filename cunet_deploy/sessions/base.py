"""The one seam to the hardware: images in, heatmaps out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.manifest import Manifest

__all__ = ["Decoding", "Session"]


class Session(Protocol):
    """A loaded network. Implementations are safe to call from several threads."""

    @property
    def manifest(self) -> Manifest:
        """Manifest of the network: its input and outputs."""
        ...

    @property
    def backend(self) -> str:
        """Name and version of what really runs it, for example ``"onnxruntime 1.32.0 CPUExecutionProvider"``."""
        ...

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        ...

    def close(self) -> None:
        """Release what the network holds; the session cannot be used afterwards."""
        ...


class Decoding(ABC):
    """Session whose graph may find landmarks itself, as ``export --decode`` writes it.

    A class and not a protocol: whether a session is one is asked in every call, and protocols take microseconds.
    """

    @property
    @abstractmethod
    def decodes(self) -> bool:
        """Return whether this one does."""

    @abstractmethod
    def landmarks(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, 2) landmarks in pixels of the crop, and (B, K) scores."""
