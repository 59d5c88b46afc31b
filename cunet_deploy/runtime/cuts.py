"""Cuts between shots: what was followed before one is not there any more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CutDetector"]

_GRID = 24
"""Pixels of the picture that are compared, along its shorter side; more see no more, and cost."""
_CHANGED = 0.07
"""Mean change of the grey levels, as a share of their range, from which a frame may be the first of a shot. Within a
shot, people who move and hands that come close change 0.01 to 0.05."""
_JUMP = 4.0
"""And how many times the usual change of the last frames it must be: a shot may be restless all the time."""
_MEMORY = 0.8


class CutDetector:
    """Watches one video. Not for several threads."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._usual = 0.0

    def update(self, image: NDArray[np.uint8]) -> bool:
        """Whether this frame begins another shot than the one before.

        Args:
            image: (H, W, 3) uint8, frames of one video in order; another size is another shot.
        """
        step = max(1, min(image.shape[:2]) // _GRID)
        small = image[step // 2 :: step, step // 2 :: step].mean(axis=2, dtype=np.float32) / 255
        last, self._last = self._last, small
        if last is None:
            return False
        if last.shape != small.shape:
            self._usual = 0.0
            return True
        change = float(np.abs(small - last).mean())
        cut = change > _CHANGED and change > _JUMP * self._usual
        if not cut:
            self._usual = _MEMORY * self._usual + (1 - _MEMORY) * change
        return cut
