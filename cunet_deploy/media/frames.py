"""One frame, before and after localization, and the size of frames."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks, coco_category

__all__ = ["Frame", "FrameSize", "LeftOut", "Picture"]


@dataclass(frozen=True)
class FrameSize:
    """Size and rate of frames.

    Attributes:
        width: in pixels.
        height: in pixels.
        fps: frames per second; ``None``: not said.
    """

    width: int
    height: int
    fps: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.width <= 1 << 16 and 0 < self.height <= 1 << 16):
            raise InputError(f"frames of {self.width}x{self.height} cannot be; give sides from 1 to 65536")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise InputError(f"{self.fps:g} frames per second cannot be; give a rate above 0 and up to 1000")

    @classmethod
    def parse(cls, text: str) -> FrameSize:
        """Read ``WIDTHxHEIGHT`` or ``WIDTHxHEIGHT@FPS``.

        Raises:
            InputError: it is written otherwise, or out of range.
        """
        match = re.fullmatch(r"(\d{1,6})x(\d{1,6})(?:@(\d{1,6}(?:\.\d+)?))?", text.strip())
        if match is None:
            raise InputError(f"{text!r} is no frame size; write WIDTHxHEIGHT or WIDTHxHEIGHT@FPS, such as 640x480@30")
        width, height, fps = match.groups()
        return cls(int(width), int(height), None if fps is None else float(fps))


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame of a source.

    Attributes:
        index: counts from 0.
        time_ms: since the start of the video; 0 for images.
        image: (H, W, 3) uint8 BGR.
        name: of the image file, without folders; empty for video.
        thumbnail: `cunet_deploy.tracking.shot_boundary.make_thumbnail` of it, if it was made where it was read.
    """

    index: int
    time_ms: float
    image: NDArray[np.uint8]
    name: str = ""
    thumbnail: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class LeftOut:
    """Part of a source that gave no picture: frames of a video that are damaged, or an image file that cannot be read.

    Attributes:
        index: of the first frame that is missing; those that follow count on behind it.
        reason: in a few words.
        count: how many frames.
        time_ms: of the first one, since the start of the video; 0 for images.
        name: of the image file, without folders; empty for video.
    """

    index: int
    reason: str
    count: int = 1
    time_ms: float = 0.0
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

    def __repr__(self) -> str:
        """All but the pixels."""
        height, width = self.image.shape[:2]
        name = f", {self.name!r}" if self.name else ""
        return f"Frame({self.index}, {self.time_ms:.1f} ms{name}, {width}x{height}, {self.landmarks!r})"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists: ``frame``, ``time_ms``, ``file`` of image files, and what `Landmarks.to_dict` has."""
        file = {"file": self.name} if self.name else {}
        return {"frame": self.index, **file, "time_ms": round(self.time_ms, 3), **self.landmarks.to_dict()}

    def to_coco_image(self) -> dict[str, Any]:
        """The entry of ``"images"`` in a COCO file; its ``id``, that annotations refer to, is the frame's number."""
        height, width = self.image.shape[:2]
        name = self.name or f"frame_{self.index:06d}"
        return {
            "id": self.index,
            "file_name": name,
            "width": width,
            "height": height,
            "time_ms": round(self.time_ms, 3),
        }

    def to_coco(self, visible_score: float | None = None) -> dict[str, Any]:
        """A whole COCO keypoints file of this frame: ``images``, ``annotations`` and ``categories``."""
        return {
            "images": [self.to_coco_image()],
            "annotations": self.landmarks.to_coco(self.index, visible_score=visible_score),
            "categories": [coco_category(self.landmarks.skeleton)],
        }
