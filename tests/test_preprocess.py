"""Sampling a crop: the right pixel at the right place, at every scale and angle."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from cunet_deploy.geometry import Crop, whole_pixels
from cunet_deploy.preprocess import BORDER, sample, shrink

HEIGHT, WIDTH = 150, 160


def ramp() -> np.ndarray:
    """An image whose first channel says where x is and whose second says where y is."""
    rows, columns = np.indices((HEIGHT, WIDTH)).astype(float)
    image = np.stack([columns / WIDTH * 255, rows / HEIGHT * 255, np.full_like(rows, BORDER)], axis=-1)
    return image.round().astype(np.uint8)


@pytest.mark.parametrize("side", [20.0, 45.5, 70.0, 101.3, 141.7])
@pytest.mark.parametrize("angle", [0.0, 25.0, -90.0])
def test_every_pixel_shows_the_place_that_the_matrix_says(side: float, angle: float) -> None:
    crop = Crop((78.3, 73.8), side, 32, angle)
    found = sample(ramp(), crop).astype(float)
    places = crop.to_image(np.stack(np.meshgrid(np.arange(32), np.arange(32)), axis=-1))
    margin = side / 32 + 2
    inside = ((places > margin) & (places < np.array([WIDTH, HEIGHT]) - 1 - margin)).all(axis=-1)
    assert inside.mean() > 0.4
    error = (found[..., :2] - places / [WIDTH, HEIGHT] * 255)[inside]  # grey levels; one pixel is 1.6
    assert np.abs(error).max() < 1.6  # the image, its blocks and the crop are each rounded
    assert np.abs(error.mean(axis=0)).max() < 0.45  # blocks of two round halves up; half a pixel off would be 0.8


@pytest.mark.parametrize("side", [30.0, 64.0, 90.0, 128.0, 200.0])
@pytest.mark.parametrize("corner", [(10, 12), (-20, 100), (130, -1), (-300, 5), (140, 100)])
def test_whole_pixels_are_sampled_as_turned_ones_are(side: float, corner: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)
    half = (side - 1) / 2
    straight = Crop((corner[0] + half, corner[1] + half), side, 64)
    turned = Crop(straight.center, side, 64, 1e-7)
    assert straight.matrix()[0, 1] == 0 != turned.matrix()[0, 1]
    edge = math.ceil(64 / side / 2)  # half a pixel of the image, where this way repeats the outermost ones
    inner = slice(edge, 64 - edge)
    difference = np.abs(sample(image, straight).astype(int) - sample(image, turned))[inner, inner]
    assert difference.max() <= 4  # OpenCV turns in steps of 1/32 pixel
    assert difference.mean() < 0.5


def test_what_is_sampled_is_not_the_image_itself() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    sample(image, Crop((31.5, 31.5), 64, 64))[:] = 255
    assert not image.any()


def test_outside_the_image_is_the_grey_that_stands_for_zero() -> None:
    assert (sample(ramp(), Crop((2000.0, 2000.0), 100, 32)) == BORDER).all()
    assert (sample(ramp(), Crop((2000.0, 2000.0), 30, 32)) == BORDER).all()
    corner = sample(ramp(), Crop((0.0, 0.0), 140, 64))
    assert (corner[:30, :30] == BORDER).all()
    assert not (corner[34:, 34:] == BORDER).all()


def test_fine_stripes_become_grey_and_not_moire() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[:, ::2] = 255
    shrunk = sample(image, Crop((199.5, 199.5), 396, 66)).astype(int)
    assert np.abs(shrunk - 127).max() <= 2


def interpolated(part: np.ndarray, size: int) -> np.ndarray:
    """A square brought to a size in integers alone, rounded to the nearest, halves to even."""
    side = len(part)
    places = (2 * np.arange(size) + 1) * side - size
    first, share = np.divmod(places, 2 * size)
    low, high = (np.clip(index, 0, side - 1) for index in (first, first + 1))
    wide = part.astype(np.int64)
    lines = wide[low] * (2 * size - share)[:, None, None] + wide[high] * share[:, None, None]
    sums = lines[:, low] * (2 * size - share)[:, None] + lines[:, high] * share[:, None]
    whole, rest = np.divmod(sums, 4 * size * size)
    return np.asarray(whole + (rest * 2 + whole % 2 > 4 * size * size))


def halved(part: np.ndarray, add: int) -> np.ndarray:
    sums = part.reshape(len(part) // 2, 2, part.shape[1] // 2, 2, 3).sum(axis=(1, 3))
    return np.asarray((sums + add) // 4)


def noise(height: int, width: int) -> np.ndarray:
    """Bytes of which many are 0 or 255, where sums come closest to what they may not exceed."""
    values = np.random.default_rng(height).integers(-100, 356, (height, width, 3))
    return np.asarray(values.clip(0, 255), np.uint8)


@pytest.mark.parametrize("size", [64, 96, 128, 256, 320])
def test_squares_of_whole_pixels_are_interpolated_as_integers_are(size: int) -> None:
    image = noise(700, 720)
    for side in np.linspace(size // 3, 2 * size - 8, 9):
        crop = whole_pixels(350.2, 340.7, float(side), size)
        left, top = (int(middle - (crop.side - 1) / 2) for middle in crop.center)
        length = int(crop.side)
        expected = interpolated(image[top : top + length, left : left + length], size)
        if 128 * length % size == 0:
            np.testing.assert_array_equal(sample(image, crop), expected)
        else:  # weights of 1/256 are rounded
            assert np.abs(sample(image, crop) - expected).max() <= 3


def test_larger_squares_are_halved_in_integers_first() -> None:
    image = noise(640, 650)
    part = image[8:600, 20:612]  # 592 pixels, 4.6 of which are shown as one
    crop = whole_pixels(20 + 591 / 2, 8 + 591 / 2, 592, 128)
    assert crop.side == 592
    np.testing.assert_array_equal(sample(image, crop), interpolated(halved(halved(part, 2), 1), 128))


@pytest.mark.parametrize("angle", [0.0, 13.7, -90.0, 170.0])
def test_turned_crops_are_interpolated_in_integers(angle: float) -> None:
    image = noise(90, 100)
    crop = Crop((47.3, 44.1), 71.9, 64, angle)
    steps = np.stack(np.meshgrid(np.arange(64), np.arange(64)), axis=-1)
    places = crop.to_image(steps) * 32 + 0.5
    sure = (np.abs(places - places.round()) > 1e-3).all(axis=-1)  # elsewhere the 20 bits of a coordinate decide
    assert sure.mean() > 0.9
    whole, share = np.divmod(np.floor(places).astype(np.int64), 32)
    canvas = np.full((190, 200, 3), BORDER, np.int64)
    canvas[50:140, 50:150] = image
    expected = np.full((64, 64, 3), 512)
    for dx in (0, 1):
        for dy in (0, 1):
            weights = np.abs(1 - dx - share[..., 0] / 32) * np.abs(1 - dy - share[..., 1] / 32) * 1024
            found = canvas[whole[..., 1] + dy + 50, whole[..., 0] + dx + 50]
            expected += weights.astype(np.int64)[..., None] * found
    np.testing.assert_array_equal(sample(image, crop)[sure], (expected >> 10)[sure])


@pytest.mark.parametrize("size", [(40, 30), (41, 29), (25, 20), (160, 122), (161, 121), (200, 150), (13, 121)])
def test_an_image_of_another_size_shows_the_same_places(size: tuple[int, int]) -> None:
    image = np.full((122, 160, 3), 255, np.uint8) & ramp()[:122]
    small = shrink(image, *size)
    assert small.shape == (size[1], size[0], 3)
    columns = (np.arange(size[0]) + 0.5) * 160 / size[0] - 0.5
    rows = (np.arange(size[1]) + 0.5) * 122 / size[1] - 0.5
    inner = slice(2, -2)
    np.testing.assert_allclose(small[5, inner, 0], (columns / WIDTH * 255)[inner], atol=1.6)
    np.testing.assert_allclose(small[inner, 5, 1], (rows / HEIGHT * 255)[inner], atol=1.6)


@pytest.mark.parametrize(("width", "height"), [(81, 60), (80, 61), (81, 61)])
def test_an_image_of_odd_sides_loses_no_more_than_a_line_before_it_is_halved(width: int, height: int) -> None:
    image = noise(height, width)  # halved otherwise, blocks would be of fractions of pixels, which processors round
    even = np.asarray(cv2.resize(image, (80, 60), interpolation=cv2.INTER_LINEAR_EXACT))
    np.testing.assert_array_equal(shrink(image, 40, 30), halved(even.astype(int), 2))


def test_what_is_shrunk_often_does_not_become_brighter() -> None:
    image = noise(512, 512)
    assert abs(shrink(image, 64, 64).mean() - image.mean()) < 0.15
    assert abs(sample(image, whole_pixels(255.5, 255.5, 512, 64)).mean() - image.mean()) < 0.15


@pytest.mark.parametrize("corner", [(-70, -41), (-300, 20), (600, 400), (37, 463), (-1000, -1000)])
def test_a_crop_that_leaves_the_image_is_one_of_an_image_with_a_border(corner: tuple[int, int]) -> None:
    image = noise(480, 640)
    canvas = np.full((3000, 3000, 3), BORDER, np.uint8)
    canvas[1200:1680, 1200:1840] = image
    for side in (100, 300, 640):
        x, y = corner[0] + (side - 1) / 2, corner[1] + (side - 1) / 2
        expected = sample(canvas, Crop((x + 1200, y + 1200), side, 128))
        np.testing.assert_array_equal(sample(image, Crop((x, y), side, 128)), expected)


@pytest.mark.parametrize("side", [3e5, 1e7, 1e9])
@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_a_crop_that_no_image_fills_takes_no_memory(side: float, angle: float) -> None:
    assert (sample(noise(40, 30), Crop((0.0, 0.0), side, 64, angle)) == BORDER).all()
