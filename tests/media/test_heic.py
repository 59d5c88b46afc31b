"""HEIC photos, as phones write them."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.media import find_items, open_source, plan_outputs, read_image
from cunet_deploy.media.readers.heif import HeifItems
from tools.heic import box, heic


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8), (0, 0), 5)


@pytest.fixture(scope="module")
def photo(picture: np.ndarray) -> bytes:
    return heic([picture])


def difference(image: np.ndarray, expected: np.ndarray) -> float:
    assert image.shape == expected.shape
    return float(np.abs(image.astype(int) - expected).mean())


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.hif", "a.jpg"])
def test_a_photo_of_a_phone_is_read_whatever_its_suffix(
    picture: np.ndarray, photo: bytes, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(photo)
    (found,) = open_source(tmp_path / name)
    assert found.name == name
    assert difference(found.image, picture) < 2
    (item,) = find_items([str(tmp_path / name), str(tmp_path / name)]) or []
    assert item.images == (tmp_path / name,)
    if name != "a.jpg":
        plan = plan_outputs(open_source(tmp_path), tmp_path / "out")
        assert plan.images == (tmp_path / "out" / f"{name}.png",)


def test_tiles_are_put_together_and_cut_where_they_reach_beyond_the_picture(
    picture: np.ndarray, tmp_path: Path
) -> None:
    large = cv2.copyMakeBorder(picture, 0, 192 - 150, 0, 256 - 200, cv2.BORDER_REPLICATE)
    tiles = [large[y : y + 64, x : x + 64] for y in range(0, 192, 64) for x in range(0, 256, 64)]
    data = heic(tiles, grid=(3, 4, 199, 149))
    (tmp_path / "a.heic").write_bytes(data)
    assert difference(read_image(tmp_path / "a.heic"), picture[:149, :199]) < 2
    sides = struct.pack(">HH", 199, 149)
    others = [data.replace(sides, struct.pack(">HH", *other)) for other in ((300, 149), (199, 100), (0, 149))]
    for wrong in (*others, data.replace(b"\0\0\2\3" + sides, b"\0\0\3\3" + sides)):
        (tmp_path / "a.heic").write_bytes(wrong)
        with pytest.raises(InputError, match="is damaged"):
            read_image(tmp_path / "a.heic")


@pytest.mark.parametrize("angle", range(4))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_photo_is_cropped_turned_and_mirrored_as_its_container_says(
    picture: np.ndarray, tmp_path: Path, angle: int, axis: int | None
) -> None:
    crop = box(b"clap", struct.pack(">8i", 121, 1, 101, 1, 21, 2, -9, 2))  # its centre lies right of, and above, ours
    mirror = [] if axis is None else [box(b"imir", bytes([axis]))]
    (tmp_path / "a.heic").write_bytes(heic([picture], turns=[crop, box(b"irot", bytes([angle])), *mirror]))
    expected = np.rot90(picture[20:121, 50:171], angle)
    expected = expected if axis is None else np.flip(expected, axis)
    assert difference(read_image(tmp_path / "a.heic"), expected) < 2


def test_damaged_photos_are_refused_in_one_line(photo: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    start = photo.index(b"mdat") + 4
    cases = {
        "is cut off; copy it again": [photo[:-1], photo[: start + 50]],
        "is damaged or not an image": [
            photo[:30],
            photo[: start - 40],
            photo[:start] + bytes(len(photo) - start),
            photo.replace(b"hvcC", b"free"),
            photo.replace(b"hvc1", b"unci"),
            b"\0\0\0\x18ftypheic" + bytes(99),
            b"an image of a phone",
        ],
    }
    for said, data in itertools.chain.from_iterable(zip(itertools.repeat(k), v) for k, v in cases.items()):
        path.write_bytes(data)
        with pytest.raises(InputError, match=said):
            read_image(path)
    huge = photo.replace(struct.pack(">II", 200, 150), struct.pack(">II", 60000, 60000))
    path.write_bytes(huge)
    with pytest.raises(InputError, match="states 3600 megapixels"):
        read_image(path)


def test_any_damage_to_the_structure_is_no_crash(photo: bytes) -> None:
    end = photo.index(b"mdat")
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(photo)
        for place in rng.integers(8, end, 3):
            data[place] = rng.integers(256)
        items = HeifItems(bytes(data))
        assert items.is_whole in (True, False)
        assert items.size(items.main) >= (0, 0)
        assert all(len(kind) == 4 for kind, _ in items.turns)
    for length in range(end):
        assert HeifItems(photo[:length]).main in (0, 1)
