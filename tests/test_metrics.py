from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.errors import InputError
from cunet_deploy.metrics import (
    Estimate,
    auc_parts,
    bootstrap,
    bootstrap_mean,
    failures,
    landmark_errors,
    normalized_errors,
    normalizer_lengths,
    normalizer_names,
    object_errors,
    paired_difference,
    paired_relative_difference,
)
from cunet_deploy.skeletons import IBUG68, Skeleton

SQUARE = Skeleton("square", ("a", "b", "c", "d"), (), (), {"top": ((0,), (1,)), "sides": ((0, 2), (1, 3))})
CORNERS = np.array([[[0.0, 0], [10, 0], [0, 40], [10, 40]]])  # a box of 10 x 40 pixels


def errors_of_one(prediction: NDArray[np.float64], normalizer: str = "top") -> NDArray[np.float64]:
    return np.asarray(normalized_errors(prediction, CORNERS, SQUARE, normalizer)[0])


def test_errors_are_distances_in_units_of_the_normalizer() -> None:
    moved = CORNERS + np.array([[3.0, 4], [0, 0], [6, 8], [0, -1]])
    np.testing.assert_allclose(errors_of_one(moved), [0.5, 0, 1.0, 0.1])
    np.testing.assert_allclose(object_errors(errors_of_one(moved)[None]), [0.4])


def test_the_box_normalizer_is_the_geometric_mean_of_the_sides() -> None:
    np.testing.assert_allclose(normalizer_lengths(CORNERS, SQUARE, "box"), [20])


def test_a_group_of_landmarks_stands_for_its_centroid() -> None:
    np.testing.assert_allclose(normalizer_lengths(CORNERS, SQUARE, "sides"), [10])


def test_the_default_normalizer_of_faces_is_the_distance_of_the_outer_eye_corners() -> None:
    face = np.zeros((1, 68, 2))
    face[0, 36], face[0, 45] = (10, 20), (40, 60)
    assert normalizer_names(IBUG68) == ("outer_eye", "pupil", "box")
    np.testing.assert_allclose(normalizer_lengths(face, IBUG68, "outer_eye"), [50])


def test_an_unlabelled_landmark_is_left_out_of_every_mean() -> None:
    truth = np.concatenate([CORNERS, CORNERS])
    truth[0, 3] = np.nan
    prediction = truth + np.array([1.0, 0])
    prediction[0, 3] = (500, 500)
    errors = normalized_errors(prediction, truth, SQUARE, "top")
    np.testing.assert_allclose(object_errors(errors), [0.1, 0.1])
    np.testing.assert_allclose(landmark_errors(errors), [0.1] * 4)


def test_an_object_whose_normalizer_is_unlabelled_has_no_error_but_still_a_box() -> None:
    truth = CORNERS.copy()
    truth[0, 0] = np.nan
    assert np.isnan(object_errors(normalized_errors(CORNERS, truth, SQUARE, "top"))).all()
    np.testing.assert_allclose(object_errors(normalized_errors(CORNERS, truth, SQUARE, "box")), [0])


def test_an_object_without_any_label_has_no_length() -> None:
    for normalizer in normalizer_names(SQUARE):
        assert np.isnan(normalizer_lengths(np.full((1, 4, 2), np.nan), SQUARE, normalizer)).all()


def test_a_normalizer_of_zero_length_is_unknown_rather_than_infinite() -> None:
    assert np.isnan(normalizer_lengths(np.zeros((1, 4, 2)), SQUARE, "top")).all()


def test_a_landmark_that_was_not_found_is_infinitely_wrong() -> None:
    prediction = CORNERS.copy()
    prediction[0, 1] = np.nan
    assert errors_of_one(prediction)[1] == np.inf
    assert failures(object_errors(errors_of_one(prediction)[None])) == [1]


def test_the_area_is_that_of_the_step_function() -> None:
    # F is 0 up to 0.02, 1/4 up to 0.04, 3/4 up to 0.08: (0.02 / 4 + 0.04 * 3 / 4) / 0.08
    assert auc_parts([0.02, 0.04, 0.04, 0.5]).mean() == pytest.approx(0.4375)
    assert auc_parts([0.0, 0.0]).mean() == 1


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=30))
def test_the_area_equals_a_fine_sum_over_the_cumulative_distribution(errors: list[float]) -> None:
    levels = (np.arange(4000) + 0.5) / 4000 * 0.08
    expected = (np.array(errors)[None] <= levels[:, None]).mean()
    assert auc_parts(errors).mean() == pytest.approx(expected, abs=1e-3)


def test_an_error_at_the_threshold_is_no_failure() -> None:
    np.testing.assert_array_equal(failures([0.08, 0.0801, np.nan]), [0, 1, np.nan])


@settings(max_examples=30)
@given(st.floats(0.1, 50), st.floats(-500, 500), st.floats(-500, 500), st.integers(0, 2**32 - 1))
def test_errors_do_not_change_when_the_photo_is_scaled_and_shifted(
    scale: float, dx: float, dy: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (3, 4, 2))
    prediction = truth + rng.normal(0, 2, truth.shape)
    for normalizer in normalizer_names(SQUARE):
        before = normalized_errors(prediction, truth, SQUARE, normalizer)
        after = normalized_errors(prediction * scale + [dx, dy], truth * scale + [dx, dy], SQUARE, normalizer)
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-9)


