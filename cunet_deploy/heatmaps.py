"""Heatmaps: points to maps and back. The one definition, used for training targets and on the device.

Coordinates are pixels of the map, x then y, with (0, 0) at the centre of the top-left cell. A cell of a map of stride
``s`` covers ``s`` input pixels, so map coordinate h is input coordinate ``(h + 0.5) * s - 0.5``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError

__all__ = ["Decoder", "decode", "encode", "input_to_map", "map_to_input"]

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Decoder:
    """How a peak is read from a map: see `decode`.

    Attributes:
        radius: half-width, in cells, of the window around the highest cell that decides the sub-cell position.
    """

    radius: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.radius <= 8:
            raise InputError(f"decoder: radius from 1 to 8 expected, got {self.radius}")


def input_to_map(points: ArrayLike, stride: int) -> NDArray[np.float64]:
    """Network input coordinates to map coordinates."""
    return (np.asarray(points, np.float64) + 0.5) / stride - 0.5


def map_to_input(points: ArrayLike, stride: int) -> NDArray[np.float64]:
    """Map coordinates to network input coordinates."""
    return (np.asarray(points, np.float64) + 0.5) * stride - 0.5


def encode(points: ArrayLike, size: int, sigma: float) -> Float32Array:
    """Gaussians of peak 1 around points.

    Args:
        points: (..., 2) map coordinates; a point that is not finite gives an empty map, one outside the map leaves
            what of its Gaussian reaches into it.
        size: side of the square maps.
        sigma: standard deviation in map cells.

    Returns:
        (..., size, size) float32 in [0, 1].
    """
    if sigma <= 0:
        raise InputError(f"sigma must be positive, got {sigma}")
    cells = np.arange(size, dtype=np.float32)
    points = np.asarray(points, np.float32)
    with np.errstate(invalid="ignore"):
        profile = np.exp(-((cells - points[..., None]) ** 2) / np.float32(2 * sigma**2))  # (..., 2, size)
    profile = np.nan_to_num(profile, nan=0.0)
    maps: Float32Array = profile[..., 1, :, None] * profile[..., 0, None, :]
    return maps


def decode(maps: NDArray[np.floating], decoder: Decoder) -> tuple[Float32Array, Float32Array]:
    """The landmark of each map: the highest cell, moved to the top of the Gaussian around it.

    The window around the highest cell is summed over its rows and over its columns; a parabola through the logarithm of
    the middle three values of each sum has its top at the landmark. For a Gaussian that is exact, whatever its width,
    and the sums average noise and the steps of a quantized map.

    Args:
        maps: (..., H, W) heatmaps.
        decoder: the size of the window.

    Returns:
        points: (..., 2) float32 map coordinates. A map without a positive cell gives its centre.
        scores: (...) float32, the highest value, clipped to [0, 1].
    """
    lead, (height, width), radius = maps.shape[:-2], maps.shape[-2:], decoder.radius
    flat = np.ascontiguousarray(maps, np.float32).reshape(-1, height * width)
    first = np.arange(len(flat)) * (height * width)  # where each map begins in one long row
    highest = flat.argmax(axis=1)
    rows, columns = np.divmod(highest, width)
    scores = flat.ravel()[first + highest]

    reach = np.arange(-radius, radius + 1)
    near_border = min(rows.min(initial=radius), columns.min(initial=radius)) < radius or (
        max(rows.max(initial=0) - height, columns.max(initial=0) - width) >= -radius
    )
    if near_border:
        window = _window_at_border(flat.reshape(-1, height, width), rows, columns, reach)
    else:  # one lookup, and nothing to mask
        offsets = (reach[:, None] * width + reach).ravel()
        window = flat.ravel()[(first + highest)[:, None] + offsets].reshape(-1, len(reach), len(reach))
    window = np.maximum(window, 0)

    shift = _top_of_log_parabola(np.concatenate([window.sum(axis=1), window.sum(axis=2)]))
    points = np.stack([columns + shift[: len(flat)], rows + shift[len(flat) :]], axis=-1).astype(np.float32)
    if len(scores) and scores.min() <= 0:
        points[scores <= 0] = ((width - 1) / 2, (height - 1) / 2)
    return points.reshape(*lead, 2), np.minimum(np.maximum(scores, 0), 1).reshape(lead)


def _window_at_border(maps: Float32Array, rows: IntArray, columns: IntArray, reach: IntArray) -> Float32Array:
    """(M, 2r+1, 2r+1) values around a cell of each map, zero outside the map."""
    height, width = maps.shape[1:]
    y, x = (rows[:, None] + reach)[:, :, None], (columns[:, None] + reach)[:, None]
    values = maps[np.arange(len(maps))[:, None, None], y.clip(0, height - 1), x.clip(0, width - 1)]
    return np.asarray(np.where((y >= 0) & (y < height) & (x >= 0) & (x < width), values, 0), np.float32)


def _top_of_log_parabola(profile: Float32Array) -> Float32Array:
    """Where, relative to the middle, the parabola through the log of the middle three of (M, 2r+1) values is highest.

    Values far below the middle one are lifted to a hundredth of it, so that an empty neighbour does not pull the top
    without bound; the result stays within half a cell, where the highest cell says it must be.
    """
    middle = profile.shape[1] // 2
    values = profile[:, middle - 1 : middle + 2]
    floor = np.maximum(values.max(axis=1, keepdims=True, initial=0) * np.float32(0.01), np.float32(1e-12))
    left, top, right = np.log(np.maximum(values, floor)).T
    curvature = 2 * top - left - right
    shift = (right - left) / (2 * np.maximum(curvature, np.float32(1e-6)))
    return np.asarray(np.minimum(np.maximum(shift, -0.5), 0.5), np.float32)
