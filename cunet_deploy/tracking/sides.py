"""Temporal consistency of left and right joints in video.

Of a person seen from behind, or half turned away, a network may take the left shoulder for the right one in every other
frame, and the limbs flicker. Joints do not move like that: where both joints of a pair are found in each other's place,
and did not move towards it, they are put back, until the network has said otherwise for about 0.7 s.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import compare_pairs
from cunet_deploy.skeletons import Skeleton

__all__ = ["SideConsistency", "has_sides"]

_APART_RATIO = 0.06
"""Distance of two joints, in diagonals of the landmarks' box, below which they are at one place, and their sides
cannot be told: about a fifth of the torso, within which a joint counts as right."""
_CLOSING_RATIO = 0.5
"""Share of their distance by which two joints approach each other in a frame, from which on they may have passed each
other, as legs do that run: then the network is believed."""
_MEMORY_SECONDS = 0.5
"""Time constant of what is remembered of the frames before."""
_EXCHANGED = -0.5
"""A pair is shown exchanged once the mean of its last frames (1: found as it is shown, -1: found exchanged) falls below
this: after 0.7 s if all frames say so."""


def has_sides(skeleton: Skeleton) -> bool:
    """Return whether landmarks are joints of a body, whose left and right networks confuse; those of faces are not."""
    return "torso" in skeleton.normalizers and bool(skeleton.flip_pairs)


class SideConsistency:
    """Temporal consistency of the left and right joints of one person. Not for several threads.

    Example:
        >>> sides = SideConsistency(skeleton)
        >>> for points, seconds in measurements:  # (K, 2) pixels, seconds since the frame before
        ...     points = points[sides.update(points, seconds)]
    """

    def __init__(self, skeleton: Skeleton) -> None:
        """Start without a past; the first frame is believed."""
        self._count = len(skeleton)
        self._pairs = np.asarray(skeleton.flip_pairs, np.intp).reshape(-1, 2)
        self._shown: NDArray[np.float64] | None = None
        self._velocity = np.zeros((self._count, 2))  # pixels a second
        self._agreement = np.ones(len(self._pairs))

    def update(self, points: ArrayLike, seconds: float) -> NDArray[np.intp]:
        """Take the joints of the next frame.

        Args:
            points: (K, 2) as they were found, in pixels.
            seconds: since the frame before; above 0.

        Returns:
            (K,) which of the points to show in each place.

        Raises:
            InputError: the points have another shape, or are not finite.
        """
        found = np.asarray(points, np.float64)
        if found.shape != (self._count, 2) or not np.isfinite(found).all():
            raise InputError(f"finite joints of shape ({self._count}, 2) expected, got shape {found.shape}")
        order = np.arange(self._count)
        if self._shown is None:
            self._shown = found
            return order
        exchanged, told = self._compare(found, self._shown, seconds)
        share = 1 - math.exp(-seconds / _MEMORY_SECONDS)
        self._agreement += share * (np.where(exchanged, -1.0, 1.0) - self._agreement)
        believed = exchanged & (self._agreement < _EXCHANGED)
        put_back = self._pairs[exchanged & ~believed]
        order[put_back] = put_back[:, ::-1]
        # what was is no measure of what is: of a pair at one place, and of one that has changed its sides
        self._agreement[~told | believed] = 1.0
        self._velocity = (found[order] - self._shown) / seconds
        self._shown = found[order]
        return order

    def _compare(
        self, found: NDArray[np.float64], shown: NDArray[np.float64], seconds: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Find (P,) pairs in each other's place, and the pairs whose sides can be told."""
        now, before = found[self._pairs], shown[self._pairs]  # (P, 2, 2)
        least = _APART_RATIO * float(np.linalg.norm(np.ptp(found, axis=0)))
        exchanged, apart = compare_pairs(before, now, least)
        between = before[:, 0] - before[:, 1]
        change = seconds * (self._velocity[self._pairs[:, 0]] - self._velocity[self._pairs[:, 1]])
        closing = -(between * change).sum(axis=-1) >= _CLOSING_RATIO * np.square(between).sum(axis=-1)
        return exchanged & ~closing, apart & ~closing
