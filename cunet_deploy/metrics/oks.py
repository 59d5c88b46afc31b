"""Object keypoint similarity (OKS) and the average precision of COCO, as ``pycocotools.cocoeval`` defines them.

The similarity of found and true points is the mean over the labelled ones of exp(-d^2 / (2 s^2 k^2)), with d the
distance, s^2 the area of the object and k twice the sigma of the point. For an object without labels d is the distance
to its box, made three times as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError

__all__ = ["OKS_THRESHOLDS", "PeopleInImage", "object_similarity", "oks_average_precision"]

FloatArray = NDArray[np.float64]

OKS_THRESHOLDS = tuple(np.round(np.arange(0.5, 0.96, 0.05), 2).tolist())
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST_FOUND = 20
"""Per image; further ones do not count."""


def object_similarity(
    found: ArrayLike, truth: ArrayLike, areas: ArrayLike, sigmas: ArrayLike, boxes: ArrayLike | None = None
) -> FloatArray:
    """(D, G) similarity of each found object to each true one.

    Args:
        found: (D, K, 2) pixels.
        truth: (G, K, 2) pixels; NaN where a point is not labelled.
        areas: (G,) areas of the true objects in square pixels.
        sigmas: (K,) of the skeleton.
        boxes: (G, 4) xyxy of the true objects; needed for those without labels only.

    Returns:
        In [0, 1]; NaN for a true object without labels where there are no boxes.

    Raises:
        InputError: there are no sigmas, or another number of them.
    """
    points, labels = np.asarray(found, np.float64), np.asarray(truth, np.float64)
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    if variances.shape != points.shape[1:2]:
        raise InputError(f"similarity needs a sigma for each of {points.shape[1]} landmarks, got {len(variances)}")
    squares = ((points[:, None] - labels) ** 2).sum(axis=-1)  # (D, G, K)
    empty = np.isnan(squares).all(axis=(0, 2)) if len(points) else np.zeros(len(labels), np.bool_)
    if boxes is not None and empty.any():
        squares[:, empty] = _squares_outside(points, np.asarray(boxes, np.float64)[empty])
    scaled = squares / variances / (np.asarray(areas, np.float64)[:, None] + np.spacing(1)) / 2
    known = ~np.isnan(scaled)
    count = known.sum(axis=-1)
    total = np.where(known, np.exp(-np.where(known, scaled, 0)), 0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _squares_outside(points: FloatArray, boxes: FloatArray) -> FloatArray:
    """(D, G, K) squared distances of (D, K, 2) points to (G, 4) boxes three times as large."""
    sides = boxes[:, 2:] - boxes[:, :2]
    low, high = boxes[:, :2] - sides, boxes[:, 2:] + sides
    outside = (low[:, None] - points[:, None]).clip(0) + (points[:, None] - high[:, None]).clip(0)
    return np.asarray((outside**2).sum(axis=-1))


@dataclass(frozen=True, eq=False)
class PeopleInImage:
    """People found in one image.

    Attributes:
        scores: (D,) of the found people.
        similarity: (D, G) of each to each true one; see `object_similarity`.
        ignored: (G,) true people who do not have to be found.
    """

    scores: FloatArray
    similarity: FloatArray
    ignored: NDArray[np.bool_]
    _matched: dict[float, FloatArray] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def best_first(self) -> NDArray[np.intp]:
        """Rows of the found people that count, by falling score."""
        return np.argsort(-self.scores, kind="mergesort")[:_MOST_FOUND]

    def matched(self, threshold: float) -> FloatArray:
        """Match found people, best first, to true ones from a similarity on; kept, since resamples ask again.

        Returns:
            (D,) 1 where one is a true one, 0 where it is none, NaN where it does not count.
        """
        if threshold not in self._matched:
            self._matched[threshold] = _match(self, self.best_first, threshold)
        return self._matched[threshold]


def oks_average_precision(
    images: Sequence[PeopleInImage], thresholds: Sequence[float] = OKS_THRESHOLDS
) -> tuple[float, float]:
    """Average precision and average recall over thresholds of the similarity; NaN where nobody is to be found.

    Found people are matched to true ones by falling score, each to the most similar one that is free. Precision is made
    to never rise with recall and read at 101 recalls.
    """
    total = sum(int((~image.ignored).sum()) for image in images)
    if not total:
        return float("nan"), float("nan")
    scores = np.concatenate([image.scores[image.best_first] for image in images])
    by_score = np.argsort(-scores, kind="mergesort")
    precisions, recalls = [], []
    for threshold in thresholds:
        matched = np.concatenate([image.matched(threshold) for image in images])[by_score]
        precision, recall = _curve(matched, total)
        places = np.searchsorted(recall, _RECALLS, side="left")
        reached = places < len(precision)
        precisions.append(np.where(reached, np.append(precision, 0)[np.where(reached, places, -1)], 0).mean())
        recalls.append(recall[-1] if len(recall) else 0.0)
    return float(np.mean(precisions)), float(np.mean(recalls))


def _match(image: PeopleInImage, rows: NDArray[np.intp], threshold: float) -> FloatArray:
    taken = np.zeros(len(image.ignored), np.bool_)
    result = np.zeros(len(rows))
    for place, row in enumerate(rows):
        best = np.where(taken | np.isnan(image.similarity[row]), -1.0, image.similarity[row])
        for group, value in ((~image.ignored, 1.0), (image.ignored, np.nan)):  # those to be found come first
            candidates = np.where(group, best, -1.0)
            if len(candidates) and candidates.max() >= min(threshold, 1 - 1e-10):
                # of equals the last one, as in COCOeval
                taken[len(candidates) - 1 - int(candidates[::-1].argmax())] = True
                result[place] = value
                break
    return result


def _curve(matched: FloatArray, total: int) -> tuple[FloatArray, FloatArray]:
    """Precision, never rising, and recall after each found person in order of score."""
    right = np.cumsum(matched == 1, dtype=np.float64)
    wrong = np.cumsum(matched == 0, dtype=np.float64)
    precision = right / (right + wrong + np.spacing(1))
    return np.maximum.accumulate(precision[::-1])[::-1], right / total
