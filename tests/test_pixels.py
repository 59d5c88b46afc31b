"""Arrays that count as images, and the way from more than 8 bits to 8."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from cunet_deploy import pixels
from cunet_deploy.errors import InputError
from cunet_deploy.media import read_image
from cunet_deploy.pixels import as_bgr, to_8_bits


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


@pytest.mark.parametrize(
    ("largest", "factor"),
    [(0, 1), (255, 1), (256, 4), (1023, 4), (4095, 16), (16383, 64), (16384, 256), (65535, 256)],
)
def test_values_of_more_than_8_bits_are_scaled_by_what_they_need(largest: int, factor: int) -> None:
    image = np.array([[0, largest // 2, largest]], np.uint16)
    np.testing.assert_array_equal(to_8_bits(image), image // factor)


def test_a_12_bit_picture_in_16_bits_looks_as_the_8_bit_one(tmp_path: Path, astronaut: Path) -> None:
    plain = read_image(astronaut)
    path = tmp_path / "sensor.png"
    assert cv2.imwrite(str(path), plain.astype(np.uint16) << 4)
    np.testing.assert_array_equal(read_image(path), plain)
    np.testing.assert_array_equal(as_bgr(plain.astype(np.uint16) << 8), plain)
    grey = plain[:, :, 1]
    np.testing.assert_array_equal(as_bgr(grey.astype(np.uint16) << 2)[:, :, 0], grey)


def test_a_16_bit_file_is_read_as_before(tmp_path: Path, astronaut: Path) -> None:
    path = tmp_path / "deep.png"
    assert cv2.imwrite(str(path), read_image(astronaut).astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path)))


def test_scaling_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_told", set())
    with caplog.at_level(logging.WARNING, "cunet_deploy"):
        for _ in range(3):
            to_8_bits(np.array([[4000]], np.uint16))
        to_8_bits(np.array([[65000]], np.uint16))
        to_8_bits(np.array([[300]], np.uint16))
    assert [record.getMessage() for record in caplog.records] == [
        "an image has 16-bit values that need 12 bits: taken as 12 bits, and scaled to 8",
        "an image has 16-bit values that need 9 bits: taken as 10 bits, and scaled to 8",
    ]
