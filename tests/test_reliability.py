"""Scores as probabilities, on landmarks whose chance of being right is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dots import box, manifest, scene, write_model

from cunet_deploy import Localizer
from cunet_deploy.errors import InputError
from cunet_deploy.manifest import Manifest
from cunet_deploy.metrics import ScoreCurve, bootstrap_calibration_error, fit_score_curve, reliability


def drawn(seed: int, count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """(count, 5) heights, and landmarks that are right with the square of that as chance; some not labelled."""
    rng = np.random.default_rng(seed)
    heights = rng.uniform(0.2, 1.0, (count, 5))
    correct = (rng.random(heights.shape) < heights**2).astype(float)
    correct[rng.random(heights.shape) < 0.1] = np.nan
    return heights, correct


def test_a_curve_makes_scores_of_the_chance_to_be_right() -> None:
    curve = fit_score_curve(*drawn(0), "torso", 0.2)
    heights, correct = drawn(1)
    np.testing.assert_allclose(curve.apply(heights), heights**2, atol=0.06)
    before, after = (bootstrap_calibration_error(scores, correct) for scores in (heights, curve.apply(heights)))
    assert before.value > 0.15
    assert after.value < 0.02
    assert after.low <= after.value <= after.high
    assert curve.landmarks == np.isfinite(drawn(0)[1]).sum()


def test_a_curve_never_falls_and_nothing_means_nothing() -> None:
    heights, correct = drawn(2)
    correct[(heights > 0.5) & (heights < 0.6)] = 1  # by chance, a range that is better than the next one
    curve = fit_score_curve(heights, correct, "torso", 0.2)
    assert (np.diff(curve.apply(np.linspace(0, 1, 101))) >= 0).all()
    assert curve.apply(0.0) == 0
    assert 0.9 < curve.apply(1.0) <= 1


def test_bins_count_what_lies_in_them() -> None:
    scores = np.array([[0.05, 0.95], [0.95, 1.0]])
    bins = reliability(scores, np.array([[0.0, 1.0], [0.0, np.nan]]))
    assert [own.landmarks for own in bins] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins[9].score == pytest.approx(0.95)
    assert bins[9].correct == 0.5
    assert np.isnan(bins[4].score)
    error = bootstrap_calibration_error(scores, np.array([[0.0, 1.0], [0.0, np.nan]]))
    assert error.value == pytest.approx((0.05 + 2 * 0.45) / 3)


def test_a_score_of_one_is_in_the_last_range_of_its_own_object() -> None:
    bins = reliability([[1.0, 0.9], [0.0, 0.1]], np.ones((2, 2)))
    assert [own.landmarks for own in bins] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_objects_without_labels_are_not_drawn() -> None:
    scores, correct = drawn(4, 40)
    alone = bootstrap_calibration_error(scores, correct)
    nobody = np.full((160, 5), np.nan)
    assert bootstrap_calibration_error(np.r_[scores, np.ones((160, 5))], np.r_[correct, nobody]) == alone


def test_beyond_the_heights_that_were_seen_a_curve_rises_no_further() -> None:
    heights, correct = drawn(5)
    curve = fit_score_curve(heights / 2, correct, "torso", 0.2)
    assert curve.apply(1.0) == curve.apply(0.5) == np.float32(max(curve.shares[:-1])) < 1


def test_too_few_landmarks_are_refused() -> None:
    with pytest.raises(InputError, match="too few to calibrate scores"):
        fit_score_curve(*drawn(0, 20), "torso", 0.2)


@pytest.mark.parametrize(
    "changes",
    [
        {"heights": (0.5, 0.5)},
        {"shares": (0.9, 0.1)},
        {"heights": (0.0, 0.5, 1.0)},
        {"shares": (0.0, 1.5)},
        {"heights": (0.5,), "shares": (0.5,)},
    ],
)
def test_a_damaged_curve_is_refused(changes: dict[str, tuple[float, ...]]) -> None:
    good = {"heights": (0.0, 1.0), "shares": (0.0, 0.9), "normalizer": "torso", "within": 0.2, "landmarks": 600}
    ScoreCurve(**good)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="score_curve"):
        ScoreCurve(**{**good, **changes})  # type: ignore[arg-type]


def test_a_manifest_keeps_its_curve_and_one_without_stays_as_it_was() -> None:
    plain = manifest()
    assert "score_curve" not in plain.to_dict()
    curved = replace(plain, score_curve=ScoreCurve((0.0, 0.5, 1.0), (0.0, 0.1, 0.8), "top", 0.08, 600))
    assert Manifest.from_json(curved.to_json(), "here") == curved
    heights = np.array([0.25, 0.75], np.float32)
    assert plain.scores(heights) is heights
    np.testing.assert_allclose(curved.scores(heights), [0.05, 0.45])


def test_results_have_calibrated_scores_and_the_same_objects(tmp_path: Path) -> None:
    curve = ScoreCurve((0.0, 0.5, 1.0), (0.0, 0.1, 0.3), "top", 0.08, 600)  # far below min_score
    image, _ = scene()
    results = []
    for name, own in (("plain", None), ("curved", curve)):
        path = write_model(tmp_path / f"{name}.onnx", manifest(score_curve=own))
        with Localizer(path, detector="full", threads=1) as localizer:
            results.append((localizer.predict(image), localizer.predict(image, box()), localizer.video().update(image)))
    for plain, curved in zip(*results, strict=True):
        assert len(plain) == len(curved) == 1
        np.testing.assert_array_equal(plain.points, curved.points)
        np.testing.assert_allclose(curved.scores, curve.apply(plain.scores), atol=1e-6)
        assert curved.scores.max() <= 0.3 < 0.5 < plain.scores.min()
