"""Heatmaps: points to maps and back. The one definition, used for training targets and on the device.

Coordinates are pixels of the map, x then y, with (0, 0) at the centre of the top-left cell. A cell of a map of stride
``s`` covers ``s`` input pixels, so map coordinate h is input coordinate ``(h + 0.5) * s - 0.5``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from cunet_deploy._decode import check_fields
from cunet_deploy.errors import InputError

__all__ = ["DECODERS", "Decoder", "DecodingMethod", "decode", "encode", "input_to_map", "map_to_input"]

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Decoder:
    """Settings by which a peak is read from a heatmap: see `decode`.

    Attributes:
        radius: half-width, in cells, of the window around the highest cell that decides the sub-cell position.
        blur: standard deviation, in cells, of a Gaussian that maps are blurred with before; scores are of the maps
            as they are. Of a landmark that may be in several places it finds where most of the map
            lies, and not the highest cell; 0 leaves it out.
        method: a key of `DECODERS`.
    """

    radius: Annotated[int, Meta(ge=1, le=8)] = 1
    blur: Annotated[float, Meta(ge=0, le=8)] = 0.0
    method: str = "log_parabola"

    def __post_init__(self) -> None:
        self.check("decoder:", InputError)

    def check(self, where: str, error: type[InputError]) -> None:
        """Hold the fields to their bounds; see `check_fields`."""
        check_fields(self, where, error)
        if self.method not in DECODERS:
            known = ", ".join(map(repr, DECODERS))
            raise error(f"{where} method must be one of {known}, got {self.method!r}")

    def to_dict(self) -> dict[str, object]:
        """As a manifest has it: what is as it always was is left out, so that files from before it keep their bytes."""
        rest = {"blur": self.blur, "method": self.method}
        return {"radius": self.radius, **{key: value for key, value in rest.items() if value != getattr(Decoder, key)}}

    def kernel(self, size: int) -> Float32Array:
        """(size, size) symmetric matrix that blurs the columns of a map; beyond its edges there is nothing."""
        return _kernel(size, self.blur)


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
    """The landmark of each map, by the method of the decoder.

    Args:
        maps: (..., H, W) heatmaps, H and W at least as large as the window.
        decoder: the method, the size of its window, and whether maps are blurred.

    Returns:
        points: (..., 2) float32 map coordinates. A map without a positive cell gives its centre.
        scores: (...) float32, the highest value, clipped to [0, 1].

    Raises:
        InputError: the maps are smaller than the window.
    """
    return DECODERS[decoder.method].decode(maps, decoder)


def _log_parabola(maps: NDArray[np.floating], decoder: Decoder) -> tuple[Float32Array, Float32Array]:
    """The highest cell, moved to the top of the Gaussian around it.

    The window around the highest cell is summed over its rows and over its columns; a parabola through the logarithm
    of the three values around that cell in each sum has its top at the landmark. For a Gaussian that is exact, whatever
    its width, and the sums average noise and the steps of a quantized map.
    """
    lead, (height, width), radius = maps.shape[:-2], maps.shape[-2:], decoder.radius
    if min(height, width) < 2 * radius + 1:
        raise InputError(f"maps of {height} x {width} cells are smaller than the decoder's window, {2 * radius + 1}")
    # Dozens of calls on small arrays: what each of them costs, after a network has taken the caches, is what counts.
    flat = np.ascontiguousarray(maps, np.float32).reshape(-1, height * width)
    first = np.arange(len(flat)) * (height * width)  # where each map begins in one long row
    highest = flat.argmax(axis=1)
    scores = flat.ravel()[first + highest]
    if decoder.blur:
        # in float64, so that what libraries round otherwise does not decide between cells that are nearly as high
        square, kernels = (
            np.maximum(flat, 0).reshape(-1, height, width),
            (_wide(height, decoder), _wide(width, decoder)),
        )
        # OpenBLAS for Arm processors with SME leaves flags of errors that did not happen
        with np.errstate(all="ignore"):
            blurred = kernels[0] @ (square @ kernels[1])
            flat = np.asarray(blurred, np.float32).reshape(-1, height * width)
        highest = flat.argmax(axis=1)
    peak = np.stack(np.divmod(highest, width)[::-1])  # (2, N) columns and rows

    # The window stays inside the map; at the border the highest cell is not in its middle.
    corner = np.minimum(np.maximum(peak, radius), _last_middles(height, width, radius)) - radius
    offsets = _window(width, radius)
    window = flat.ravel()[(first + corner[1] * width + corner[0])[:, None] + offsets]
    window = np.maximum(window, 0).reshape(-1, 2 * radius + 1, 2 * radius + 1)

    profiles = np.concatenate([window.sum(axis=1), window.sum(axis=2)])
    start, peak = corner.ravel(), peak.ravel()
    middle = np.minimum(np.maximum(peak - start, 1), 2 * radius - 1)
    found = start + middle + _top_of_log_parabola(profiles, middle)
    found = np.minimum(np.maximum(found, peak - 0.5), peak + 0.5)  # where the highest cell says it must be
    points = found.reshape(2, -1).T.astype(np.float32)
    if len(scores) and scores.min() <= 0:
        points[scores <= 0] = ((width - 1) / 2, (height - 1) / 2)
    return points.reshape(*lead, 2), np.minimum(np.maximum(scores, 0), 1).reshape(lead)


@functools.lru_cache(maxsize=8)
def _kernel(size: int, blur: float) -> Float32Array:
    distances = np.arange(size)[:, None] - np.arange(size)
    reach = np.arange(-8 * math.ceil(blur), 8 * math.ceil(blur) + 1)  # all that a Gaussian in float32 has
    weights = np.exp(-(distances**2) / (2 * blur**2)) / np.exp(-(reach**2) / (2 * blur**2)).sum()
    return np.asarray(weights, np.float32)


@functools.lru_cache(maxsize=8)
def _wide(size: int, decoder: Decoder) -> NDArray[np.float64]:
    return decoder.kernel(size).astype(np.float64)


@functools.lru_cache(maxsize=8)
def _last_middles(height: int, width: int, radius: int) -> NDArray[np.intp]:
    """(2, 1) column and row of the last cell that can be the middle of a window."""
    return np.array([[width - 1 - radius], [height - 1 - radius]])


@functools.lru_cache(maxsize=8)
def _window(width: int, radius: int) -> NDArray[np.intp]:
    """(W * W,) offsets of the cells of a window from its corner, in one long row of maps of this width."""
    reach = np.arange(2 * radius + 1)
    return np.asarray((reach[:, None] * width + reach).ravel())


def _top_of_log_parabola(profiles: Float32Array, middle: NDArray[np.intp]) -> Float32Array:
    """Offset from ``middle`` at which the parabola through the log of three neighbouring values is highest.

    Values far below the highest are lifted to a hundredth of it, so that an empty cell does not pull without bound.

    Args:
        profiles: (M, 2r+1) values.
        middle: (M,) index of the second of the three.
    """
    values = profiles
    if profiles.shape[1] > 3:
        begin = np.arange(len(profiles)) * profiles.shape[1] + middle
        values = profiles.ravel()[begin[:, None] + np.arange(-1, 2)]
    floor = np.maximum(values.max(axis=1, keepdims=True, initial=0) * np.float32(0.01), np.float32(1e-12))
    # in float64: where the three are nearly alike, the last bit of a float32 would move the top by hundredths of a cell
    left, top, right = np.log(np.maximum(values, floor).astype(np.float64)).T
    curvature = 2 * top - left - right
    peaked = curvature > 1e-6
    shift = (right - left) / (2 * np.where(peaked, curvature, 1))
    return np.asarray(np.where(peaked, shift, values.argmax(axis=1) - 1), np.float32)


@dataclass(frozen=True)
class DecodingMethod:
    """A way to read landmarks from maps.

    Attributes:
        decode: what `decode` does by this method.
        nodes: ``MODULE:FUNCTION`` that writes the same as nodes of an ONNX graph, see `cunet_deploy.export.decoding`;
            empty: there is none, so ``export --decode`` is refused.
    """

    decode: Callable[[NDArray[np.floating], Decoder], tuple[Float32Array, Float32Array]]
    nodes: str = ""


DECODERS = {"log_parabola": DecodingMethod(_log_parabola, "cunet_deploy.export.decoding:log_parabola")}
"""Decoders by ``[heatmap] method``, which a manifest keeps."""
