"""Scores as probabilities: how well the score of a landmark says how likely it is right, and a curve that makes it so.

The height of a heatmap's peak rises with the chance that the landmark is right, but is not that chance. A `ScoreCurve`,
fitted on labelled objects that the network was not trained on, turns one into the other (isotonic regression; Zadrozny
and Elkan, KDD 2002). The expected calibration error (Guo et al., ICML 2017) is what is left: the mean distance of score
and share of right landmarks over ten bins of scores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from cunet_deploy._decode import check_fields
from cunet_deploy.errors import InputError
from cunet_deploy.metrics.estimates import Estimate, bootstrap

__all__ = ["BINS", "ReliabilityBin", "ScoreCurve", "bootstrap_calibration_error", "fit_score_curve", "reliability"]

FloatArray = NDArray[np.float64]

BINS = 10
"""Of scores from 0 to 1."""
_KNOTS = 20
"""Most pieces of a curve; each is of as many landmarks."""
_LEAST_LANDMARKS = 500
"""With fewer, what the curve learns is noise: 25 landmarks a piece tell a share to within a fifth."""
_DIGITS = 4

_Shares = Annotated[
    tuple[Annotated[float, Meta(ge=0, le=1)], ...],
    Meta(min_length=2, max_length=1000, description="a list of two or more numbers from 0 to 1"),
]


@dataclass(frozen=True)
class ScoreCurve:
    """Share of landmarks that are right by the height of their peak, linear between knots.

    Attributes:
        heights: of the knots, rising.
        shares: of right landmarks there, not falling.
        normalizer: of the skeleton, that "right" is measured in.
        within: distance up to which a landmark is right, in that unit.
        landmarks: how many it was fitted on.
    """

    heights: _Shares
    shares: _Shares
    normalizer: str
    within: Annotated[float, Meta(gt=0)]
    landmarks: Annotated[int, Meta(ge=1)]

    def __post_init__(self) -> None:
        check_fields(self, "score_curve:", InputError)
        rising = all(a < b for a, b in zip(self.heights, self.heights[1:], strict=False))
        if len(self.heights) != len(self.shares) or not rising or list(self.shares) != sorted(self.shares):
            raise InputError("score_curve: heights must rise and shares not fall, as many of each")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON stores them."""
        return {**asdict(self), "heights": list(self.heights), "shares": list(self.shares)}

    def apply(self, heights: ArrayLike) -> NDArray[np.float32]:
        """(...) heights of peaks as shares of right landmarks."""
        return np.interp(np.asarray(heights, np.float64), self.heights, self.shares).astype(np.float32)


def fit_score_curve(heights: ArrayLike, correct: ArrayLike, normalizer: str, within: float) -> ScoreCurve:
    """Fit a curve by isotonic regression.

    Args:
        heights: (N, K) of the peaks.
        correct: (N, K) 1 where a landmark is right, 0 where not; NaN where that is not known.
        normalizer: that "right" is measured in.
        within: distance up to which a landmark is right.

    Raises:
        InputError: too few landmarks are labelled.
    """
    known = np.isfinite(np.asarray(correct, np.float64))
    height, right = np.asarray(heights, np.float64)[known], np.asarray(correct, np.float64)[known]
    if len(height) < _LEAST_LANDMARKS:
        raise InputError(
            f"{len(height)} labelled landmarks are too few to calibrate scores; {_LEAST_LANDMARKS} are needed"
        )
    pooled: list[tuple[float, float, int]] = []  # sum of heights, number of right ones, number
    for part in np.array_split(np.argsort(height, kind="stable"), _KNOTS):
        block = float(height[part].sum()), float(right[part].sum()), len(part)
        while pooled and pooled[-1][1] * block[2] >= block[1] * pooled[-1][2]:
            block = tuple(a + b for a, b in zip(pooled.pop(), block, strict=True))  # type: ignore[assignment]
        pooled.append(block)
    knots = {0.0: 0.0}  # an empty map says nothing
    for total, hits, count in pooled:
        knots[round(min(total / count, 1.0), _DIGITS)] = round(hits / count, _DIGITS)
    knots.setdefault(1.0, max(knots.values()))
    return ScoreCurve(tuple(knots), tuple(knots.values()), normalizer, within, len(height))


@dataclass(frozen=True)
class ReliabilityBin:
    """Landmarks whose scores lie in a range.

    Attributes:
        low: of the range.
        high: of the range.
        landmarks: how many.
        score: their mean score; NaN without any.
        correct: share of them that is right; NaN without any.
    """

    low: float
    high: float
    landmarks: int
    score: float
    correct: float


def reliability(scores: ArrayLike, correct: ArrayLike) -> list[ReliabilityBin]:
    """Scores against shares of right landmarks, in `BINS` ranges.

    Args:
        scores: (N, K) in [0, 1].
        correct: (N, K) 1 where a landmark is right, 0 where not; NaN where that is not known.
    """
    found = []
    for index, (count, total, right) in enumerate(_histograms(scores, correct).sum(axis=0).T):
        means = (total / count, right / count) if count else (np.nan, np.nan)
        found.append(ReliabilityBin(index / BINS, (index + 1) / BINS, int(count), float(means[0]), float(means[1])))
    return found


def bootstrap_calibration_error(scores: ArrayLike, correct: ArrayLike) -> Estimate:
    """The expected calibration error, a share, and its 95 % interval over N objects; see `reliability`.

    Raises:
        InputError: no landmark counts.
    """
    histograms = _histograms(scores, correct)
    histograms = histograms[histograms[:, 0].sum(axis=1) > 0]
    count, flat = len(histograms), histograms.reshape(len(histograms), -1)

    def errors(drawn: FloatArray) -> FloatArray:
        """(R,) errors of (R, N) objects by index: how often each was drawn says how much its landmarks count."""
        rows = np.arange(len(drawn))[:, None] * count
        times = np.bincount((drawn.astype(np.intp) + rows).ravel(), minlength=len(drawn) * count)
        number, total, right = np.moveaxis((times.reshape(len(drawn), count) @ flat).reshape(-1, 3, BINS), 1, 0)
        return np.asarray(np.abs(total - right).sum(axis=1) / number.sum(axis=1))

    return bootstrap(np.arange(count), errors)


def _histograms(scores: ArrayLike, correct: ArrayLike) -> FloatArray:
    """(N, 3, bins) number, sum of scores and number of right ones of the landmarks of each object."""
    values, right = np.asarray(scores, np.float64), np.asarray(correct, np.float64)
    known = np.isfinite(right)
    rows = np.broadcast_to(np.arange(len(values))[:, None], values.shape)[known]
    cells = rows * BINS + np.minimum((values[known] * BINS).astype(np.intp), BINS - 1)
    parts = [
        np.bincount(cells, weights, minlength=len(values) * BINS).reshape(-1, BINS)
        for weights in (np.ones(len(rows)), values[known], right[known])
    ]
    return np.stack(parts, axis=1)
