from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cunet_deploy.errors import InputError
from cunet_deploy.heatmaps import Decoder, decode, encode, input_to_map, map_to_input

SIZE, STRIDE = 32, 4
inside = st.floats(0, SIZE - 1)
sigmas = st.floats(0.8, 3)
decoders = st.integers(1, 3).map(Decoder)


@given(inside, inside, sigmas, decoders)
def test_an_encoded_point_is_decoded_within_a_tenth_of_an_input_pixel(
    x: float, y: float, sigma: float, decoder: Decoder
) -> None:
    points, scores = decode(encode([x, y], SIZE, sigma), decoder)
    assert np.linalg.norm(map_to_input(points, STRIDE) - map_to_input([x, y], STRIDE)) < 0.1
    assert 0.67 < scores <= 1  # half a cell off in x and y at the smallest sigma gives 0.677


@given(inside, inside, decoders)
def test_a_map_of_eight_bits_is_decoded_within_a_tenth_of_a_cell(x: float, y: float, decoder: Decoder) -> None:
    steps = np.round(encode([x, y], SIZE, 1.2) * 255) / np.float32(255)
    assert np.linalg.norm(decode(steps, decoder)[0] - (x, y)) < 0.1


@given(inside, inside, st.floats(0.01, 1))
def test_a_weaker_peak_is_found_at_the_same_place_with_a_lower_score(x: float, y: float, weight: float) -> None:
    strong = encode([x, y], SIZE, 1.5)
    (points, scores), (weak_points, weak_scores) = (decode(m, Decoder()) for m in (strong, strong * np.float32(weight)))
    assert weak_points == pytest.approx(points, abs=1e-3)
    assert weak_scores == pytest.approx(scores * weight, rel=1e-5)


@given(st.lists(st.tuples(inside, inside), min_size=1, max_size=4))
def test_each_map_is_decoded_by_itself(points: list[tuple[float, float]]) -> None:
    together, scores = decode(encode(points, SIZE, 1.2), Decoder(2))
    for k, point in enumerate(points):
        alone, score = decode(encode(point, SIZE, 1.2), Decoder(2))
        assert together[k].tolist() == alone.tolist()
        assert scores[k] == score


def test_map_and_input_coordinates_share_the_edges_of_the_picture() -> None:
    assert map_to_input([0, 0], STRIDE).tolist() == [1.5, 1.5]  # the middle of the first 4 x 4 pixels
    assert map_to_input([-0.5, SIZE - 0.5], STRIDE).tolist() == [-0.5, SIZE * STRIDE - 0.5]


@given(st.floats(-1000, 1000), st.floats(-1000, 1000), st.integers(1, 16))
def test_map_coordinates_come_back_from_input_coordinates(x: float, y: float, stride: int) -> None:
    assert input_to_map(map_to_input([x, y], stride), stride) == pytest.approx([x, y], abs=1e-9)


def test_a_map_has_its_rows_along_y() -> None:
    peak = encode([5, 20], SIZE, 1)
    assert peak[20, 5] == peak.max() == 1


def test_a_point_that_is_not_known_gives_an_empty_map() -> None:
    for point in ([np.nan, 3], [np.inf, np.inf], [3, -np.inf]):
        assert not encode(point, SIZE, 1.2).any()


def test_a_point_just_outside_leaves_the_rim_of_its_peak() -> None:
    rim = encode([-1, 10], SIZE, 1)
    assert rim[10, 0] == pytest.approx(np.exp(-0.5), abs=1e-6)
    assert rim.max() == rim[10, 0]


@pytest.mark.parametrize("fill", [0.0, -1.0])
def test_a_map_without_a_positive_cell_gives_its_centre_and_no_score(fill: float) -> None:
    points, scores = decode(np.full((2, 8, 12), fill, np.float32), Decoder())
    assert points.tolist() == [[5.5, 3.5]] * 2
    assert scores.tolist() == [0, 0]


def test_an_empty_map_among_others_gives_its_centre_and_the_others_their_peaks() -> None:
    maps = encode(np.array([[np.nan, np.nan], [3, 6], [np.inf, 0]]), 12, 1)
    points, scores = decode(maps, Decoder())
    assert points.tolist() == [[5.5, 5.5], pytest.approx([3, 6], abs=1e-5), [5.5, 5.5]]
    assert scores.tolist() == [0, 1, 0]


def test_the_score_is_never_above_one() -> None:
    assert decode(encode([3, 3], 8, 1) * np.float32(1.5), Decoder())[1] == 1


def test_peak_moves_towards_its_larger_neighbour() -> None:
    maps = np.zeros((3, 9), np.float32)
    maps[1, 3:6] = 0.2, 1.0, 0.6
    (x, y), _ = decode(maps, Decoder())
    assert 4 < x < 4.5
    assert y == 1


def test_an_empty_neighbour_counts_as_a_hundredth_of_the_peak() -> None:
    maps = np.zeros((3, 9), np.float32)
    maps[1, 4:6] = 1.0, 0.5
    (x, y), _ = decode(maps, Decoder())
    low, right = np.log(0.01), np.log(0.5)
    assert x == pytest.approx(4 + (right - low) / (2 * -(low + right)), abs=1e-5)
    assert y == 1


def test_what_lies_beside_the_highest_cell_moves_the_point_no_further_than_its_edge() -> None:
    maps = np.zeros((9, 9), np.float32)
    maps[4, 4], maps[[3, 5], 5] = 1.0, 0.9
    assert decode(maps, Decoder())[0].tolist() == [4.5, 4]
    assert decode(maps.T, Decoder())[0].tolist() == [4, 4.5]


