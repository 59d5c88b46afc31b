"""Area under the ROC curve of landmark scores for telling visible landmarks from hidden ones.

Scores are counted in steps of 1/255, as fine as those of a network of 8 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.metrics.estimates import Estimate, bootstrap

__all__ = ["bootstrap_visibility_auc", "visibility_auc"]

FloatArray = NDArray[np.float64]

_LEVELS = 256


def visibility_auc(scores: ArrayLike, visible: ArrayLike) -> float:
    """Area under the ROC curve: how often a visible landmark scores higher than a hidden one; equal scores count half.

    Args:
        scores: (N, K) in [0, 1].
        visible: (N, K) 1 visible, 0 hidden; others are left out.

    Returns:
        A share, 0.5 for scores that say nothing; NaN where nothing is visible or nothing hidden.
    """
    return float(_areas(_histograms(scores, visible).sum(axis=0, keepdims=True))[0])


def bootstrap_visibility_auc(scores: ArrayLike, visible: ArrayLike) -> Estimate:
    """`visibility_auc` and its 95 % interval over N objects.

    Raises:
        InputError: there are no objects.
    """
    histograms = _histograms(scores, visible)
    count, flat = len(histograms), histograms.reshape(len(histograms), -1)

    def areas(drawn: FloatArray) -> FloatArray:
        """Areas of (R, N) objects by index: how often each was drawn says how much its landmarks count."""
        rows = np.arange(len(drawn))[:, None] * count
        times = np.bincount((drawn.astype(np.intp) + rows).ravel(), minlength=len(drawn) * count)
        return _areas((times.reshape(len(drawn), count) @ flat).reshape(-1, 2, _LEVELS))

    return bootstrap(np.arange(count), areas)


def _histograms(scores: ArrayLike, visible: ArrayLike) -> FloatArray:
    """(N, 2, levels) how many hidden and how many visible landmarks of each object have a score."""
    state = np.asarray(visible, np.float64)
    levels = np.rint(np.asarray(scores, np.float64) * (_LEVELS - 1)).clip(0, _LEVELS - 1).astype(np.intp)
    known = (state == 0) | (state == 1)
    rows = np.broadcast_to(np.arange(len(state))[:, None], state.shape)[known]
    cells = (2 * rows + state[known].astype(np.intp)) * _LEVELS + levels[known]
    return np.bincount(cells, minlength=len(state) * 2 * _LEVELS).reshape(-1, 2, _LEVELS).astype(np.float64)


def _areas(histograms: FloatArray) -> FloatArray:
    """(R,) areas of (R, 2, levels) counts."""
    hidden, seen = histograms[:, 0], histograms[:, 1]
    below = hidden.cumsum(axis=1) - hidden / 2
    pairs = hidden.sum(axis=1) * seen.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray((seen * below).sum(axis=1) / pairs)
