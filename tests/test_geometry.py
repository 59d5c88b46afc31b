from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import (
    Crop,
    CropRule,
    box_iou,
    halvings,
    landmark_boxes,
    share_inside,
    whole_image,
    whole_pixels,
)

coordinates = st.floats(-5000, 5000)
crops = st.builds(
    Crop,
    center=st.tuples(coordinates, coordinates),
    side=st.floats(1, 5000),
    size=st.sampled_from([32, 128, 256]),
    angle=st.floats(-360, 360),
)
boxes = st.tuples(coordinates, coordinates, st.floats(0.1, 1000), st.floats(0.1, 1000)).map(
    lambda values: (values[0], values[1], values[0] + values[2], values[1] + values[3])
)


@given(crops, coordinates, coordinates)
def test_a_point_comes_back_from_the_input_to_where_it_was(crop: Crop, x: float, y: float) -> None:
    assert crop.to_image(crop.to_input([x, y])) == pytest.approx([x, y], abs=1e-5)


@given(crops)
def test_the_centre_of_a_crop_is_the_middle_of_the_input(crop: Crop) -> None:
    assert crop.to_input(crop.center) == pytest.approx([(crop.size - 1) / 2] * 2, abs=1e-6)


@given(crops, coordinates, coordinates, st.floats(0, 10), st.floats(0, 2 * math.pi))
def test_distances_change_by_the_scale_alone(crop: Crop, x: float, y: float, length: float, angle: float) -> None:
    first, second = crop.to_input([[x, y], [x + length * math.cos(angle), y + length * math.sin(angle)]])
    assert math.dist(first, second) == pytest.approx(length * crop.scale, abs=1e-5)


def test_shrinking_keeps_the_edges_of_the_picture_in_place() -> None:
    crop = Crop(center=(99.5, 99.5), side=200, size=100)  # a picture of 200 x 200, from -0.5 to 199.5
    assert crop.to_input([[-0.5, -0.5], [199.5, 199.5]]) == pytest.approx(np.array([[-0.5, -0.5], [99.5, 99.5]]))


def test_a_crop_turned_clockwise_sees_its_right_hand_side_below() -> None:
    crop = Crop(center=(50, 50), side=100, size=100, angle=90)
    assert crop.to_image([99.5, 49.5]) == pytest.approx([50, 100])  # right edge of the input, y points down


def test_points_of_any_leading_shape_keep_it() -> None:
    crop = Crop((10, 10), 20, 64)
    for shape in [(2,), (0, 2), (68, 2), (3, 68, 2)]:
        assert crop.to_input(np.zeros(shape)).shape == shape
        assert crop.to_image(np.zeros(shape)).shape == shape


@pytest.mark.parametrize("side", [0, -1, math.nan, math.inf])
def test_a_crop_without_area_is_refused(side: float) -> None:
    with pytest.raises(InputError, match="positive side"):
        Crop((0, 0), side, 64)


def test_a_crop_at_infinity_is_refused() -> None:
    with pytest.raises(InputError, match="finite centre"):
        Crop((math.nan, 0), 10, 64)


@given(boxes, st.floats(0.5, 3))
def test_a_crop_rule_centres_the_box_and_pads_its_longer_side(
    box: tuple[float, float, float, float], padding: float
) -> None:
    x0, y0, x1, y1 = box
    crop = CropRule(size=128, padding=padding).crop(box, angle=30)
    assert crop.center == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2))
    assert crop.side == pytest.approx(padding * max(x1 - x0, y1 - y0))
    assert crop.size == 128


@given(boxes, st.floats(0.5, 3), st.integers(-50, 50))
def test_a_crop_that_is_not_turned_shows_whole_pixels_wherever_it_is(
    box: tuple[float, float, float, float], padding: float, shift: int
) -> None:
    rule = CropRule(size=128, padding=padding)
    exact, crop = rule.crop(box, angle=1e-9), rule.crop(box)
    assert crop.side >= 1
    block = 2 ** halvings(exact.side, 128)
    assert abs(crop.side - exact.side) <= block / 2 or crop.side == 1
    assert crop.side % 2 ** halvings(crop.side, 128) == 0
    corner = np.array(crop.center) - (crop.side - 1) / 2
    np.testing.assert_array_equal(corner, corner.round())
    assert np.abs(np.array(crop.center) - exact.center).max() <= 0.5
    near = np.abs(np.array(exact.center) - (crop.side - 1) / 2 % 1 - 0.5) % 1  # of the next half, where rounding flips
    if min(near.min(), 1 - near.max()) > 1e-6 and abs(exact.side / block % 1 - 0.5) > 1e-6:
        moved = rule.crop(np.array(box) + shift)
        assert moved.side == crop.side
        np.testing.assert_array_equal(moved.center, np.array(crop.center) + shift)


