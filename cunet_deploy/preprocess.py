"""Image to network input. The only preprocessing there is: training, calibration and verification import it.

The network reads ``(image - 128) / 128`` of a BGR crop. So 128 is zero: the value of the border that the crop adds
where it leaves the image is also what convolutions pad with, and ``image - 128`` is exactly the signed 8-bit tensor
that a symmetric quantizer wants, as ``image`` with zero point 128 is the unsigned one.

Every processor gives the same pixels. What rounds differently on some of them, such as OpenCV's ``INTER_LINEAR`` of
bytes and ``INTER_AREA`` by fractions, is not used here; `_halve`, `_bilinear` and `_turned` say why what is used does
not.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.geometry import Crop, halvings

__all__ = ["BORDER", "sample", "shrink"]

BORDER = 128
"""Grey level that stands for zero, in the normalization and outside the image."""

_ROUNDING = 1e-6
"""Pixels below which the distance to a whole number is rounding."""
_MAP_BITS = 5
"""OpenCV's fixed-point maps hold steps of 1/32 pixel."""
_AT_ONCE = 1 << 14
"""Pixels of a map that are computed at once: larger arrays would be memory of which the system clears every page."""
_COORDINATE_BITS = 20
"""Fractional bits of coordinates before they are rounded to these steps."""

_MAX_HALVINGS = 12
"""A crop that would be halved more often, some hundred thousand pixels wide, shows nothing of an image. It comes from a
box in another unit, and would take more memory than there is."""

UInt8Array = NDArray[np.uint8]


def sample(image: UInt8Array, crop: Crop) -> UInt8Array:
    """Sample a crop bilinearly; where it shrinks the image by two or more, average blocks of 2 x 2 pixels first.

    The same on every processor. Squares of whole pixels (`cunet_deploy.geometry.whole_pixels`) are by far the fastest.

    Args:
        image: (H, W, 3) uint8.
        crop: where and how large.

    Returns:
        (size, size, 3) uint8, an array of its own; `BORDER` outside the image.
    """
    times = halvings(crop.side, crop.size)
    if times > _MAX_HALVINGS:
        return np.full((crop.size, crop.size, 3), BORDER, np.uint8)
    square = _square(crop)
    if square is None or square[2] % (1 << times):
        return _turned(image, crop, times)
    left, top, side = square
    # beyond the middle of its outermost pixels the piece is not mixed with its neighbours in the image
    return _bilinear(_blocks(image, left, top, side, times), crop.size)


