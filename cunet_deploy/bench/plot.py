"""The stages of each row as a picture: one bar a row, its stages stacked, and how near it comes to the peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Bar", "draw_bars"]

# Okabe and Ito's palette, BGR: told apart in every common kind of colour vision. A stage always has the same.
_COLOURS = {
    "read": (66, 228, 240),
    "detect": (167, 121, 204),
    "crop": (0, 159, 230),
    "network": (233, 180, 86),
    "decode": (115, 158, 0),
    "track": (178, 114, 0),
    "draw": (190, 190, 190),
}
_OTHER = (160, 160, 160)
_INK, _FAINT, _PAPER = (40, 40, 40), (205, 205, 205), (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_TITLE, _TEXT, _SMALL = 0.8, 0.6, 0.5
_WIDTH, _MARGIN, _ROW, _BAR = 1600, 30, 78, 34
_TOP, _BOTTOM = 130, 70
_TICKS = 6


@dataclass(frozen=True)
class Bar:
    """One row.

    Attributes:
        label: the model and how it ran.
        stages_ms: of each stage, in order.
        note: what stands below the bar, such as the fraction of the peak.
    """

    label: str
    stages_ms: dict[str, float]
    note: str = ""

    @property
    def total_ms(self) -> float:
        """Length of the bar."""
        return sum(self.stages_ms.values())


def draw_bars(title: str, bars: Sequence[Bar]) -> NDArray[np.uint8]:
    """A picture, (H, 1600, 3) BGR uint8, of bars below each other on one axis of milliseconds.

    Args:
        title: above all; what is not ASCII becomes a question mark, since OpenCV has no letters for it.
        bars: at least one, all with the same stages.
    """
    height = _TOP + _ROW * len(bars) + _BOTTOM
    canvas = np.full((height, _WIDTH, 3), _PAPER, np.uint8)
    longest = max(_size(bar.label, _TEXT) for bar in bars)
    left = _MARGIN + min(longest, _WIDTH // 3) + 20
    right = _WIDTH - _MARGIN - 130  # room for the sum behind the longest bar
    step = _round_step(max(max(bar.total_ms for bar in bars), 1e-6) / _TICKS)
    scale = (right - left) / max(max(bar.total_ms for bar in bars), 1e-6)
    _write(canvas, _cut(title, _WIDTH - 2 * _MARGIN, _TITLE), (_MARGIN, 45), _TITLE)
    _draw_legend(canvas, list(bars[0].stages_ms), (left, 90))
    _draw_axis(canvas, left, right, step, scale)
    for index, bar in enumerate(bars):
        _draw_bar(canvas, bar, _TOP + _ROW * index, left, scale)
    return canvas


def _draw_bar(canvas: NDArray[np.uint8], bar: Bar, top: int, left: int, scale: float) -> None:
    label = _cut(bar.label, left - _MARGIN - 20, _TEXT)
    _write(canvas, label, (left - 12 - _size(label, _TEXT), top + _BAR // 2 + 6), _TEXT)
    begin = 0.0
    for stage, ms in bar.stages_ms.items():
        end = begin + ms
        corners = (left + round(begin * scale), top), (left + round(end * scale) - 1, top + _BAR)
        if corners[1][0] >= corners[0][0]:
            cv2.rectangle(canvas, *corners, _COLOURS.get(stage, _OTHER), cv2.FILLED)
        text = f"{ms:.2f}"
        if _size(text, _SMALL) + 8 <= corners[1][0] - corners[0][0]:
            middle = (corners[0][0] + corners[1][0] - _size(text, _SMALL)) // 2
            _write(canvas, text, (middle, top + _BAR // 2 + 6), _SMALL)
        begin = end
    _write(canvas, f"{bar.total_ms:.2f} ms", (left + round(begin * scale) + 10, top + _BAR // 2 + 6), _TEXT)
    behind = (left + 4, top + _BAR + 6), (left + 4 + _size(bar.note, _SMALL), top + _BAR + 26)
    cv2.rectangle(canvas, *behind, _PAPER, cv2.FILLED)  # the lines of the axis do not run through it
    _write(canvas, bar.note, (left + 4, top + _BAR + 21), _SMALL)


def _draw_legend(canvas: NDArray[np.uint8], stages: Sequence[str], place: tuple[int, int]) -> None:
    x, y = place
    for stage in stages:
        cv2.rectangle(canvas, (x, y - 14), (x + 18, y + 4), _COLOURS.get(stage, _OTHER), cv2.FILLED)
        _write(canvas, stage, (x + 26, y + 2), _TEXT)
        x += 26 + _size(stage, _TEXT) + 30


def _draw_axis(canvas: NDArray[np.uint8], left: int, right: int, step: float, scale: float) -> None:
    bottom = canvas.shape[0] - _BOTTOM
    digits = max(-int(np.floor(np.log10(step))), 0)
    for tick in range(int((right - left) / scale / step + 1e-9) + 1):
        x = left + round(tick * step * scale)
        cv2.line(canvas, (x, _TOP - 10), (x, bottom), _FAINT, 1)
        text = f"{tick * step:.{digits}f}"
        _write(canvas, text, (x - _size(text, _SMALL) // 2, bottom + 22), _SMALL)
    _write(canvas, "ms a call", (right + 20, bottom + 22), _SMALL)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9)))


def _size(text: str, size: float) -> int:
    """Pixels that a text is wide."""
    return int(cv2.getTextSize(_plain(text), _FONT, size, 1)[0][0])


def _cut(text: str, room: int, size: float) -> str:
    """A text that fits into ``room`` pixels, its beginning left out if need be: paths differ at their ends."""
    if _size(text, size) <= room:
        return text
    while text and _size("..." + text, size) > room:
        text = text[1:]
    return "..." + text


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def _write(canvas: NDArray[np.uint8], text: str, place: tuple[int, int], size: float) -> None:
    cv2.putText(canvas, _plain(text), place, _FONT, size, _INK, 1, cv2.LINE_AA)
