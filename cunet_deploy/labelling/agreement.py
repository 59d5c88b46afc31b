"""Agreement of opinions on the joints of one object.

An opinion is where one teacher sees the joints in one view of the object. A teacher says where a joint is by the median
over its views, and how sure it is of that by how far its views scatter. Where several teachers know a joint, they have
to agree with each other, too. All distances are shares of the size of the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from cunet_deploy._decode import Share, check_fields
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import landmark_boxes
from cunet_deploy.metrics import BOX, normalizer_lengths, pck_threshold
from cunet_deploy.skeletons import Skeleton

__all__ = ["Consensus", "Rule", "agree", "default_rule"]

FloatArray = NDArray[np.float64]

_FACE_LIMIT = 0.03
"""Largest distance of opinions on landmarks that are not of a body, in geometric means of the sides of the box."""


@dataclass(frozen=True)
class Rule:
    """Conditions on which a joint counts as agreed on.

    Attributes:
        within: largest distance of two opinions, as a share of the object's size.
        size: the normalizer of the skeleton that the size is measured by.
        min_score: least mean score of a joint.
        min_joints: least share of the joints that must be agreed on; an object with fewer gets no labels at all.
    """

    within: Annotated[float, Meta(gt=0, le=10)]
    size: str
    min_score: Share = 0.2
    min_joints: Share = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "label:", InputError)


def default_rule(skeleton: Skeleton) -> Rule:
    """Return the usual rule: for bodies the distance at which PCK counts a joint, for others a share of their box."""
    close = pck_threshold(skeleton)
    return Rule(_FACE_LIMIT, BOX) if close is None else Rule(close.threshold, close.normalizer)


@dataclass(frozen=True, eq=False)
class Consensus:
    """Consensus of the opinions on one object.

    Attributes:
        points: (K, 2) mean over teachers, in pixels of the photo; NaN for joints that no teacher knows.
        scores: (K,) mean over teachers; NaN likewise.
        apart: (K,) largest distance of two teachers, or of a view from its teacher's median, in sizes; NaN likewise.
        kept: (K,) whether a joint is agreed on.
        beside: (M, 2) further landmarks of the object, which nobody asked for: they only say how large it is.
    """

    points: FloatArray
    scores: FloatArray
    apart: FloatArray
    kept: NDArray[np.bool_]
    beside: FloatArray

    @property
    def box(self) -> FloatArray:
        """(4,) tight xyxy box around all landmarks, those in doubt too."""
        return landmark_boxes(np.concatenate([self.points[self.known], self.beside]))

    @property
    def known(self) -> NDArray[np.bool_]:
        """(K,) whether any teacher knows a joint."""
        return np.asarray(np.isfinite(self.apart))

    @property
    def agreed_share(self) -> float:
        """Share of the known joints that are agreed on."""
        return float(self.kept.sum() / max(self.known.sum(), 1))

    @property
    def doubt(self) -> float:
        """Mean distance between opinions, each at most 1."""
        return float(np.minimum(self.apart[self.known], 1).mean()) if self.known.any() else 1.0


def agree(
    points: Sequence[FloatArray],
    scores: Sequence[FloatArray],
    skeleton: Skeleton,
    rule: Rule,
    width: int,
    height: int,
    beside: FloatArray | None = None,
) -> Consensus:
    """Compare the opinions of teachers on one object.

    Args:
        points: of each teacher, (V, K, 2) in pixels of the photo, one row a view; NaN for joints that it does not know.
        scores: of each teacher, (V, K) in [0, 1]; NaN likewise.
        skeleton: of the K joints.
        rule: when a joint is agreed on.
        width: of the photo: joints outside it are not agreed on.
        height: likewise.
        beside: (M, 2) further landmarks of the object, for its box.

    Returns:
        The consensus. Nothing is kept where the size of the object cannot be measured.
    """
    medians = np.stack([np.median(own, axis=0) for own in points])  # (T, K, 2); NaN where a teacher knows nothing
    spread = np.stack([_distance(own, median).max(axis=0) for own, median in zip(points, medians, strict=True)])
    between = _distance(medians[:, None], medians[None]).reshape(-1, len(skeleton))
    consensus = _mean(medians)
    size = _size(consensus, skeleton, rule.size)
    apart = np.fmax.reduce(np.concatenate([spread, between]), axis=0) / size
    sure = _mean(np.stack([np.median(own, axis=0) for own in scores]))
    with np.errstate(invalid="ignore"):
        inside = ((consensus >= -0.5) & (consensus <= np.array([width, height]) - 0.5)).all(axis=1)
        kept = (apart <= rule.within) & (sure >= rule.min_score) & inside
    rest = np.zeros((0, 2)) if beside is None else beside
    return Consensus(consensus, sure, apart, np.asarray(kept), rest)


def _distance(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(a - b, axis=-1))


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the first axis of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _size(points: FloatArray, skeleton: Skeleton, normalizer: str) -> float:
    """Length of the normalizer; of the box where that is not known."""
    for name in (normalizer, BOX):
        length = float(normalizer_lengths(points[None], skeleton, name)[0])
        if np.isfinite(length):
            return length
    return float("nan")