def shrink(image: UInt8Array, width: int, height: int) -> UInt8Array:
    """Bring an image to another size, the same on every processor.

    Blocks of 2 x 2 pixels are averaged while the image is twice as large or more, then pixels are interpolated.

    Args:
        image: (H, W, 3) uint8; it may also be smaller.
        width: at least 1.
        height: at least 1.

    Returns:
        (height, width, 3) uint8, which may be the given array; its edges are those of the image.
    """
    down = False
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        even = (image.shape[1] // 2 * 2, image.shape[0] // 2 * 2)
        image = _halve(image if image.shape[1::-1] == even else _exact(image, *even), down=down)
        down = not down
    return image if image.shape[:2] == (height, width) else _exact(image, width, height)


def _halve(image: UInt8Array, *, down: bool) -> UInt8Array:
    """(H / 2, W / 2, 3) averages of blocks of 2 x 2 pixels of an image with even sides.

    For this factor OpenCV adds bytes as integers, on every processor, and rounds halves up. An image that is halved
    again and again would become brighter by that, so every second time they are rounded down.
    """
    size = (image.shape[1] // 2, image.shape[0] // 2)
    if down:
        return ~np.asarray(cv2.resize(~image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _halve_often(image: UInt8Array, times: int) -> UInt8Array:
    for time in range(times):
        image = _halve(image, down=time % 2 == 1)
    return image


def _exact(image: UInt8Array, width: int, height: int) -> UInt8Array:
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def _bilinear(part: UInt8Array, size: int) -> UInt8Array:
    """(size, size, 3) from (S, S, 3), S less than twice the size.

    Where ``128 * S / size`` is whole, weights are multiples of 1/256. OpenCV interpolates 16-bit pixels in float32, and
    bytes times two such weights fit in its 24 bits: no sum is rounded, whatever the order, with or without fused
    multiplication, and what is left is one rounding to the nearest, halves to even. That takes less than half the time
    of ``INTER_LINEAR_EXACT``, which computes with 1/256, too, but rounds halves up.
    """
    side = len(part)
    if side == size:
        return part.copy()
    if 128 * side % size:
        return _exact(part, size, size)
    wide = cv2.resize(part.astype(np.uint16), (size, size), interpolation=cv2.INTER_LINEAR)
    return wide.astype(np.uint8)


def _square(crop: Crop) -> tuple[int, int, int] | None:
    """Left, top and side of a crop that covers whole pixels; ``None`` of one that does not or is turned."""
    if crop.angle:
        return None
    half = (crop.side - 1) / 2
    exact = (crop.center[0] - half, crop.center[1] - half, crop.side)
    left, top, side = round(exact[0]), round(exact[1]), round(exact[2])
    off = max(abs(exact[0] - left), abs(exact[1] - top), abs(exact[2] - side))
    return (left, top, side) if off < _ROUNDING and side > 0 else None


def _blocks(image: UInt8Array, left: int, top: int, side: int, times: int) -> UInt8Array:
    """A square of an image, some of it perhaps outside, halved so many times; it may be a view of the image.

    Args:
        image: (H, W, 3).
        left: first column.
        top: first row.
        side: a multiple of ``2 ** times``.
        times: how often it is halved.
    """
    if min(left, top) >= 0 and left + side <= image.shape[1] and top + side <= image.shape[0]:
        return _halve_often(image[top : top + side, left : left + side], times)
    if not times:
        return _piece(image, slice(left, left + side), slice(top, top + side))
    block, count = 1 << times, side >> times
    # the blocks that touch the image, and the pixels in them
    rows, columns = (
        slice(min(max(-start // block, 0), count), max(min(-((start - limit) // block), count), 0))
        for start, limit in ((top, image.shape[0]), (left, image.shape[1]))
    )
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return np.full((count, count, 3), BORDER, np.uint8)
    part = _piece(
        image,
        slice(left + columns.start * block, left + columns.stop * block),
        slice(top + rows.start * block, top + rows.stop * block),
    )
    canvas = np.full((count, count, 3), BORDER, np.uint8)
    canvas[rows, columns] = _halve_often(part, times)
    return canvas


def _piece(image: UInt8Array, columns: slice, rows: slice) -> UInt8Array:
    """Pixels of an image, perhaps its own, that may lie outside it."""
    inside = image[max(rows.start, 0) : max(rows.stop, 0), max(columns.start, 0) : max(columns.stop, 0)]
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    if inside.shape[:2] == shape:
        return inside
    piece = np.full((*shape, 3), BORDER, np.uint8)
    y, x = max(-rows.start, 0), max(-columns.start, 0)
    piece[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return piece


def _turned(image: UInt8Array, crop: Crop, times: int) -> UInt8Array:
    """Sample any crop: OpenCV's maps of steps of 1/32 pixel are read in integers, and so are they made here."""
    block, size = 1 << times, crop.size
    radians = math.radians(crop.angle)
    cos, sin = math.cos(radians), math.sin(radians)
    reach = crop.side / 2 * (abs(cos) + abs(sin) - 1)  # beyond the square that is not turned
    more = math.ceil(reach / block) + 1  # blocks begin at its corner, as where it is not turned
    left, top = (round(middle - (crop.side - 1) / 2) - more * block for middle in crop.center)
    small = _blocks(image, left, top, (math.ceil(crop.side / block) + 2 * more) * block, times)

    def fixed(value: float) -> int:
        return round(value / block * (1 << _COORDINATE_BITS))

    (x, y), scale = crop.to_image([0.0, 0.0]).tolist(), crop.scale
    across, down = fixed(cos / scale), fixed(sin / scale)
    # small pixel u is image pixel (u + 0.5) * block - 0.5 + left; half a step more, as shifting rounds down
    half = 1 << (_COORDINATE_BITS - _MAP_BITS - 1)
    start = [fixed(value + 0.5 - edge - block / 2) + half for value, edge in ((x, left), (y, top))]
    pixels, shares = np.empty((size, size, 2), np.int16), np.empty((size, size), np.uint16)
    steps, part, count = np.arange(size, dtype=np.int64), (1 << _MAP_BITS) - 1, max(_AT_ONCE // size, 1)
    for lines in (slice(first, first + count) for first in range(0, size, count)):
        columns = start[0] + across * steps - (down * steps[lines])[:, None] >> _COORDINATE_BITS - _MAP_BITS
        rows = start[1] + down * steps + (across * steps[lines])[:, None] >> _COORDINATE_BITS - _MAP_BITS
        pixels[lines, :, 0], pixels[lines, :, 1] = columns >> _MAP_BITS, rows >> _MAP_BITS
        shares[lines] = (rows & part) << _MAP_BITS | columns & part
    outside = (BORDER, BORDER, BORDER)
    found = cv2.remap(small, pixels, shares, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)
    return np.asarray(found, np.uint8)
