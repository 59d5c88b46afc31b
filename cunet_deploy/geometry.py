"""From a box in an image to the network's input, and points back.

One convention everywhere: coordinates are pixels, x then y, and (0, 0) is the **centre** of the top-left pixel. So a
picture of width W reaches from x = -0.5 to x = W - 0.5, and shrinking by s maps x to (x + 0.5) / s - 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from cunet_deploy._decode import check_fields
from cunet_deploy.errors import InputError

__all__ = [
    "Crop",
    "CropRule",
    "box_iou",
    "compare_pairs",
    "halvings",
    "landmark_boxes",
    "share_inside",
    "whole_image",
    "whole_pixels",
]

FloatArray = NDArray[np.float64]

_WEIGHT_STEPS = 128
"""A side that is ``size / 128`` of something whole is interpolated with weights of 1/256, fast and exactly."""
_ROUGHEST = 16
"""A side is not rounded to more than this share of its length."""


@dataclass(frozen=True)
class Crop:
    """A square of an image, possibly rotated, sampled to the network's input. It knows its inverse.

    Attributes:
        center: (x, y) in the image that falls on the middle of the input.
        side: length in image pixels that the input covers in each direction.
        size: side of the network's input in pixels.
        angle: clockwise rotation of the square in the image, in degrees.
    """

    center: tuple[float, float]
    side: float
    size: int
    angle: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.side) and self.side > 0 and all(map(math.isfinite, self.center))):
            raise InputError(f"a crop needs a finite centre and a positive side, got {self.center} and {self.side}")

    @property
    def scale(self) -> float:
        """Input pixels per image pixel."""
        return self.size / self.side

    def matrix(self) -> FloatArray:
        """(2, 3) affine map from image coordinates to input coordinates."""
        radians = math.radians(self.angle)
        cos, sin = self.scale * math.cos(radians), self.scale * math.sin(radians)
        x, y = self.center
        middle = (self.size - 1) / 2
        return np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]])

    def to_input(self, points: ArrayLike) -> FloatArray:
        """Map (..., 2) image points to the network's input."""
        matrix = self.matrix()
        return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]

    def to_image(self, points: ArrayLike) -> FloatArray:
        """Map (..., 2) points of the network's input back to the image."""
        radians = math.radians(self.angle)
        cos, sin = math.cos(radians) / self.scale, math.sin(radians) / self.scale
        given, middle = np.asarray(points, np.float64), (self.size - 1) / 2
        x, y = given[..., 0] - middle, given[..., 1] - middle
        found = np.empty_like(given)  # a product of matrices takes longer after a network has emptied the caches
        found[..., 0] = x * cos - y * sin + self.center[0]
        found[..., 1] = x * sin + y * cos + self.center[1]
        return found


@dataclass(frozen=True)
class CropRule:
    """Rule by which a tight box becomes the crop that the network was trained on.

    Attributes:
        size: side of the network's square input, in pixels.
        padding: side of the crop divided by the longer side of the tight box.
    """

    size: Annotated[int, Meta(ge=32, le=4096)] = 256
    padding: Annotated[float, Meta(gt=0, le=100)] = 1.4

    def __post_init__(self) -> None:
        check_fields(self, "crop rule:", InputError)

    def crop(self, box: ArrayLike, angle: float = 0.0) -> Crop:
        """The crop of a tight ``(x0, y0, x1, y1)`` box.

        One that is not turned covers `whole_pixels` of the image, which are sampled in less than half the time.

        Raises:
            InputError: the box is not finite or has no area.
        """
        x0, y0, x1, y1 = np.asarray(box, np.float64).tolist()
        longer = max(x1 - x0, y1 - y0)
        if not (math.isfinite(longer) and x1 > x0 and y1 > y0):
            raise InputError(f"a box is x0 < x1, y0 < y1 in pixels, got [{x0:g}, {y0:g}, {x1:g}, {y1:g}]")
        x, y, side = (x0 + x1) / 2, (y0 + y1) / 2, longer * self.padding
        if angle == 0:
            return whole_pixels(x, y, side, self.size)
        return Crop((x, y), side, self.size, angle)


def halvings(side: float, size: int) -> int:
    """Count the halvings of a square of an image before it is interpolated to a size that is at most twice smaller."""
    return max(math.frexp(side / size)[1] - 1, 0)


def whole_pixels(x: float, y: float, side: float, size: int, *, cover: bool = False) -> Crop:
    """The crop that is not turned next to a square, of whole pixels that are sampled fast and exactly.

    Its middle is at most half a pixel away. Its side is whole, a multiple of two where the image is shrunk by two or
    more, of four where it is shrunk by four or more, and so on. Where ``size`` is not a power of two up to 128, it is
    also a multiple of 2 for 256, of 3 for 96 and 192, of 5 for 160 and 320, unless that changes it by more than 3 %.

    Args:
        x: middle of the square, in image pixels.
        y: the same.
        side: of the square, in image pixels.
        size: side of the network's input.
        cover: the crop is not smaller than the square.
    """
    block = 1 << halvings(side, size)
    unit = block * (size // math.gcd(size, _WEIGHT_STEPS))
    unit = unit if unit * _ROUGHEST <= side else block
    # not round(), which goes to even numbers and so would depend on where in the image the box is
    whole = max(math.ceil(side / unit) if cover else math.floor(side / unit + 0.5), 1) * unit
    half = (whole - 1) / 2
    return Crop((math.floor(x - half + 0.5) + half, math.floor(y - half + 0.5) + half), float(whole), size)


def whole_image(width: int, height: int, size: int) -> Crop:
    """The crop that shows all of an image, in the middle, its longer side as long as the network's input.

    To be of `whole_pixels` it may be a few pixels larger.
    """
    return whole_pixels((width - 1) / 2, (height - 1) / 2, max(width, height), size, cover=True)


def landmark_boxes(points: ArrayLike) -> FloatArray:
    """Tight (..., 4) xyxy boxes around (..., K, 2) landmarks."""
    points = np.asarray(points, np.float64)
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def box_iou(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """(N, M) intersection over union of (N, 4) and (M, 4) xyxy boxes."""
    shared, first, second = _areas(a, b)
    return np.asarray(shared / np.maximum(first + second - shared, 1e-12))


def share_inside(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """(N, M) which share of the area of each of (N, 4) xyxy boxes lies in each of (M, 4)."""
    shared, first, _ = _areas(a, b)
    return np.asarray(shared / np.maximum(first, 1e-12))


def _areas(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(N, M) areas that boxes share, and (N, 1) and (1, M) their own."""
    first = np.asarray(a, np.float64).reshape(-1, 1, 4)
    second = np.asarray(b, np.float64).reshape(1, -1, 4)
    overlap = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    own = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    return overlap.clip(0).prod(-1), own[0], own[1]


def compare_pairs(
    before: NDArray[np.floating], after: NDArray[np.floating], least: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find pairs of points that exchange places from one frame to the next.

    Args:
        before: (..., P, 2, 2) the two points of P pairs, x then y.
        after: likewise, in the next frame.
        least: distance of two points below which they are at one place.

    Returns:
        exchanged: (..., P) whether both points are apart before and after, and each is nearer to where the other one
            was than to where it was itself.
        apart: (..., P) whether the points are apart before and after.
    """
    own, other = (np.linalg.norm(after - place, axis=-1) for place in (before, before[..., ::-1, :]))
    apart = np.logical_and(*(np.linalg.norm(np.diff(p, axis=-2)[..., 0, :], axis=-1) >= least for p in (before, after)))
    return np.asarray((other < own).all(axis=-1) & apart), np.asarray(apart)
