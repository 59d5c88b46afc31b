"""How well scores tell visible landmarks from hidden ones."""

from __future__ import annotations

import numpy as np
import pytest

from cunet_deploy.metrics import bootstrap_visibility_auc, visibility_auc


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    visible = rng.integers(0, 2, (40, 9)).astype(float)
    scores = np.rint(255 * (0.2 * visible + rng.uniform(0, 0.8, visible.shape))) / 255
    seen, hidden = scores[visible == 1], scores[visible == 0]
    above, equal = seen[:, None] > hidden, seen[:, None] == hidden
    assert visibility_auc(scores, visible) == pytest.approx((above + 0.5 * equal).mean())


def test_unknown_landmarks_do_not_count_and_one_kind_alone_has_no_area() -> None:
    scores, visible = np.array([[0.9, 0.1, 0.0, 1.0]]), np.array([[1.0, 0.0, np.nan, np.nan]])
    assert visibility_auc(scores, visible) == 1
    assert visibility_auc(1 - scores, visible) == 0
    assert visibility_auc(np.full((1, 4), 0.3), visible) == 0.5
    assert np.isnan(visibility_auc(scores, np.ones((1, 4))))


def test_the_interval_comes_from_drawing_objects() -> None:
    rng = np.random.default_rng(1)
    visible = rng.integers(0, 2, (200, 10)).astype(float)
    scores = np.clip(0.15 * visible + rng.uniform(0, 0.85, visible.shape), 0, 1)
    estimate = bootstrap_visibility_auc(scores, visible)
    assert estimate.low < estimate.value == visibility_auc(scores, visible) < estimate.high
    redrawn = [visibility_auc(scores[rows], visible[rows]) for rows in rng.integers(0, 200, (300, 200))]
    assert estimate.margin == pytest.approx(1.96 * np.std(redrawn), rel=0.15)
