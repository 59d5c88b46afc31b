from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.media import read_image


@pytest.fixture
def picture() -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8), (0, 0), 5)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_an_image_is_read_as_bgr(picture: np.ndarray, tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"a{suffix}"), picture)
    image = read_image(tmp_path / f"a{suffix}")
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - picture).mean() < 6


@pytest.mark.parametrize("flags", [cv2.IMREAD_GRAYSCALE, cv2.IMREAD_UNCHANGED], ids=["grey", "16 bit"])
def test_grey_and_deep_files_become_8_bit_colour(picture: np.ndarray, tmp_path: Path, flags: int) -> None:
    stored = picture[:, :, 0] if flags == cv2.IMREAD_GRAYSCALE else picture.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    assert read_image(tmp_path / "a.png").shape == (90, 120, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_cut_off_image_is_refused(picture: np.ndarray, tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), picture)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=f"a{suffix}: the image is cut off"):
        read_image(path)


def test_missing_empty_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path / "missing.png")
    path = tmp_path / "a.png"
    path.touch()
    with pytest.raises(InputError, match="is empty"):
        read_image(path)
    path.write_text("no picture")
    with pytest.raises(InputError, match="not an image"):
        read_image(path)