def test_the_interval_of_a_mean_has_the_width_that_theory_says() -> None:
    sample = np.random.default_rng(1).normal(5, 2, 400)
    estimate = bootstrap_mean(sample)
    assert estimate.value == pytest.approx(sample.mean())
    assert estimate.margin == pytest.approx(1.96 * sample.std() / 20, rel=0.05)
    assert estimate.low < estimate.value < estimate.high


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    estimates = [bootstrap_mean(rng.gamma(4, 1, 100), resamples=400) for _ in range(400)]
    share = np.mean([estimate.low <= 4 <= estimate.high for estimate in estimates])
    assert 0.9 < share < 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    sample = np.random.default_rng(3).normal(size=50)
    assert bootstrap_mean(sample, seed=7) == bootstrap_mean(sample, seed=7)
    assert bootstrap_mean(sample, seed=7) != bootstrap_mean(sample, seed=8)
    for paired in (paired_difference, paired_relative_difference):
        assert paired(sample**2, sample + 5, seed=7) == paired(sample**2, sample + 5, seed=7)
        assert paired(sample**2, sample + 5, seed=7) != paired(sample**2, sample + 5, seed=8)


def test_one_outlier_moves_the_mean_but_not_the_median() -> None:
    sample = [1.0] * 30 + [1000.0]
    assert bootstrap(sample, lambda drawn: np.median(drawn, axis=1)) == Estimate(1, 1, 1)
    assert bootstrap_mean(sample).value > 30


def test_a_large_sample_is_resampled_in_chunks() -> None:
    sample = np.random.default_rng(4).normal(0, 1, 200_000)
    assert bootstrap_mean(sample, resamples=50).margin == pytest.approx(1.96 / np.sqrt(200_000), rel=0.35)


def test_an_infinite_error_gives_an_infinite_mean_and_bound() -> None:
    estimate = bootstrap_mean([0.01] * 99 + [np.inf])
    assert estimate.value == np.inf
    assert estimate.low == pytest.approx(0.01)
    assert estimate.high == np.inf


def test_a_constant_difference_is_known_exactly_however_much_the_objects_differ() -> None:
    reference = np.random.default_rng(5).uniform(1, 100, 60)
    estimate = paired_difference(reference + 0.25, reference)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.25, 0.25, 0.25))
    relative = paired_relative_difference(reference * 1.02, reference)
    assert (relative.value, relative.low, relative.high) == pytest.approx((0.02, 0.02, 0.02))


def test_a_pair_with_one_unknown_number_is_left_out() -> None:
    assert paired_difference([1, 2, np.nan], [0, 1, 5]).value == 1


def test_percent_is_a_scaled_estimate() -> None:
    assert Estimate(0.03, 0.02, 0.05).scaled(100).to_dict() == {"value": 3, "ci95_low": 2, "ci95_high": 5}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: normalizer_lengths(CORNERS, SQUARE, "nose"), "known: top, sides, box", id="normalizer"),
        pytest.param(lambda: normalizer_lengths(CORNERS, IBUG68, "box"), r"\(N, 68, 2\)", id="shape"),
        pytest.param(
            lambda: normalized_errors(CORNERS, np.concatenate([CORNERS] * 2), SQUARE, "top"), "1 predicted", id="count"
        ),
        pytest.param(lambda: bootstrap_mean([np.nan]), "no object", id="nothing"),
        pytest.param(lambda: paired_difference([1], [1, 2]), "cannot be paired", id="pairing"),
        pytest.param(lambda: paired_difference([np.inf, 1], [1, 1]), "infinite", id="infinite pair"),
        pytest.param(lambda: paired_relative_difference([1, 1], [1, 0]), "positive", id="relative to zero"),
        pytest.param(lambda: auc_parts([0.1], 0), "positive", id="threshold"),
    ],
)
def test_what_does_not_fit_is_said(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        call()


def test_an_estimate_is_written_in_one_way() -> None:
    estimate = Estimate(3.1234, 2.9811, 3.2678)
    assert estimate.text() == "3.12 (2.98 to 3.27)"
    assert estimate.text(1, unit="%") == "3.1 % (3.0 to 3.3)"
    assert estimate.scaled(-1).text(1, sign=True) == "-3.1 (-3.3 to -3.0)"
    assert Estimate.of(estimate.to_dict()) == estimate


def test_a_ratio_of_sums_is_not_the_mean_of_ratios() -> None:
    found = metrics.bootstrap_ratio([[1, 1], [0, 9]])
    assert found.value == pytest.approx(0.1)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_what_disturbs_a_round_disturbs_both_medians() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 3, (20, 1, 5)) * rng.uniform(1, 5, (20, 1, 1))  # rounds differ by much
    found = metrics.ratio_of_medians(np.concatenate([2 * base, base], axis=1))
    assert (found.value, found.low, found.high) == (2, 2, 2)
