"""Distances of predicted landmarks from the true ones over a whole data set, with their uncertainty.

An error is the distance of a landmark from its label divided by the *normalizer* of its object, a length of the object
itself (see `Skeleton.normalizers`), so 0.03 is 3 % of it whatever the photo's resolution. The normalized mean error
(NME) of an object is the mean over its labelled landmarks; that of a data set is the mean over its objects, never a
mean of batch means. Mean error, area under the curve and failure rate are all means of one number per object, so
`bootstrap_mean` gives the interval of each of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton

__all__ = [
    "BOX",
    "THRESHOLD",
    "auc_parts",
    "failures",
    "landmark_errors",
    "normalized_errors",
    "normalizer_lengths",
    "normalizer_names",
    "object_errors",
]

FloatArray = NDArray[np.float64]

BOX = "box"
"""The normalizer that every skeleton has: the geometric mean of the sides of the tight landmark box."""

THRESHOLD = 0.08
"""The usual error from which a face counts as failed, and up to which the curve is integrated."""


def normalizer_names(skeleton: Skeleton) -> tuple[str, ...]:
    """The normalizers of a skeleton, the default one first."""
    return (*skeleton.normalizers, BOX)


def normalizer_lengths(truth: ArrayLike, skeleton: Skeleton, normalizer: str | None = None) -> FloatArray:
    """The length that an object's errors are divided by.

    Args:
        truth: (N, K, 2) labels in pixels; NaN where a landmark is not labelled.
        skeleton: of the landmarks.
        normalizer: one of `normalizer_names`; ``None`` is the first of them.

    Returns:
        (N,) pixels; NaN where a landmark that the normalizer needs is not labelled, or where the length is zero. In
        place of a missing landmark the normalizer's mirror image counts: for the torso of a body, from the right hip to
        the left shoulder, the other diagonal. The box is that of the labelled landmarks.

    Raises:
        InputError: the skeleton has no such normalizer, or the labels have another shape.
    """
    points = _checked(truth, skeleton, "truth")
    normalizer = normalizer or normalizer_names(skeleton)[0]
    if normalizer == BOX:
        labelled = np.isfinite(points).all(axis=2, keepdims=True)
        high = np.where(labelled, points, -np.inf).max(axis=1)
        low = np.where(labelled, points, np.inf).min(axis=1)
        lengths = np.sqrt((high - low).clip(0).prod(axis=1))
    elif normalizer in skeleton.normalizers:
        groups = skeleton.normalizers[normalizer]
        lengths = _between(points, groups)
        # Mirrored, a diagonal of the body is the other diagonal; what is symmetric stays what it was.
        lengths = np.where(np.isnan(lengths), _between(points[:, skeleton.flip_order], groups), lengths)
    else:
        names = ", ".join(normalizer_names(skeleton))
        raise InputError(f"skeleton {skeleton.name} has no normalizer {normalizer!r}; known: {names}")
    return np.where(np.isfinite(lengths) & (lengths > 0), lengths, np.nan)


def normalized_errors(
    prediction: ArrayLike,
    truth: ArrayLike,
    skeleton: Skeleton,
    normalizer: str | None = None,
    lengths: ArrayLike | None = None,
) -> FloatArray:
    """Distance of every landmark from its label, in units of the object's normalizer.

    Args:
        prediction: (N, K, 2) pixels. A landmark that is not finite was not found: its error is infinite.
        truth: (N, K, 2) pixels; NaN where a landmark is not labelled.
        skeleton: of the landmarks.
        normalizer: one of `normalizer_names`; ``None`` is the first of them.
        lengths: (N,) lengths in pixels that were labelled, in place of the normalizer; NaN where one was not.

    Returns:
        (N, K) errors; NaN where the landmark is not labelled or the object's normalizer is unknown.

    Raises:
        InputError: the shapes do not fit, or the skeleton has no such normalizer.
    """
    points, labels = _checked(prediction, skeleton, "prediction"), _checked(truth, skeleton, "truth")
    if len(points) != len(labels):
        raise InputError(f"{len(points)} predicted and {len(labels)} true objects; expected as many of each, in order")
    units = normalizer_lengths(labels, skeleton, normalizer)
    if lengths is not None:
        units = np.where(np.isfinite(lengths), lengths, units)
    found = np.asarray(np.isfinite(points).all(axis=2))
    distances = np.linalg.norm(np.where(found[..., None], points, 0) - labels, axis=2)
    distances = np.where(found | np.isnan(distances), distances, np.inf)
    return np.asarray(distances / units[:, None])


def object_errors(errors: ArrayLike) -> FloatArray:
    """(N, K) errors to the (N,) NME of each object, over its labelled landmarks; NaN for an object without any."""
    return _mean_of_known(np.asarray(errors, np.float64), axis=1)


def landmark_errors(errors: ArrayLike) -> FloatArray:
    """(N, K) errors to the (K,) mean error of each landmark over the objects; NaN for one that is never labelled."""
    return _mean_of_known(np.asarray(errors, np.float64), axis=0)


def auc_parts(errors: ArrayLike, threshold: float = THRESHOLD) -> FloatArray:
    """Share of each object in the area under the cumulative error distribution; the mean of the parts is the area.

    The distribution F(e), the share of objects with an error of at most e, is a step function that rises by 1/N at each
    object's error, so its area over [0, threshold], divided by the threshold, is exactly the mean of
    max(0, 1 - error / threshold). 1 is perfect; there is no binning.

    Args:
        errors: (N,) errors of objects; NaN stays NaN.
        threshold: upper end of the integration.
    """
    return np.asarray((1 - np.asarray(errors, np.float64) / _positive(threshold)).clip(0, 1))


def failures(errors: ArrayLike, threshold: float = THRESHOLD) -> FloatArray:
    """(N,) errors of objects to 1 where it is above the threshold and 0 elsewhere; NaN stays NaN."""
    errors = np.asarray(errors, np.float64)
    return np.where(np.isnan(errors), np.nan, errors > _positive(threshold))


def _between(points: FloatArray, groups: tuple[tuple[int, ...], tuple[int, ...]]) -> FloatArray:
    """(N,) distances between the centroids of two groups of (N, K, 2) landmarks."""
    first, second = (points[:, list(group)].mean(axis=1) for group in groups)
    return np.asarray(np.linalg.norm(first - second, axis=1))


def _mean_of_known(values: FloatArray, axis: int) -> FloatArray:
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def _checked(points: ArrayLike, skeleton: Skeleton, what: str) -> FloatArray:
    array = np.asarray(points, np.float64)
    if array.ndim != 3 or array.shape[1:] != (len(skeleton), 2):
        raise InputError(f"{what} must have shape (N, {len(skeleton)}, 2) for {skeleton.name}, got {array.shape}")
    return array


def _positive(threshold: float) -> float:
    if not threshold > 0:
        raise InputError(f"the threshold must be positive, got {threshold}")
    return threshold
