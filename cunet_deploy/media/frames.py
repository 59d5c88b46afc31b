"""One frame, before and after localization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.landmarks import Landmarks

__all__ = ["Frame", "Picture"]


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame of a source.

    Attributes:
        index: counts from 0.
        time_ms: since the start of the video; 0 for images.
        image: (H, W, 3) uint8 BGR.
        name: of the image file, without folders; empty for video.
    """

    index: int
    time_ms: float
    image: NDArray[np.uint8]
    name: str = ""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame with what was found in it.

    Attributes:
        index: counts from 0.
        time_ms: since the start of the video; 0 for images.
        image: (H, W, 3) uint8 BGR.
        landmarks: in pixels of the image.
        name: of the image file, without folders; empty for video.
        seconds: that finding the landmarks took, without reading the frame.
    """

    index: int
    time_ms: float
    image: NDArray[np.uint8]
    landmarks: Landmarks
    name: str = ""
    seconds: float = 0.0
