"""Crops of a user's photos: which photos, and what of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from dots import manifest

from cunet_deploy.boxmaps import BoxCode
from cunet_deploy.errors import InputError
from cunet_deploy.export.crops import crops_of_folder, list_photos
from cunet_deploy.skeletons import BOX

LANDMARKS, BOXES = manifest(), manifest(skeleton=BOX, boxes=BoxCode())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven pictures of 128 x 64 pixels whose brightness is their number; the last has a white line at x = 64."""
    for index in range(7):
        image = np.full((64, 128, 3), 10 * index, np.uint8)
        if index == 6:
            image[:, 64] = 255
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    (tmp_path / "notes.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "names"), [(1, "0"), (2, "06"), (3, "036"), (4, "0246"), (7, "0123456"), (9, "0123456")]
)
def test_photos_are_spread_evenly_from_the_first_to_the_last(photos: Path, limit: int, names: str) -> None:
    found = list_photos(photos, LANDMARKS, limit)
    assert "".join(path.stem for path in found.items if isinstance(path, Path)) == names
    assert len(found) == len(names)


def test_a_picture_of_an_object_is_shown_by_its_middle_square_and_for_a_detector_whole(photos: Path) -> None:
    middle, whole = (crops_of_folder(photos, each, 7)[6] for each in (LANDMARKS, BOXES))
    assert middle.shape == whole.shape == (64, 64, 3)
    # the square of 64 columns around 63.5 begins with column 32, so column 64 is its column 32
    assert np.flatnonzero(middle[32, :, 0] == 255).tolist() == [32]
    assert (middle[:, :32] == 60).all()
    assert (whole[:15] == 128).all()  # beyond the picture
    assert (whole[-15:] == 128).all()
    assert (whole[20:44, :30] == 60).all()


def test_labels_are_asked_for_where_pictures_have_none(photos: Path) -> None:
    with pytest.raises(InputError, match="holds pictures without labels"):
        _ = list_photos(photos, LANDMARKS, 7).examples
    with pytest.raises(InputError, match="is not a folder"):
        list_photos(photos / "0.png", LANDMARKS, 7)


def test_other_photos_have_another_checksum(photos: Path) -> None:
    before = list_photos(photos, LANDMARKS, 7).checksum
    assert list_photos(photos, LANDMARKS, 7).checksum == before
    assert list_photos(photos, LANDMARKS, 6).checksum != before
    (photos / "3.png").rename(photos / "3b.png")
    assert list_photos(photos, LANDMARKS, 7).checksum != before
