"""Image to network input. The only preprocessing there is: training, calibration and verification import it.

The network reads ``(image - 128) / 128`` of a BGR crop. So 128 is zero: the value of the border that the crop adds
where it leaves the image is also what convolutions pad with, and ``image - 128`` is exactly the signed 8-bit tensor
that a symmetric quantizer wants, as ``image`` with zero point 128 is the unsigned one.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import Crop

__all__ = ["BORDER", "as_bgr", "sample"]

BORDER = 128
"""Grey level that stands for zero, in the normalization and outside the image."""

_EXACT = 1e-6
"""Pixels and shares below which a number is rounding."""

UInt8Array = NDArray[np.uint8]


def as_bgr(image: Any) -> UInt8Array:
    """Check an image and return it as (H, W, 3) BGR uint8.

    Accepts uint8 arrays: (H, W, 3) BGR as OpenCV reads them, (H, W, 4) BGRA (alpha is dropped), (H, W) or (H, W, 1)
    grey.

    Raises:
        InputError: anything else; the message says what is accepted.
    """
    accepted = "expected uint8 of shape (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, as cv2.imread returns"
    if not isinstance(image, np.ndarray):
        raise InputError(f"image is {type(image).__name__}, not an array; {accepted}")
    if image.dtype != np.uint8:
        raise InputError(f"image has dtype {image.dtype}; {accepted} (a float image in [0, 1]: multiply by 255 first)")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in image.shape:
        raise InputError(f"image has shape {image.shape}; {accepted}")
    if channels == 3:
        return image
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def sample(image: UInt8Array, crop: Crop) -> UInt8Array:
    """Sample a crop bilinearly; where it shrinks the image by two or more, average whole blocks of pixels first.

    Args:
        image: (H, W, 3) uint8.
        crop: where and how large.

    Returns:
        (size, size, 3) uint8; `BORDER` outside the image.
    """
    factor = int(1 / crop.scale)
    if factor >= 2:
        image, matrix = _shrink(image, crop, factor)
        square = _square_of(matrix, crop.size)
    else:
        square = _square(crop.center[0], crop.center[1], crop.side) if crop.angle == 0 else None
        matrix = None
    if square is not None:
        part = _piece(image, *square)
        # beyond the middle of its outermost pixels the piece is not mixed with its neighbours in the image
        if len(part) == crop.size:
            return part.copy()  # callers may write into what they get
        return np.asarray(cv2.resize(part, (crop.size, crop.size), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(
        cv2.warpAffine(
            image,
            crop.matrix() if matrix is None else matrix,
            (crop.size, crop.size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(BORDER, BORDER, BORDER),
        ),
        np.uint8,
    )


def _square(x: float, y: float, side: float) -> tuple[int, int, int] | None:
    """Left, top and side of a square around a middle; ``None`` where it holds parts of pixels."""
    half = (side - 1) / 2
    exact = (x - half, y - half, side)
    whole = (round(exact[0]), round(exact[1]), round(side))
    off = max(abs(exact[0] - whole[0]), abs(exact[1] - whole[1]), abs(side - whole[2]))
    return whole if off < _EXACT else None


def _square_of(matrix: NDArray[np.float64], size: int) -> tuple[int, int, int] | None:
    """The same of what an input of a size shows by a matrix, which may also turn."""
    (a, b, x), (c, d, y) = matrix.tolist()
    if b or c or abs(a - d) > _EXACT * a:
        return None
    middle = (size - 1) / 2
    return _square((middle - x) / a, (middle - y) / a, size / a)


def _piece(image: UInt8Array, left: int, top: int, side: int) -> UInt8Array:
    """(side, side, 3) pixels of an image, perhaps its own, that may lie outside it."""
    right, bottom = left + side, top + side
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inside.shape[:2] == (side, side):
        return inside
    piece = np.full((side, side, 3), BORDER, np.uint8)
    y, x = max(-top, 0), max(-left, 0)
    piece[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return piece


def _shrink(image: UInt8Array, crop: Crop, factor: int) -> tuple[UInt8Array, NDArray[np.float64]]:
    """The part of the image that the crop sees, ``factor`` times smaller, and the matrix from there to the input."""
    height, width = image.shape[:2]
    radians = math.radians(crop.angle)
    half = crop.side / 2 * (abs(math.cos(radians)) + abs(math.sin(radians))) + factor
    left, right = _whole_blocks(crop.center[0] - half, crop.center[0] + half, width, factor)
    top, bottom = _whole_blocks(crop.center[1] - half, crop.center[1] + half, height, factor)
    if right <= left or bottom <= top:  # the crop does not touch the image
        return np.full((1, 1, 3), BORDER, np.uint8), np.array([[1.0, 0, 0], [0, 1.0, 0]])
    part = image[top:bottom, left:right]
    size = (math.ceil((right - left) / factor), math.ceil((bottom - top) / factor))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    shrink = np.array([(right - left) / size[0], (bottom - top) / size[1]])
    # small pixel u is image pixel (u + 0.5) * shrink - 0.5 + (left, top)
    matrix = crop.matrix()
    offset = matrix[:, :2] @ (0.5 * shrink - 0.5 + np.array([left, top])) + matrix[:, 2]
    return np.asarray(small, np.uint8), np.column_stack([matrix[:, :2] * shrink, offset])


def _whole_blocks(low: float, high: float, limit: int, factor: int) -> tuple[int, int]:
    """Pixels ``low`` to ``high`` of a row of ``limit``, widened to a multiple of ``factor`` where there is room.

    Averaging whole blocks is three times faster than averaging fractions of pixels.
    """
    start, stop = (min(max(math.floor(value), 0), limit) for value in (low, high + 1))
    missing = -(stop - start) % factor
    after = min(missing, limit - stop)
    before = min(missing - after, start)
    return start - before, stop + after
