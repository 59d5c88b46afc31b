"""Pictures of cartoon characters as backgrounds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cunet_deploy.errors import InputError
from tools.release import cartoons


def _write(folder: Path, *names: str) -> Path:
    """Red squares with transparent edges."""
    folder.mkdir()
    for name in names:
        picture = np.zeros((64, 64, 4), np.uint8)
        picture[8:56, 8:56] = (0, 0, 255, 255)
        cv2.imwrite(str(folder / f"{name}.webp"), picture, [cv2.IMWRITE_WEBP_QUALITY, 101])
    return folder


def test_pictures_of_people_are_left_out(tmp_path: Path) -> None:
    people = (
        "1f468",
        "1f481",
        "1f486",
        "1f487",
        "1f4aa",
        "1f646",
        "1f6a3",
        "1f926",
        "1f93d",
        "1f9cd",
        "1f9d1-200d-1f680",
    )
    folder = _write(tmp_path / "all", "1f43b", "1f43b-200d-2744-fe0f", *people)
    assert len(cartoons.pictures(folder, cartoons.CHARACTERS)) == 1  # the bear
    with pytest.raises(InputError, match=r"holds no picture named by its code point, such as 1f43b\.webp"):
        cartoons.pictures(folder, cartoons.THINGS)
    result = CliRunner().invoke(cartoons.main, [str(folder), "-o", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert "holds no picture" in result.output


def test_a_seed_gives_the_same_pictures_again(tmp_path: Path) -> None:
    folder = _write(tmp_path / "all", "1f43b", "1f682")
    found = []
    for name in ("a", "b"):
        result = CliRunner().invoke(cartoons.main, [str(folder), "-n", "3", "-o", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        found.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert found[0] == found[1]
    assert len(set(found[0])) == 3
    images = [np.asarray(cv2.imread(str(path))) for path in sorted((tmp_path / "a").iterdir())]
    assert all(image.shape == (cartoons.SIDE, cartoons.SIDE, 3) for image in images)


def test_what_is_drawn_covers_the_ground(tmp_path: Path) -> None:
    bear = cartoons.pictures(_write(tmp_path / "all", "1f43b"), cartoons.CHARACTERS)
    images = [cartoons.draw(bear, bear, np.random.default_rng(seed)) for seed in range(20)]
    reddest = [(image[..., 2].astype(int) - image[..., :2].max(axis=2)).max() for image in images]
    assert sorted(reddest)[5] > 100  # most show a square; some lie behind an edge
