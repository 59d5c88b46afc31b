"""Arrays that are images: what is accepted, and how it becomes 8-bit BGR."""

from __future__ import annotations

import logging
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError

__all__ = ["as_bgr", "depth_of", "to_8_bits", "to_unsigned"]

_LOG = logging.getLogger(__name__)
_DEPTHS = (8, 10, 12, 14, 16)
"""Bits of the sensors whose values come in 16-bit arrays."""
_told: set[int] = set()


def as_bgr(image: Any, depth: int = 8) -> NDArray[np.uint8]:
    """Check an image and return it as (H, W, 3) BGR uint8.

    Accepts arrays of uint8, or of uint16 (see `to_8_bits`): (H, W, 3) BGR as OpenCV reads them, (H, W, 4) BGRA (alpha
    is dropped), (H, W) or (H, W, 1) grey. An image that is in the right form already is returned as it is.

    Args:
        image: an array.
        depth: of uint16 at least, see `to_8_bits`.

    Raises:
        InputError: anything else; the message says what is accepted.
    """
    accepted = "expected uint8 of shape (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, as cv2.imread returns"
    if not isinstance(image, np.ndarray):
        raise InputError(f"image is {type(image).__name__}, not an array; {accepted}")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"image has dtype {image.dtype}; {accepted} (a float image in [0, 1]: multiply by 255 first)")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in image.shape:
        raise InputError(f"image has shape {image.shape}; {accepted}")
    shallow: NDArray[np.uint8] = to_8_bits(image, depth) if image.dtype == np.uint16 else image
    if channels == 3:
        return shallow
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(shallow, code), np.uint8)


def depth_of(image: Any) -> int:
    """Bits that the largest value of a uint16 image needs: 8, 10, 12, 14 or 16; 8 of anything else."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint16 or not image.size:
        return _DEPTHS[0]
    needed = int(image.max()).bit_length()
    return next(bits for bits in _DEPTHS if bits >= needed)


def to_8_bits(image: NDArray[np.uint16], depth: int = 8) -> NDArray[np.uint8]:
    """Scale an image of 8 to 16 bits a value to 8, by how many its largest value needs: 8, 10, 12, 14 or 16.

    Cameras store 10, 12 or 14 bits in 16, where the picture would be all but black if it was taken for 16. An image
    that is as dark as that in earnest becomes brighter; scale it yourself where that matters.

    Args:
        image: of any shape.
        depth: bits at least. Frames of a video are scaled by what those before them needed, too: by each one alone, the
            brightness would change from frame to frame.
    """
    depth = max(depth, depth_of(image))
    if depth < 16 and depth not in _told:
        _told.add(depth)
        needed = int(image.max()).bit_length()
        _LOG.warning("an image has 16-bit values that need %d bits: taken as %d bits, and scaled to 8", needed, depth)
    return (image >> (depth - 8)).astype(np.uint8)


def to_unsigned(image: NDArray[Any]) -> NDArray[np.uint8 | np.uint16]:
    """Values of a file as uint8 or uint16: those of floating point from 0 to 1 times 255, whole numbers as they are.

    Raises:
        InputError: they are neither.
    """
    if image.dtype in (np.uint8, np.uint16):
        return image
    low, high = float(image.min()), float(image.max())
    if np.issubdtype(image.dtype, np.floating) and low >= -0.5 / 255 and high <= 1 + 0.5 / 255:
        return np.asarray(np.rint(image * 255).clip(0, 255), np.uint8)
    if low >= 0 and high < 1 << 16 and np.array_equal(image, np.rint(image)):
        return image.astype(np.uint8 if image.dtype.itemsize == 1 else np.uint16)
    raise InputError(
        f"has {image.dtype} values from {low:g} to {high:g}; expected 0 to 1, or whole numbers from 0 to 65535; scale "
        "them to 8 bits"
    )
