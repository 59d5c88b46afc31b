"""Protocol of a teacher: a network that says where the joints of an object are."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.geometry import CropRule
from cunet_deploy.skeletons import Skeleton

__all__ = ["Teacher"]


class Teacher(Protocol):
    """A network of landmarks, whoever made it."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    @property
    def file(self) -> Path:
        """File of the network, for its checksum."""
        ...

    @property
    def library(self) -> str:
        """Name and version of what runs it."""
        ...

    @property
    def skeleton(self) -> Skeleton:
        """The K landmarks, in order."""
        ...

    @property
    def rule(self) -> CropRule:
        """Rule by which a tight box becomes the square that it looks at."""
        ...

    @property
    def shares(self) -> tuple[float, float]:
        """Width and height of what it looks at, in sides of that square."""
        ...

    def read(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """(B, S, S, 3) uint8 BGR squares to (B, K, 2) landmarks in pixels of them, and (B, K) scores in [0, 1]."""
        ...

    def close(self) -> None:
        """Release the network."""
        ...
