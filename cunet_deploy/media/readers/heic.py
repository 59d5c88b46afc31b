"""HEIC photos, as phones write them: HEVC pictures, decoded by FFmpeg's libraries (PyAV), alone or in tiles."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.media._libav import load_av
from cunet_deploy.media.readers.display import PictureConverter
from cunet_deploy.media.readers.heif import HeifItems, turned

__all__ = ["decode_heic", "is_heic"]

_HEVC = (b"hvc1", b"hev1")
_GRID, _CONFIGURATION, _COLOUR, _COLOUR_CODES = b"grid", b"hvcC", b"colr", b"nclx"
_UNSPECIFIED, _BT601, _FULL_RANGE, _LIMITED_RANGE = 2, 6, 2, 1
"""Matrix and range of pictures that state none are those of JPEG."""
_LONGEST_CONFIGURATION = 1 << 14
"""Bytes of the parameters of an encoder, which have some hundred, and which each tile reads again."""


def is_heic(items: HeifItems) -> bool:
    """Return whether the main picture of a file is one of HEVC, or made of such tiles."""
    kind = items.kind_of(items.tiles[0]) if items.kind == _GRID and items.tiles else items.kind
    return kind in _HEVC


def decode_heic(items: HeifItems, most_pixels: int) -> NDArray[np.uint8] | None:
    """The main picture as (H, W, 3) BGR, as it is meant to be seen; ``None`` where it is damaged.

    Args:
        items: of a file for which `is_heic` holds.
        most_pixels: a picture of more counts as damaged.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """
    decoder = _Decoder(most_pixels)
    shown = items.properties(items.main)
    image = _grid(items, decoder, most_pixels) if items.kind == _GRID else decoder.decode(items, items.main, shown)
    return None if image is None else turned(image, items.turns)


class _Decoder:
    """Decodes single pictures."""

    def __init__(self, most_pixels: int) -> None:
        av = load_av()
        self._open = av.CodecContext.create
        self._packet = av.Packet
        # what damaged pictures raise
        self._failures = (av.error.FFmpegError, OSError, ValueError, IndexError, NotImplementedError)
        self._most_pixels = most_pixels
        self._converter = PictureConverter(None)

    def decode(self, items: HeifItems, item: int, shown: list[tuple[bytes, bytes]]) -> NDArray[np.uint8] | None:
        """An item as it is stored, in the colours that the properties of the whole picture or its own say."""
        own = items.properties(item)
        content, configuration = items.content(item), dict(own).get(_CONFIGURATION)
        if not content or not configuration or len(configuration) > _LONGEST_CONFIGURATION:
            return None
        context = self._open("hevc", "r")
        context.extradata = configuration
        context.thread_count = 1
        context.options = {"max_pixels": str(self._most_pixels)}
        try:
            frames = [*context.decode(self._packet(content)), *context.decode(None)]
            if len(frames) != 1:
                return None
            _state_colours(frames[0], [*own, *shown])
            return self._converter.convert(frames[0])
        except self._failures:
            return None


def _state_colours(frame: Any, properties: list[tuple[bytes, bytes]]) -> None:
    """Give a frame the matrix and range of values that the container states, else its own or the usual."""
    codes = next((text for kind, text in properties if kind == _COLOUR and text[:4] == _COLOUR_CODES), b"")
    matrix = int.from_bytes(codes[8:10], "big") if len(codes) >= 11 else int(frame.colorspace)
    frame.colorspace = _BT601 if matrix == _UNSPECIFIED else matrix
    if len(codes) >= 11:
        frame.color_range = _FULL_RANGE if codes[10] & 0x80 else _LIMITED_RANGE
    elif not int(frame.color_range):
        frame.color_range = _FULL_RANGE


def _grid(items: HeifItems, decoder: _Decoder, most_pixels: int) -> NDArray[np.uint8] | None:
    """A picture that is made of equal tiles, row by row; those at the right and bottom may reach beyond it."""
    layout = items.content(items.main) or b""
    side = 4 if layout[1:2] == b"\1" else 2
    if len(layout) < 4 + 2 * side:
        return None
    rows, columns = layout[2] + 1, layout[3] + 1
    width, height = (int.from_bytes(layout[start : start + side], "big") for start in (4, 4 + side))
    times = Counter(items.tiles)
    if items.overlap(times) or len(items.tiles) != rows * columns or not 0 < width * height <= most_pixels:
        return None
    shown = items.properties(items.main)
    image = np.empty((height, width, 3), np.uint8)
    across = down = 0  # sides of a tile
    again: dict[int, NDArray[np.uint8]] = {}  # a small file may name one tile thousands of times
    for number, item in enumerate(items.tiles):
        tile = again[item] if item in again else decoder.decode(items, item, shown)
        if tile is None:
            return None
        if times[item] > 1:
            again[item] = tile
        if not number:
            down, across = tile.shape[:2]
            if not ((columns - 1) * across < width <= columns * across and (rows - 1) * down < height <= rows * down):
                return None
        if tile.shape[:2] != (down, across):
            return None
        top, left = number // columns * down, number % columns * across
        image[top : top + down, left : left + across] = tile[: height - top, : width - left]
    return image
