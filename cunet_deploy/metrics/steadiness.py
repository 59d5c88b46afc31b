"""Steadiness of landmarks in video without labels: jitter, and left and right joints that exchange places.

Both look at successive frames of one object. Jitter is the length of the second difference of a landmark's path, which
is 0 for one that stands or moves evenly, whatever its speed; real acceleration counts as jitter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.geometry import compare_pairs
from cunet_deploy.skeletons import Skeleton

__all__ = ["exchanged_pairs", "second_differences"]


def second_differences(points: ArrayLike) -> NDArray[np.float64]:
    """Jitter: lengths of the second differences of the landmarks' paths.

    Args:
        points: (T, K, 2) landmarks of one object in successive frames.

    Returns:
        (max(T - 2, 0), K) in the units of the points.
    """
    paths = np.asarray(points, np.float64)
    return np.asarray(np.linalg.norm(paths[2:] - 2 * paths[1:-1] + paths[:-2], axis=-1))


def exchanged_pairs(points: ArrayLike, skeleton: Skeleton, least: float) -> NDArray[np.bool_]:
    """Find left and right joints that exchange places from one frame to the next.

    Each joint of such a pair is nearer to where the other one was than to where it was itself, and before and after
    they are apart. A swap that lasts a moment counts twice: there and back.

    Args:
        points: (T, K, 2) landmarks of one object in successive frames.
        skeleton: of the K landmarks.
        least: distance of the two joints, in the units of the points, below which they count as being at one place.

    Returns:
        (max(T - 1, 0), P) whether each of the P flip pairs does.
    """
    pairs = np.asarray(skeleton.flip_pairs, np.intp).reshape(-1, 2)
    places = np.asarray(points, np.float64)[:, pairs]
    return compare_pairs(places[:-1], places[1:], least)[0]
