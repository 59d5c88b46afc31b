"""Boundaries between shots: what was followed before one is not there any more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ShotBoundaryDetector", "make_thumbnail"]

_GRID_SIDE = 24
"""Pixels of the picture that are compared, along its shorter side; more see no more, and cost."""
_MIN_CHANGE = 0.07
"""Mean change of the grey levels, as a share of their range, from which a frame may be the first of a shot. Within a
shot, people who move and hands that come close change 0.01 to 0.05."""
_MIN_CHANGE_RATIO = 3.0
"""And how many times the usual change of the last frames it must be: a shot may be restless all the time."""
_MIN_RECOLOURED_SHARE = 0.12
"""And the share of the picture that has other grey levels than before: a camera that turns keeps most of them."""
_LEVELS = 24
_CHANGE_MEMORY = 0.8


def make_thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey thumbnail of a frame, (h, w) from 0 to 1, by which shots are told apart.

    Their cache lines are most of what this costs: ten times as much on another core than that which wrote the frame.

    Args:
        image: (H, W, 3) uint8.
    """
    step = max(1, min(image.shape[:2]) // _GRID_SIDE)
    few = image[step // 2 :: step, step // 2 :: step].astype(np.float32)
    return np.asarray((few[..., 0] + few[..., 1] + few[..., 2]) / 765, np.float32)


class ShotBoundaryDetector:
    """Watches one video. Not for several threads."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._usual: float | None = None

    def update(self, thumbnail: NDArray[np.float32]) -> bool:
        """Take a frame; returns whether it begins another shot than the one before.

        Args:
            thumbnail: `make_thumbnail` of a frame, in the order of one video; another size is another shot.
        """
        last, self._last = self._last, thumbnail
        if last is None:
            return False
        if last.shape != thumbnail.shape:
            self._usual = None
            return True
        change = float(np.abs(thumbnail - last).mean())
        usual = change if self._usual is None else self._usual
        self._usual = _CHANGE_MEMORY * usual + (1 - _CHANGE_MEMORY) * change
        return (
            change > max(_MIN_CHANGE, _MIN_CHANGE_RATIO * usual)
            and _recoloured(last, thumbnail) > _MIN_RECOLOURED_SHARE
        )


def _recoloured(last: NDArray[np.float32], small: NDArray[np.float32]) -> float:
    """Share of the pixels that would have to change to turn the levels of one picture into those of the other."""
    before, after = (np.histogram(image, _LEVELS, (0.0, 1.0))[0] for image in (last, small))
    return float(np.abs(after - before).sum() / (2 * small.size))
