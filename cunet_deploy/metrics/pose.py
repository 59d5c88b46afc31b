"""Metrics of body joints: which share of them is found closely enough.

A joint is *correct* when it lies within a share of a length of the same person from its label: 0.2 of the torso
(PCK@0.2, after Sapp and Taskar, CVPR 2013) or 0.5 of the head (PCKh@0.5, Andriluka et al., CVPR 2014). PCK is the share
of the labelled joints of a whole data set that are correct; joints without a label, and people without that length, do
not count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.skeletons import Skeleton

__all__ = ["Closeness", "closeness", "correct_joints"]

FloatArray = NDArray[np.float64]


class Closeness(NamedTuple):
    """When a joint is correct.

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
        """Name with its unit, such as ``pck_20_percent``."""
        return f"{self.name}_{round(100 * self.threshold)}_percent"

    @property
    def title(self) -> str:
        """Name for people, such as ``PCK@0.2``."""
        return f"{'PCKh' if self.name == 'pckh' else 'PCK'}@{self.threshold:g}"


_OF_NORMALIZER = {"torso": Closeness("pck", "torso", 0.2), "head": Closeness("pckh", "head", 0.5)}


def closeness(skeleton: Skeleton) -> Closeness | None:
    """When a joint of a body skeleton is correct, by its default normalizer; ``None`` for what is no body."""
    return _OF_NORMALIZER.get(next(iter(skeleton.normalizers), ""))


def correct_joints(errors: ArrayLike, threshold: float) -> FloatArray:
    """(N, K) normalized errors to 1 where a joint is correct and 0 where not; NaN stays NaN."""
    errors = np.asarray(errors, np.float64)
    return np.where(np.isnan(errors), np.nan, errors <= threshold)
