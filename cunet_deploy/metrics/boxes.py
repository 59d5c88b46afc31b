"""Metrics of detected boxes over a whole data set: recall, precision, average precision.

A found box is right where it overlaps a true one, that no more certain one has taken, by at least `OVERLAP`
(intersection over union). Found boxes that lie on something of which it is not known what it is, or that is too small
to count, are neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.geometry import box_iou, share_inside
from cunet_deploy.metrics.estimates import Estimate, bootstrap_ratio

__all__ = ["OVERLAP", "Matches", "average_precision", "best_threshold", "match_boxes", "precision", "recall"]

FloatArray = NDArray[np.float64]

OVERLAP = 0.5


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections in one image.

    Attributes:
        truth: (T,) scores of the boxes that found the T true ones; -inf for one that was not found.
        sides: (T,) longer sides of the true boxes.
        wrong: (W,) scores of the boxes that found nothing.
        wrong_sides: (W,) their longer sides.
    """

    truth: FloatArray
    sides: FloatArray
    wrong: FloatArray
    wrong_sides: FloatArray

    def of_size(self, low: float, high: float) -> Matches:
        """Those whose longer sides are in a range, the upper end excluded; finds of others are left out, as by COCO."""
        true, wrong = ((sides >= low) & (sides < high) for sides in (self.sides, self.wrong_sides))
        return Matches(self.truth[true], self.sides[true], self.wrong[wrong], self.wrong_sides[wrong])


def match_boxes(
    found: ArrayLike, scores: ArrayLike, truth: ArrayLike, ignored: ArrayLike, overlap: float = OVERLAP
) -> Matches:
    """Compare what was found in one image with what is there.

    Args:
        found: (N, 4) xyxy.
        scores: (N,).
        truth: (T, 4) xyxy.
        ignored: (M, 4) xyxy of what does not count.
        overlap: least intersection over union.
    """
    boxes, certain = np.asarray(found, np.float64).reshape(-1, 4), np.asarray(scores, np.float64).reshape(-1)
    true, unknown = (np.asarray(some, np.float64).reshape(-1, 4) for some in (truth, ignored))
    reached = np.full(len(true), -np.inf)
    overlaps, beside = box_iou(boxes, true), share_inside(boxes, unknown)
    wrong: list[int] = []
    for index in np.argsort(-certain, kind="stable"):
        free = np.where(np.isneginf(reached), overlaps[index], -1.0)
        if len(true) and free.max() >= overlap:
            reached[int(free.argmax())] = certain[index]
        elif not (len(unknown) and beside[index].max() >= overlap):
            wrong.append(int(index))
    sides, found_sides = ((some[:, 2:] - some[:, :2]).max(axis=1, initial=0) for some in (true, boxes))
    return Matches(reached, sides, certain[wrong], found_sides[wrong])


def recall(matches: Sequence[Matches], threshold: float, sides: tuple[float, float] = (0.0, np.inf)) -> Estimate:
    """Share of the true boxes that were found with at least this score; the interval is over images.

    Args:
        matches: of each image.
        threshold: score from which a box counts as found.
        sides: only true boxes whose longer side is in this range, the upper end excluded.

    Raises:
        InputError: there is no image.
    """

    def counts(match: Matches) -> tuple[int, int]:
        chosen = (match.sides >= sides[0]) & (match.sides < sides[1])
        return int((match.truth[chosen] >= threshold).sum()), int(chosen.sum())

    return _ratio([counts(match) for match in matches])


def precision(matches: Sequence[Matches], threshold: float) -> Estimate:
    """Share of the boxes found with at least this score that are right; the interval is over images.

    Raises:
        InputError: there is no image.
    """
    right = [int((match.truth >= threshold).sum()) for match in matches]
    wrong = [int((match.wrong >= threshold).sum()) for match in matches]
    return _ratio([(good, good + bad) for good, bad in zip(right, wrong, strict=True)])


def average_precision(matches: Sequence[Matches]) -> float:
    """Area under the curve of precision over recall, precision made falling, over all points, as VOC 2010 has it.

    NaN where no box is true.
    """
    scores, right, total = _ranked(matches)
    if not total:
        return float("nan")
    hits = np.cumsum(right)
    precisions = hits / np.arange(1, len(scores) + 1)
    falling = np.maximum.accumulate(precisions[::-1])[::-1] if len(scores) else precisions
    return float((falling * right).sum() / total)


def best_threshold(matches: Sequence[Matches], recall_weight: float = 1.0) -> float:
    """The score with the best F-measure, in the middle of where it is best.

    Args:
        matches: of each image.
        recall_weight: beta of the F-measure (van Rijsbergen): recall counts beta times as much as precision; 1 is their
            harmonic mean.
    """
    scores, right, total = _ranked(matches)
    if not total or not len(scores):
        return 0.5
    hits = np.cumsum(right)
    weight = recall_weight**2
    quality = (1 + weight) * hits / (np.arange(1, len(scores) + 1) + weight * total)
    quality[:-1][scores[:-1] == scores[1:]] = -1  # a threshold cannot part equal scores
    last = int(quality.argmax())
    following = scores[last + 1] if last + 1 < len(scores) else 0.0
    return float((scores[last] + following) / 2)


def _ranked(matches: Sequence[Matches]) -> tuple[FloatArray, NDArray[np.bool_], int]:
    """Scores of all found boxes from high to low, whether each is right, and how many boxes are true."""
    right = np.concatenate([match.truth for match in matches]) if matches else np.zeros(0)
    wrong = np.concatenate([match.wrong for match in matches]) if matches else np.zeros(0)
    good = right[np.isfinite(right)]
    scores = np.concatenate([good, wrong])
    order = np.argsort(-scores, kind="stable")
    return scores[order], (np.arange(len(scores)) < len(good))[order], len(right)


def _ratio(counts: Sequence[tuple[int, int]]) -> Estimate:
    """Sum of the firsts over that of the seconds; images that have nothing to count are left out."""
    rows = np.array([row for row in counts if row[1] > 0], np.float64).reshape(-1, 2)
    return bootstrap_ratio(rows) if len(rows) else Estimate(np.nan, np.nan, np.nan)
