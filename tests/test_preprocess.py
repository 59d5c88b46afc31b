"""Sampling a crop: the right pixel at the right place, at every scale and angle."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import Crop
from cunet_deploy.preprocess import BORDER, as_bgr, sample

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


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_grey_colour_and_alpha_are_accepted(shape: tuple[int, ...]) -> None:
    assert as_bgr(np.full(shape, 9, np.uint8)).shape == (5, 7, 3)


@pytest.mark.parametrize(
    "image",
    [
        None,
        [[1, 2]],
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
    ],
    ids=["none", "list", "float", "empty", "two channels", "one dimension"],
)
def test_anything_else_is_refused_with_what_is_accepted(image: object) -> None:
    with pytest.raises(InputError, match="expected uint8 of shape"):
        as_bgr(image)
