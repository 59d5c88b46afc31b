"""Left and right joints that keep their places in video.

Of a person seen from behind, or half turned away, a network may take the left shoulder for the right one in every other
frame, and the limbs flicker. No joint moves so: where both joints of a pair are found in each other's place from one
frame to the next, they are put back, until most of the last half second says otherwise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.skeletons import Skeleton

__all__ = ["SideConsistency", "has_sides"]

_APART_RATIO = 0.06
"""Distance of two joints, in diagonals of the landmarks' box, below which they are at one place, and their sides
cannot be told: about a fifth of the torso, within which a joint counts as right."""
_MEMORY_SECONDS = 0.5
"""Time constant of what is remembered of the frames before."""
_EXCHANGED = -0.5
"""Mean of the last frames, 1 where a pair was found as it is shown and -1 where it was exchanged, from which on it is
shown exchanged: after 0.7 s of frames that all say so."""


def has_sides(skeleton: Skeleton) -> bool:
    """Whether the landmarks are joints of a body, of which networks mistake left and right; of faces they do not."""
    return "torso" in skeleton.normalizers and bool(skeleton.flip_pairs)


class SideConsistency:
    """Memory of which joint is the left one and which the right one of one person. Not for several threads.

    Example:
        >>> sides = SideConsistency(skeleton)
        >>> for points, seconds in measurements:  # (K, 2) pixels, seconds since the frame before
        ...     points = points[sides.update(points, seconds)]
    """

    def __init__(self, skeleton: Skeleton) -> None:
        """Start without a past; the first frame is believed."""
        self._pairs = np.asarray(skeleton.flip_pairs, np.intp).reshape(-1, 2)
        self._shown: NDArray[np.float64] | None = None
        self._agreement = np.ones(len(self._pairs))

    def update(self, points: ArrayLike, seconds: float) -> NDArray[np.intp]:
        """Take the joints of the next frame.

        Args:
            points: (K, 2) as they were found.
            seconds: since the frame before.

        Returns:
            (K,) which of the points to show in each place.
        """
        found = np.asarray(points, np.float64)
        order = np.arange(len(found))
        if self._shown is not None:
            exchanged, told = self._compare(found, self._shown)
            share = 1 - math.exp(-seconds / _MEMORY_SECONDS)
            seen = np.where(exchanged, -1.0, 1.0)
            self._agreement += np.where(told, share, 0) * (seen - self._agreement)
            believed = self._agreement < _EXCHANGED
            put_back = self._pairs[exchanged & ~believed]
            order[put_back] = put_back[:, ::-1]
            self._agreement[exchanged & believed] = 1.0
        self._shown = found[order]
        return order

    def _compare(
        self, found: NDArray[np.float64], shown: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(P,) which pairs are found in each other's place, and of which it can be told."""
        now, before = found[self._pairs], shown[self._pairs]  # (P, 2, 2)
        least = _APART_RATIO * float(np.linalg.norm(np.ptp(found, axis=0)))
        told = (_apart(now) >= least) & (_apart(before) >= least)
        own, other = (np.linalg.norm(now - place, axis=-1) for place in (before, before[:, ::-1]))
        return (other < own).all(axis=-1) & told, told


def _apart(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=-1))