@pytest.mark.parametrize("side", [100.0, 101.0])
def test_a_crop_moves_with_its_box_by_the_pixel_also_from_the_middle_between_two(side: float) -> None:
    half = (side - 1) / 2
    corners = [whole_pixels(20.5 + half + step, -3.5 + half - step, side, 128).center for step in range(4)]
    np.testing.assert_array_equal(np.diff(corners, axis=0), [[1, -1]] * 3)


def test_the_side_of_a_crop_grows_with_its_box_by_the_pixel_also_from_the_middle_between_two() -> None:
    assert [whole_pixels(0, 0, side + 0.5, 128).side for side in range(100, 104)] == [101, 102, 103, 104]


@pytest.mark.parametrize("size", [96, 128, 256, 320])
@pytest.mark.parametrize("side", [33.3, 100.0, 255.7, 641.0, 1279.2])
def test_whole_pixels_are_those_that_are_interpolated_with_few_bits(size: int, side: float) -> None:
    crop = whole_pixels(70.2, -30.9, side, size)
    assert abs(crop.side - side) <= side / 32 + 0.5
    assert crop.side % 2 ** halvings(crop.side, size) == 0
    fine = crop.side / 2 ** halvings(crop.side, size) * 128 / size
    assert fine % 1 == 0 or side / size < 1  # unless a small square would change by more than 3 percent


@pytest.mark.parametrize(("width", "height"), [(640, 480), (641, 480), (479, 641), (30, 7), (1919, 1080)])
def test_a_crop_of_the_whole_image_shows_all_of_it(width: int, height: int) -> None:
    crop = whole_image(width, height, 320)
    assert crop.side < max(width, height) * 1.04
    corners = crop.to_input([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    assert (corners >= -0.5).all()
    assert (corners <= 319.5).all()
    np.testing.assert_allclose(corners[0], 319 - corners[1], atol=1.01 * crop.scale)  # in the middle


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 10), (0, 10, 10, 10), (10, 0, 0, 10), (0, 0, math.nan, 10), (0, 0, math.inf, 10)]
)
def test_a_box_without_area_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="x0 < x1, y0 < y1"):
        CropRule(128, 1.4).crop(box)


@pytest.mark.parametrize(("size", "padding"), [(31, 1.4), (128, 0), (128, -1)])
def test_a_crop_rule_out_of_range_is_refused(size: int, padding: float) -> None:
    with pytest.raises(InputError, match=r"size must be from 32|padding must be positive"):
        CropRule(size, padding)


def test_a_tight_box_touches_its_outermost_landmarks() -> None:
    points = np.array([[[1.0, 5], [3, 2], [2, 9]], [[0, 0], [1, 1], [-1, 4]]])
    assert landmark_boxes(points).tolist() == [[1, 2, 3, 9], [-1, 0, 1, 4]]


@given(boxes, boxes)
def test_overlap_is_symmetric_and_between_none_and_all(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> None:
    overlap = float(box_iou([a], [b])[0, 0])
    assert 0 <= overlap <= 1 + 1e-9
    assert overlap == pytest.approx(float(box_iou([b], [a])[0, 0]))
    assert float(box_iou([a], [a])[0, 0]) == pytest.approx(1)


def test_overlap_of_known_boxes() -> None:
    found = box_iou([[0, 0, 2, 2], [0, 0, 1, 1]], [[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]])
    assert found == pytest.approx(np.array([[1 / 7, 1, 0], [0, 1 / 4, 0]]))


def test_overlap_with_no_boxes_is_empty() -> None:
    assert box_iou(np.zeros((0, 4)), [[0, 0, 1, 1]]).shape == (0, 1)


def test_the_share_of_a_box_inside_another_is_of_its_own_area() -> None:
    small, large = [10, 10, 20, 20], [0, 0, 15, 40]
    np.testing.assert_allclose(share_inside([small, large], [large, small]), [[0.5, 1], [1, 50 / 600]])
    assert share_inside(np.zeros((0, 4)), [large]).shape == (0, 1)
    assert share_inside([small], np.zeros((0, 4))).shape == (1, 0)