def test_a_map_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(InputError, match="smaller than the decoder's window"):
        decode(np.ones((2, 9), np.float32), Decoder())


def test_two_equal_neighbours_give_the_point_between_them() -> None:
    maps = np.zeros((8, 8), np.float32)
    maps[4, 3:5] = 1
    assert decode(maps, Decoder())[0] == pytest.approx([3.5, 4])


def test_of_two_equal_peaks_the_first_in_reading_order_wins() -> None:
    maps = np.zeros((8, 8), np.float32)
    maps[2, 6] = maps[5, 1] = 1
    assert decode(maps, Decoder())[0].tolist() == [6, 2]


def test_a_flat_map_gives_a_point_in_it() -> None:
    points, scores = decode(np.ones((8, 8), np.float32), Decoder(2))
    assert ((points >= 0) & (points <= 7)).all()
    assert scores == 1


def test_a_single_cell_in_a_corner_is_found_there() -> None:
    for row, column in [(0, 0), (0, 7), (7, 0), (7, 7)]:
        maps = np.zeros((8, 8), np.float32)
        maps[row, column] = 0.5
        assert decode(maps, Decoder(3))[0].tolist() == [column, row]


@pytest.mark.parametrize("lead", [(), (68,), (2, 68), (0, 68)])
def test_leading_dimensions_are_kept(lead: tuple[int, ...]) -> None:
    maps = encode(np.full((*lead, 2), 3.0), 16, 1.2)
    assert maps.shape == (*lead, 16, 16)
    assert maps.dtype == np.float32
    points, scores = decode(maps, Decoder())
    assert (points.shape, scores.shape) == ((*lead, 2), lead)
    assert points.dtype == scores.dtype == np.float32


def test_decoding_leaves_the_map_as_it_was() -> None:
    maps = encode([[3, 3], [9, 4]], 16, 1.2) - np.float32(0.1)
    before = maps.copy()
    decode(maps, Decoder(2))
    assert np.array_equal(maps, before)


@pytest.mark.parametrize("sigma", [0, -1])
def test_a_peak_without_width_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma must be positive"):
        encode([3, 3], 16, sigma)


@pytest.mark.parametrize("radius", [0, 9])
def test_a_window_out_of_range_is_refused(radius: int) -> None:
    with pytest.raises(InputError, match="radius must be from 1 to 8"):
        Decoder(radius)


BLURRED = Decoder(1, blur=1.0)
within = st.floats(4, SIZE - 5)


@given(within, within, st.floats(1, 2), st.floats(0.5, 1.5))
def test_a_blur_moves_no_gaussian_inside_the_map_and_changes_no_score(
    x: float, y: float, sigma: float, blur: float
) -> None:
    maps = encode([x, y], SIZE, sigma)
    points, scores = decode(maps, Decoder(1, blur))
    assert np.linalg.norm(points - (x, y)) < 0.05
    assert scores == maps.max()


def test_a_blur_finds_where_most_of_a_map_lies() -> None:
    maps = np.maximum(0.6 * encode([20, 20], SIZE, 2.5), 0.65 * encode([8, 8], SIZE, 0.5))
    assert decode(maps, Decoder())[0].tolist() == pytest.approx([8, 8], abs=0.01)
    points, score = decode(maps, BLURRED)
    assert points.tolist() == pytest.approx([20, 20], abs=0.01)
    assert score == pytest.approx(0.65)


def test_a_blur_is_the_convolution_with_a_gaussian_beyond_whose_map_there_is_nothing() -> None:
    maps = np.zeros((9, 9), np.float32)
    maps[0, 4] = 1
    kernel = BLURRED.kernel(9)
    blurred = kernel @ maps @ kernel
    profile = np.exp(-(np.arange(-40, 41) ** 2) / 2.0)
    expected = profile[36:45] / profile.sum()
    np.testing.assert_allclose(blurred[0], expected * profile[40] / profile.sum(), rtol=1e-5)
    np.testing.assert_allclose(blurred[3], expected * profile[43] / profile.sum(), rtol=1e-5)


def test_flags_that_a_library_of_matrices_leaves_are_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    # OpenBLAS for processors with SME leaves them where nothing is wrong; infinities leave the same ones everywhere
    maps = np.full((1, 16, 16), np.inf, np.float32)
    np.matmul(maps, np.zeros((16, 16), np.float32))
    assert "invalid value" in str(recwarn.pop(RuntimeWarning).message)
    decode(maps, BLURRED)
    assert not recwarn.list


def test_values_below_zero_have_no_part_in_a_blur_and_empty_maps_stay_empty() -> None:
    maps = encode([10, 12], SIZE, 1.5)
    around = maps - np.where(maps < 0.01, np.float32(5), np.float32(0))
    assert decode(around, BLURRED)[0].tolist() == pytest.approx([10, 12], abs=0.05)
    points, score = decode(np.full((8, 8), -1, np.float32), BLURRED)
    assert points.tolist() == [3.5, 3.5]
    assert score == 0


@pytest.mark.parametrize("blur", [-0.1, 8.5, float("nan")])
def test_a_blur_out_of_range_is_refused(blur: float) -> None:
    with pytest.raises(InputError, match="blur must be"):
        Decoder(1, blur)
