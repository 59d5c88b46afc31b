"""Sampling a crop: the right pixel at the right place, at every scale and angle."""

from __future__ import annotations

import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import Crop
from cunet_deploy.runtime.preprocess import BORDER, as_bgr, sample

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
