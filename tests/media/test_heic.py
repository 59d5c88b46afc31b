"""HEIC photos, as phones write them."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.media import find_items, open_source, plan_outputs, read_image
from cunet_deploy.media.readers import heic as heic_reader
from cunet_deploy.media.readers import heif
from cunet_deploy.media.readers.heif import HeifItems
from cunet_deploy.media.readers.images import decode_image, frames_in_animation
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
    size, grid = struct.pack(">HH", 199, 149), b"\0\0\2\3"  # rows and columns less one
    for wrong in (
        data.replace(size, struct.pack(">HH", 300, 149)),
        data.replace(size, struct.pack(">HH", 199, 100)),
        data.replace(size, struct.pack(">HH", 0, 149)),
        data.replace(grid, b"\0\0\3\3"),
    ):
        assert wrong != data
        (tmp_path / "a.heic").write_bytes(wrong)
        with pytest.raises(InputError, match="is damaged"):
            read_image(tmp_path / "a.heic")


def test_a_tile_that_is_named_many_times_is_decoded_once(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, decoded = heic_reader._Decoder.decode, list[int]()

    def noted(self: heic_reader._Decoder, items: HeifItems, item: int, shown: list[tuple[bytes, bytes]]) -> Any:
        decoded.append(item)
        return decode(self, items, item, shown)

    monkeypatch.setattr(heic_reader._Decoder, "decode", noted)
    tiles = [picture[:64, :64], picture[64:128, :64], picture[:64, 64:128], picture[64:128, 64:128]]
    data = heic(tiles, grid=(2, 2, 120, 128))
    repeated = data.replace(struct.pack(">4H", 1, 2, 3, 4), struct.pack(">4H", 2, 1, 2, 2))
    assert repeated != data
    expected = np.vstack([np.hstack([tiles[1], tiles[0]]), np.hstack([tiles[1], tiles[1]])])[:, :120]
    assert difference(decode_image(repeated, "a.heic"), expected) < 2
    assert decoded == [2, 1]


def test_tiles_that_lie_over_the_same_bytes_are_read_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = heic([noise] * 4, grid=(2, 2, 128, 128), shared=True)
    assert decode_image(data, "a.heic").shape == (128, 128, 3)
    monkeypatch.setattr(heif, "_SHARED_BYTES", len(data))
    with pytest.raises(InputError, match=r"a\.heic: is damaged"):
        decode_image(data, "a.heic")
    apart = heic([noise] * 4, grid=(2, 2, 128, 128))
    assert decode_image(apart, "a.heic").shape == (128, 128, 3)


def test_parameters_longer_than_any_encoder_writes_are_not_read(photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic_reader, "_LONGEST_CONFIGURATION", 20)
    with pytest.raises(InputError, match=r"a\.heic: is damaged"):
        decode_image(photo, "a.heic")


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


def test_a_photo_larger_than_asked_for_is_not_decoded(photo: bytes) -> None:
    sizeless = photo.replace(b"ispe", b"free")
    assert decode_image(sizeless, "a.heic", most_pixels=40_000).shape == (150, 200, 3)
    with pytest.raises(InputError, match="is damaged"):
        decode_image(sizeless, "a.heic", most_pixels=20_000)


def test_a_photo_with_a_clip_beside_it_is_a_photo(photo: bytes) -> None:
    table = box(b"stsz", bytes(8), struct.pack(">I", 30))
    clip = box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table)))))
    assert frames_in_animation(photo + clip) == 1
    assert frames_in_animation(photo.replace(b"hvc1", b"av01") + clip) == 30


def with_places(*places: bytes, sizes: bytes = b"\x44\0", of: bytes = b"") -> HeifItems:
    """Items whose bytes lie, by the content of ``iloc``, behind each other in a file with nothing else."""
    table = box(b"iloc", b"\1\0\0\0", sizes, struct.pack(">H", len(places)), *places)
    named = box(b"pitm", bytes(4), struct.pack(">H", 1))
    return HeifItems(box(b"ftyp", b"heic") + box(b"meta", bytes(4), named, table) + of)


def test_parts_that_have_no_bytes_take_no_memory() -> None:
    many = struct.pack(">HHHH", 1, 0, 0, 0xFFFF)
    tracemalloc.start()
    with_places(many, many, sizes=bytes(2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_parts_behind_the_end_are_not_there() -> None:
    far, whole = struct.pack(">II", 1 << 31, 0), struct.pack(">II", 0, 100)
    for extents in ([far], [far, whole, whole]):
        items = with_places(struct.pack(">HHHH", 1, 0, 0, len(extents)) + b"".join(extents), of=bytes(99))
        assert items.content(1) is None
        assert not items.is_whole


@pytest.mark.parametrize("where", [(2, 0), (0, 1)], ids=["in another item", "in another file"])
def test_a_photo_whose_parts_lie_elsewhere_is_not_called_cut_off(where: tuple[int, int]) -> None:
    items = with_places(struct.pack(">HHHHII", 1, *where, 1, 0, 100))
    assert items.is_whole
    assert items.content(1) is None


def test_a_list_of_items_longer_than_any_picture_needs_is_not_read() -> None:
    several = [struct.pack(">HHHHII", 1, 0, 0, 1, 0, 9), bytes(1 << 22)]
    assert with_places(several[0]).content(1) is not None
    assert with_places(*several).content(1) is None
