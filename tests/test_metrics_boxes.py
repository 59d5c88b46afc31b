"""Recall, precision and average precision of boxes, with numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cunet_deploy.metrics.boxes import Matches, average_precision, best_threshold, match_boxes, precision, recall

NONE = np.zeros((0, 4))
A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]


def test_a_box_is_found_once_and_the_second_find_is_wrong() -> None:
    match = match_boxes([A, A], [0.9, 0.8], [A], NONE)
    assert match.truth.tolist() == [0.9]
    assert match.wrong.tolist() == [0.8]


def test_too_little_overlap_is_no_find() -> None:
    match = match_boxes([[6, 0, 16, 10]], [0.9], [A], NONE)  # 4 of 16 columns
    assert np.isneginf(match.truth).all()
    assert match.wrong.tolist() == [0.9]


def test_half_of_the_union_is_enough_and_of_two_boxes_the_one_that_is_overlapped_more_is_found() -> None:
    assert match_boxes([[0, 0, 10, 5]], [0.9], [A], NONE).truth.tolist() == [0.9]
    beside = [2, 0, 12, 10]
    assert match_boxes([beside], [0.9], [A, beside], NONE).truth.tolist() == [-np.inf, 0.9]


def test_the_share_that_lies_on_something_unknown_is_that_of_the_found_box() -> None:
    crowd, small, large = [0, 0, 40, 40], [5, 5, 15, 15], [0, 0, 100, 100]
    assert match_boxes([small], [0.9], NONE, [crowd]).wrong.tolist() == []
    assert match_boxes([large], [0.9], NONE, [crowd]).wrong.tolist() == [0.9]


def test_a_find_on_something_unknown_is_neither_right_nor_wrong() -> None:
    match = match_boxes([A, B], [0.9, 0.8], [B], [A])
    assert match.truth.tolist() == [0.8]
    assert match.wrong.tolist() == []


def test_average_precision_by_hand() -> None:
    # right, wrong, right of three true boxes: precision 1 up to recall 1/3, then 2/3 up to 2/3, then 0
    match = match_boxes([A, [70, 0, 80, 10], B], [0.9, 0.8, 0.7], [A, B, C], NONE)
    assert average_precision([match]) == pytest.approx((1 + 2 / 3) / 3)


def test_recall_and_precision_depend_on_the_score() -> None:
    match = match_boxes([A, [70, 0, 80, 10], B], [0.9, 0.8, 0.7], [A, B, C], NONE)
    assert recall([match], 0.75).value == pytest.approx(1 / 3)
    assert recall([match], 0.7).value == pytest.approx(2 / 3)
    assert precision([match], 0.75).value == pytest.approx(1 / 2)
    assert precision([match], 0.7).value == pytest.approx(2 / 3)


def test_recall_by_size_counts_those_boxes_only() -> None:
    match = match_boxes([A], [0.9], [A, [100, 0, 140, 40]], NONE)
    assert recall([match], 0.5, (0, 20)).value == 1
    assert recall([match], 0.5, (20, np.inf)).value == 0
    assert np.isnan(recall([match], 0.5, (100, np.inf)).value)


def test_a_box_at_the_end_of_a_range_is_of_the_next_one() -> None:
    match = match_boxes([A], [0.9], [A], NONE)  # sides of 10
    assert np.isnan(recall([match], 0.5, (0, 10)).value)
    assert recall([match], 0.5, (10, 20)).value == 1
    assert [len(match.of_size(*sides).truth) for sides in ((0, 10), (10, 20))] == [0, 1]


def test_average_precision_by_size_leaves_out_finds_of_other_sizes() -> None:
    small, large = [A, B], [[100, 0, 140, 40]]
    found = [*small, [200, 0, 210, 10], *large, [300, 0, 340, 40]]
    match = match_boxes(found, [0.5, 0.4, 0.9, 0.8, 0.3], [*small, *large], NONE)
    assert average_precision([match.of_size(0, 20)]) == pytest.approx(2 / 3)  # behind one that is wrong
    assert average_precision([match.of_size(20, np.inf)]) == 1  # before the one that is wrong
    assert average_precision([match]) == pytest.approx((3 / 4 + 3 / 4 + 3 / 4) / 3)


def test_images_without_boxes_count_where_something_was_found_in_them() -> None:
    empty = match_boxes([A], [0.9], NONE, NONE)
    found = match_boxes([A], [0.9], [A], NONE)
    assert precision([empty, found], 0.5).value == 0.5
    assert recall([empty, found], 0.5).value == 1


def test_the_best_threshold_parts_right_from_wrong() -> None:
    matches = [Matches(np.array([0.9, 0.6]), np.array([10.0, 10.0]), np.array([0.3]), np.array([10.0]))]
    assert 0.3 < best_threshold(matches) < 0.6


def test_a_threshold_does_not_part_equal_scores() -> None:
    right, wrong = np.array([0.9, 0.5]), np.array([0.5, 0.5, 0.5])
    matches = [Matches(right, np.full(2, 10.0), wrong, np.full(3, 10.0))]
    # with the second right one alone F1 would be 1; with all four of its score it is less than without them
    assert best_threshold(matches) == pytest.approx(0.7)


def test_where_recall_counts_more_more_is_found() -> None:
    right, wrong = np.array([0.9, 0.8, 0.3, 0.2]), np.array([0.7, 0.6, 0.5, 0.4])
    matches = [Matches(right, np.full(4, 10.0), wrong, np.full(4, 10.0))]
    # F1 of two of two found is 0.67, as of four of eight; F2 is 0.56 and 0.83
    assert 0.7 < best_threshold(matches) < 0.8
    assert best_threshold(matches, 2.0) < 0.2


def test_without_finds_there_is_no_precision_and_no_area() -> None:
    nothing = match_boxes(NONE, [], [A], NONE)
    assert average_precision([nothing]) == 0
    assert np.isnan(precision([nothing], 0.5).value)
    assert np.isnan(average_precision([match_boxes(NONE, [], NONE, NONE)]))
