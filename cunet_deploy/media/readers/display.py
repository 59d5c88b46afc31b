"""Decoded video frames as players show them: upright, with square pixels, in the colours of an ordinary screen.

The YUV values are turned into BGR by FFmpeg's swscale with exact rounding (`_EXACT`), which gives the same bits on
every kind of processor, by the matrix and range that the file states. Where it states none, players take BT.709 for
high definition and BT.601 for the rest. HDR video is mapped to the range of an ordinary screen.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.media._libav import load_av

if TYPE_CHECKING:
    from fractions import Fraction

    from av import VideoFrame

__all__ = ["PictureConverter", "display_matrix_turn", "shown_size"]

_BILINEAR, _ACCURATE_ROUNDING, _BITEXACT, _FULL_CHROMA = 0x2, 0x40000, 0x80000, 0x2000
_EXACT = _BILINEAR | _ACCURATE_ROUNDING | _BITEXACT | _FULL_CHROMA
"""Flags of swscale. Planar output (``gbrp``) has fast code for them, packed BGR has not: half the time in all."""

_UNSPECIFIED, _BT709 = 2, 1  # AVColorSpace
_HIGH_DEFINITION = (1280, 576)
"""Wider or higher than that, players take BT.709 for video that does not state its matrix."""

_PQ, _HLG = 16, 18  # AVColorTransferCharacteristic
_WHITE_NITS, _PEAK_NITS, _KNEE = 203.0, 1000.0, 0.6
_BT2020_TO_BT709 = np.array(  # rows and columns are B, G, R
    [[1.1187, -0.1006, -0.0182], [-0.0083, 1.1329, -0.1246], [-0.0728, -0.5876, 1.6605]], np.float32
)

_MOST_STRETCH = 8.0
"""A sample aspect ratio beyond that is taken for a mistake of the file's writer."""

_Turn = tuple[bool, bool, bool]
_UPRIGHT: _Turn = (False, False, False)
_TURNS: dict[int, _Turn] = {1: (True, False, True), 2: (False, True, True), 3: (True, True, False)}
"""Steps that undo a turn to the left, for each number of quarters of one."""
_ORIENTATIONS: dict[int, _Turn] = {
    1: _UPRIGHT,
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""Steps for each EXIF orientation."""


def shown_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) with square pixels: one side is enlarged, so that no detail is lost.

    Args:
        width: of the coded picture.
        height: of the coded picture.
        aspect: width of a pixel by its height; ``None`` or 0: unknown, taken as square.
    """
    if not aspect or not 1 / _MOST_STRETCH <= aspect <= _MOST_STRETCH:
        return width, height
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def display_matrix_turn(matrix: bytes | None) -> _Turn:
    """Decompose a display matrix: (transpose, then flip left and right, then flip up and down).

    Args:
        matrix: nine int32 as FFmpeg stores them; ``None``: none.
    """
    if matrix is None or len(matrix) < 36:
        return _UPRIGHT
    a, b, _, c, d = np.frombuffer(matrix[:20], np.int32).astype(np.int64).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


class PictureConverter:
    """Turns the decoded frames of one video into pictures. Not for several threads at once."""

    def __init__(self, aspect: Fraction | None) -> None:
        """Take what the container says.

        Args:
            aspect: width of a pixel by its height, see `shown_size`.
        """
        self._aspect = aspect
        self._reformatter: Any = load_av().video.reformatter.VideoReformatter()

    def convert(self, frame: VideoFrame, orientation: int = 0) -> NDArray[np.uint8]:
        """A frame as (H, W, 3) BGR.

        Args:
            frame: of the decoder.
            orientation: that its EXIF data state, 1 to 8; 0: none.
        """
        width, height = shown_size(frame.width, frame.height, self._aspect)
        if frame.colorspace == _UNSPECIFIED and (
            frame.width >= _HIGH_DEFINITION[0] or frame.height > _HIGH_DEFINITION[1]
        ):
            frame.colorspace = _BT709
        planar = self._reformatter.reformat(
            frame, width=width, height=height, format="gbrp", interpolation=_EXACT, threads=1
        )
        green, blue, red = (
            np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, :width] for plane in planar.planes
        )
        image: Any = cv2.merge([blue, green, red])
        if frame.color_trc in (_PQ, _HLG):
            image = _tone_mapped(image, frame.color_trc)
        transpose, mirror, upside_down = _turn_of(frame, orientation)
        if transpose:
            image = cv2.transpose(image)
        if mirror:
            image = cv2.flip(image, 1)
        if upside_down:
            image = cv2.flip(image, 0)
        return np.asarray(image, np.uint8)


def _turn_of(frame: VideoFrame, orientation: int) -> _Turn:
    """The turn that a frame states."""
    try:
        side: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV 18.1 knows not all kinds of data beside a frame, such as EXIF data, and then gives none
        # its rotation does not tell whether it is mirrored
        return _ORIENTATIONS.get(orientation) or _TURNS.get(round(frame.rotation / 90) % 4, _UPRIGHT)
    return display_matrix_turn(None if side is None else bytes(side))


def _tone_mapped(image: NDArray[np.uint8], transfer: int) -> NDArray[np.uint8]:
    """HDR values of BT.2020 as those of BT.709 for a screen of ordinary brightness."""
    linear = cv2.transform(_light(transfer)[image], _BT2020_TO_BT709)
    return _shown_values()[
        (linear.clip(0, _PEAK_NITS / _WHITE_NITS) * (4095 * _WHITE_NITS / _PEAK_NITS)).astype(np.int32)
    ]


@functools.cache
def _light(transfer: int) -> NDArray[np.float32]:
    """Light by value of 8 bits, where 1 is the white of an ordinary picture (BT.2408)."""
    value = np.arange(256) / 255
    if transfer == _HLG:
        scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        nits = _PEAK_NITS * scene**1.2
    else:
        root = value ** (1 / 78.84375)
        nits = 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    return np.asarray(nits / _WHITE_NITS, np.float32)


@functools.cache
def _shown_values() -> NDArray[np.uint8]:
    """Values of 8 bits for 4096 steps of light up to the peak: straight to a knee, and a shoulder above it."""
    light = np.arange(4096) / 4095 * _PEAK_NITS / _WHITE_NITS
    above = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    most = (_PEAK_NITS / _WHITE_NITS - _KNEE) / (1 - _KNEE)
    shoulder = _KNEE + (1 - _KNEE) * above * (1 + above / most**2) / (1 + above)
    return np.asarray(np.round(255 * np.where(light < _KNEE, light, shoulder) ** (1 / 2.4)), np.uint8)
