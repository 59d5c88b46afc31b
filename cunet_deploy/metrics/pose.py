"""Metrics of body joints: which share of them is found closely enough.

A joint is *correct* when it lies within a share of a length of the same person from its label: 0.2 of the torso
(PCK@0.2, after Sapp and Taskar, CVPR 2013) or 0.5 of the head (PCKh@0.5, Andriluka et al., CVPR 2014). PCK is the share
of the labelled joints of a whole data set that are correct; joints without a label, and people without that length, do
not count. It is what the published scripts compute: ``eval_pck.m`` for LSP, where everybody has all joints, and
``evaluate`` of the MPII data set in HRNet (``lib/dataset/mpii.py``), which leaves pelvis and thorax out of the mean.
(The "Mean@0.1" that it prints is at 0.11; here 0.1 is 0.1.)

Intervals come from drawing people, not joints: the joints of a person succeed and fail together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.metrics.estimates import Estimate, bootstrap_ratio
from cunet_deploy.metrics.landmarks import landmark_errors
from cunet_deploy.skeletons import Skeleton

__all__ = [
    "PckThreshold",
    "correct_joints",
    "counted_joints",
    "curve_parts",
    "joint_shares",
    "paired_share_difference",
    "pck_threshold",
    "pck_thresholds",
    "share",
    "swapped_pairs",
]

FloatArray = NDArray[np.float64]


class PckThreshold(NamedTuple):
    """Threshold within which a joint is correct.

    Attributes:
        name: "pck" or "pckh".
        normalizer: of the skeleton.
        threshold: in units of the normalizer.
    """

    name: str
    normalizer: str
    threshold: float

    @property
    def key(self) -> str:
        """Name, such as ``pck_20``: of a hundred parts of the normalizer."""
        return f"{self.name}_{round(100 * self.threshold)}"

    @property
    def title(self) -> str:
        """Name for people, such as ``PCK@0.2``."""
        return f"{'PCKh' if self.name == 'pckh' else 'PCK'}@{self.threshold:g}"


_OF_NORMALIZER = {"torso": PckThreshold("pck", "torso", 0.2), "head": PckThreshold("pckh", "head", 0.5)}

_NOT_COUNTED = ("pelvis", "thorax")
"""Joints of MPII that nobody sees, and that its evaluation leaves out of the mean."""

_STEP = 0.01
"""Between the thresholds of a curve, in units of the normalizer, as the published scripts have it."""


def pck_threshold(skeleton: Skeleton) -> PckThreshold | None:
    """Threshold of a body skeleton by its default normalizer; ``None`` for what is no body."""
    return _OF_NORMALIZER.get(next(iter(skeleton.normalizers), ""))


def pck_thresholds(skeleton: Skeleton) -> list[PckThreshold]:
    """Thresholds of a body skeleton by each normalizer that has a usual one; none for what is no body."""
    return [_OF_NORMALIZER[name] for name in skeleton.normalizers if name in _OF_NORMALIZER]


def counted_joints(skeleton: Skeleton) -> NDArray[np.bool_]:
    """(K,) which joints count in the mean over joints."""
    return np.array([name not in _NOT_COUNTED for name in skeleton.landmarks], np.bool_)


def correct_joints(errors: ArrayLike, threshold: float) -> FloatArray:
    """(N, K) normalized errors to 1 where a joint is correct and 0 where not; NaN stays NaN."""
    errors = np.asarray(errors, np.float64)
    return np.where(np.isnan(errors), np.nan, errors <= threshold)


def curve_parts(errors: ArrayLike, threshold: float) -> FloatArray:
    """Contribution of each joint to the area under the curve of PCK over thresholds from 0 to ``threshold``.

    The area is that of the published scripts: by the trapezoidal rule through thresholds 0.01 apart, divided by the
    largest one. It is the mean of these parts, as PCK is the mean of `correct_joints`.

    Args:
        errors: (N, K) normalized errors; NaN stays NaN.
        threshold: upper end of the curve.
    """
    errors = np.asarray(errors, np.float64)
    steps = round(threshold / _STEP)
    # compared with the same decimals as a person would write, so that an error of 0.07 is within 0.07
    first = np.searchsorted(np.round(np.arange(steps + 1) * _STEP, 10), np.nan_to_num(errors, nan=np.inf))
    areas = np.concatenate([[1.0], 1 - (np.arange(1, steps + 1) - 0.5) / steps, [0.0]])
    return np.where(np.isnan(errors), np.nan, areas[first])


def swapped_pairs(errors: ArrayLike, mirrored: ArrayLike, skeleton: Skeleton, threshold: float) -> FloatArray:
    """Left and right joints that were found in each other's place.

    A pair is swapped when each of its joints lies within the threshold of the other's label and not both lie within
    that of their own ("inversion" of Ronchi and Perona, ICCV 2017, of both joints at once). Pairs whose labels are so
    near to each other that both readings hold do not count as swapped.

    Args:
        errors: (N, K) normalized errors.
        mirrored: (N, K) those of the same predictions with left and right exchanged.
        skeleton: of the K joints.
        threshold: in units of the normalizer.

    Returns:
        (N, P) 1 for each of the P flip pairs that is swapped and 0 for one that is not; NaN where one of its joints has
        no label.
    """
    pairs = np.asarray(skeleton.flip_pairs, np.intp).reshape(-1, 2)
    own, other = np.asarray(errors, np.float64)[:, pairs], np.asarray(mirrored, np.float64)[:, pairs]  # (N, P, 2)
    swapped = (other <= threshold).all(axis=-1) & ~(own <= threshold).all(axis=-1)
    return np.where(np.isnan(own).any(axis=-1), np.nan, swapped)


def share(parts: ArrayLike) -> Estimate:
    """The mean of (N, K) numbers of joints over a data set, and its interval over people; NaN does not count.

    Raises:
        InputError: nothing counts.
    """
    return bootstrap_ratio(_sums(parts))


def joint_shares(parts: ArrayLike) -> FloatArray:
    """(N, K) numbers of joints to the (K,) mean of each joint; NaN for one that is never labelled."""
    return landmark_errors(parts)


def paired_share_difference(parts: ArrayLike, reference: ArrayLike) -> Estimate:
    """`share` of some numbers minus that of a reference on the same joints, paired by person.

    Raises:
        InputError: the joints are not the same ones, or none counts.
    """
    ours, theirs = np.asarray(parts, np.float64), np.asarray(reference, np.float64)
    if ours.shape != theirs.shape or (np.isnan(ours) != np.isnan(theirs)).any():
        raise InputError("joints of different people cannot be paired; expected the same people in order")
    return bootstrap_ratio(_sums(ours - theirs))


def _sums(parts: ArrayLike) -> FloatArray:
    """(M, 2) sum and count of the numbers of each person who has any."""
    parts = np.asarray(parts, np.float64)
    known = ~np.isnan(parts)
    rows = np.stack([np.where(known, parts, 0).sum(axis=1), known.sum(axis=1)], axis=1)
    return np.asarray(rows[rows[:, 1] > 0], np.float64)
