"""Boxes written into maps and read back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cunet_deploy._decode import decode_json
from cunet_deploy.boxmaps import BoxCode, distinct
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou

NONE = np.zeros((0, 4))
CODE = BoxCode()


@given(st.floats(20, 230), st.floats(20, 230), st.floats(12, 200), st.floats(12, 200))
def test_a_box_comes_back(x: float, y: float, width: float, height: float) -> None:
    box = np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
    found, scores = CODE.decode(CODE.encode(box, NONE, 64, 4).maps, 4, 0.3)
    assert len(found) == 1
    assert box_iou(found, box)[0, 0] > 0.85
    assert 0.7 < scores[0] <= 1


def test_several_boxes_come_back_best_first() -> None:
    boxes = np.array([[10, 10, 40, 50], [100, 90, 240, 260], [3, 200, 27, 228]], np.float64)
    found, scores = CODE.decode(CODE.encode(boxes, NONE, 64, 4).maps, 4, 0.3)
    assert (box_iou(found, boxes).max(axis=0) > 0.95).all()
    assert (np.diff(scores) <= 0).all()


def test_the_most_certain_box_of_each_image_is_told_by_its_corners() -> None:
    boxes = [np.array([[10, 20, 50, 60]], np.float64), np.array([[100, 100, 180, 190]], np.float64)]
    maps = np.stack([CODE.encode(box, NONE, 64, 4).maps for box in boxes])
    corners, scores = CODE.best(maps, 4)
    assert corners.shape == (2, 2, 2)
    np.testing.assert_allclose(corners.reshape(2, 4), np.concatenate(boxes), atol=1.0)
    assert (scores > 0.9).all()


def test_a_box_whose_middle_is_outside_is_not_written() -> None:
    targets = CODE.encode([[-60, 10, 20, 60]], NONE, 64, 4)
    assert not targets.maps[0].any()
    assert not targets.sides.any()


def test_where_nothing_is_known_nothing_counts_but_a_known_box() -> None:
    targets = CODE.encode([[20, 20, 60, 60]], [[0, 0, 100, 100]], 64, 4)
    assert targets.center[20, 20] == 0  # unknown
    assert targets.center[10, 10] == 1  # the middle of the known box
    assert targets.center[60, 60] == 1


def test_what_is_unknown_is_as_wide_and_as_high_as_it_is() -> None:
    weight = CODE.encode(NONE, [[8, 100, 47, 119]], 64, 4).center
    unknown = np.argwhere(weight == 0)  # rows and columns
    assert unknown.min(axis=0).tolist() == [25, 2]
    assert unknown.max(axis=0).tolist() == [29, 11]
    assert (weight[25:30, 2:12] == 0).all()


@pytest.mark.parametrize(("side", "code"), [(4.0, 0.0), (8.0, 0.0), (16.0, 0.2), (256.0, 1.0), (400.0, 1.0)])
def test_sides_are_coded_from_the_smallest_to_so_many_doublings_of_it_and_no_further(side: float, code: float) -> None:
    box = [[128 - side / 2, 128 - side / 2, 128 + side / 2, 128 + side / 2]]
    assert CODE.encode(box, NONE, 64, 4).maps[1:, 32, 32] == pytest.approx([code, code])


def test_balance_lets_small_boxes_count_as_much_as_large_ones() -> None:
    boxes = [[20, 20, 60, 60], [80, 80, 240, 240]]  # Gaussians of 1 and 4 cells
    plain = CODE.encode(boxes, NONE, 64, 4)
    balanced = CODE.encode(boxes, NONE, 64, 4, balance=1.0, typical=80.0)  # of 2 cells
    small, large = plain.sides[:17, :17].sum(), plain.sides[20:, 20:].sum()
    assert large == pytest.approx(16 * small, rel=0.05)
    assert balanced.sides[:17, :17].sum() == pytest.approx(4 * small)
    assert balanced.sides[20:, 20:].sum() == pytest.approx(large / 4)
    assert balanced.center[10, 10] == pytest.approx(1 + 3 * plain.maps[0, 10, 10])
    assert balanced.center[40, 40] == pytest.approx(1 - 3 / 4 * plain.maps[0, 40, 40])
    assert balanced.center[63, 0] == pytest.approx(1)
    np.testing.assert_array_equal(balanced.maps, plain.maps)


def test_empty_maps_hold_no_box() -> None:
    found, scores = CODE.decode(np.zeros((3, 64, 64), np.float32), 4, 0.0)
    assert found.shape == (0, 4)
    assert scores.shape == (0,)


def test_a_score_is_never_above_one_and_counts_from_the_least_on() -> None:
    maps = CODE.encode([[78, 78, 182, 182]], NONE, 64, 4).maps
    peak = float(maps[0].max())
    assert len(CODE.decode(maps, 4, peak)[1]) == 1
    assert len(CODE.decode(maps, 4, np.nextafter(peak, 2))[1]) == 0
    assert CODE.decode(maps * np.array([1.5, 1, 1])[:, None, None], 4, 0.5)[1].tolist() == [1]


def test_of_boxes_that_overlap_the_best_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]], np.float64)
    assert distinct(boxes, 0.4) == [0, 2]
    assert distinct(boxes, 0.95) == [0, 1, 2]


def test_tight_boxes_are_moved_and_scaled() -> None:
    code = BoxCode(tight_down=0.1, tight_width=1.2, tight_height=0.5)
    np.testing.assert_allclose(code.tight(np.array([[0.0, 0.0, 10.0, 20.0]])), [[-1, 7, 11, 17]])


def test_boxes_from_tight_ones_have_these_as_their_tight_ones() -> None:
    code = BoxCode(tight_down=0.1, tight_width=1.2, tight_height=0.5)
    boxes = np.array([[0.0, 0.0, 10.0, 20.0], [5.0, -3.0, 6.0, 8.0]])
    np.testing.assert_allclose(code.from_tight(code.tight(boxes)), boxes)


def test_a_code_survives_the_way_through_a_manifest() -> None:
    code = BoxCode(smallest=6, octaves=4, tight_down=0.2)
    assert decode_json(json.dumps(code.to_dict()), BoxCode) == code


@pytest.mark.parametrize("wrong", [{"smallest": 0}, {"octaves": -1}, {"overlap": 1.0}, {"tight_width": 0}])
def test_a_code_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="box code"):
        BoxCode(**wrong)
