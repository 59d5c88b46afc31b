"""Protocol of detectors, which say where to look for objects."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Detector"]


@runtime_checkable
class Detector(Protocol):
    """Finds the boxes of objects in an image. Implementations are safe to call from several threads.

    A detector of your own is a class with these members; it need not inherit from this one. What `detect` returns is
    checked.
    """

    @property
    def every(self) -> int:
        """In video, frames between two looks while objects are followed; 0: then never."""
        ...

    @property
    def retry(self) -> int:
        """In video, frames between two looks while an object is missing."""
        ...

    @property
    def exact(self) -> bool:
        """Return whether its boxes are given: used as they are, and never dropped for a low landmark score."""
        ...

    @property
    def confident_score(self) -> float:
        """Score from which a new box is believed: half of the mean landmark score that is usually asked for is enough.

        Below, landmarks have to confirm the box in several crops. 0 for a detector whose boxes are taken at their word.
        """
        ...

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find objects.

        Args:
            image: (H, W, 3) uint8 BGR.
            index: of the frame in its source.
            name: of the image file that it came from, without folders; empty for video.
            known: in video, (M, 4) boxes of the objects that are followed: they need not be searched for as hard;
                ``None`` for single images.

        Returns:
            boxes: (N, 4) tight xyxy boxes, as around the object's landmarks, in pixels of the image, best first.
            scores: (N,) in [0, 1], finite.
        """
        ...

    def close(self) -> None:
        """Release what it holds; it cannot be used afterwards."""
        ...
