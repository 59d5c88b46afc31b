from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import write_animation

from cunet_deploy.errors import InputError
from cunet_deploy.media import open_source, read_image
from cunet_deploy.media.readers import images
from cunet_deploy.media.readers.animation import AnimatedImage
from cunet_deploy.media.readers.exif import jpeg_orientation
from cunet_deploy.media.readers.files import look_for
from cunet_deploy.media.readers.heif import HeifItems
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES
from cunet_deploy.media.readers.integrity import stated_pixels


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


def jpeg(picture: np.ndarray, *flags: int) -> bytes:
    return bytes(cv2.imencode(".jpg", picture, list(flags))[1].tobytes())


def png(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1].tobytes())


def riff(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".webp", picture)[1].tobytes())


CLIP = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 40 + b"\xff\xda\x00\x04ab" + bytes(500)
"""Stands behind a motion photo; it happens to hold what looks like the start of a scan."""


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.jpg", lambda picture: jpeg(picture) + CLIP),
        ("a.jpg", lambda picture: jpeg(picture, cv2.IMWRITE_JPEG_PROGRESSIVE, 1) + CLIP),
        ("a.jpg", lambda picture: jpeg(picture, cv2.IMWRITE_JPEG_RST_INTERVAL, 4) + bytes(9)),
        ("a.jpg", lambda picture: jpeg(picture) + b"\xff\xd9\xff\xd9"),
        ("a.jpg", lambda picture: jpeg(picture) + jpeg(picture[:20])[:300]),  # a preview, cut off, behind the photo
        ("a.jfif", jpeg),
        ("a.png", lambda picture: png(picture) + b"tail" * 100),
        ("a.webp", lambda picture: riff(picture) + b"tail" * 100),
    ],
)
def test_a_whole_image_is_read_whatever_stands_behind_it(
    picture: np.ndarray, tmp_path: Path, name: str, make: Callable[[np.ndarray], bytes]
) -> None:
    (tmp_path / name).write_bytes(make(picture))
    assert np.abs(read_image(tmp_path / name).astype(int) - picture).mean() < 6


@pytest.mark.parametrize(
    "make",
    [
        lambda data: data[: len(data) // 2] + b"\xff\xda" + CLIP[:99],  # cut off, with something behind it
        lambda data: data[: len(data) // 2],
        lambda data: data[:-20],
        lambda data: data[: data.index(b"\xff\xda")],
        lambda data: data[: len(data) // 2] + bytes(4000),
    ],
)
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_cut_off_jpeg_is_refused_whatever_stands_behind_it(
    picture: np.ndarray, tmp_path: Path, make: Callable[[bytes], bytes], progressive: int
) -> None:
    noisy = np.random.default_rng(1).integers(0, 256, picture.shape, np.uint8)
    (tmp_path / "a.jpg").write_bytes(make(jpeg(noisy, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)))
    with pytest.raises(InputError, match=r"the image is cut off|is damaged"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".ppm", ".avif"])
def test_the_decoder_refuses_what_is_cut_off_of_other_types(picture: np.ndarray, tmp_path: Path, suffix: str) -> None:
    if suffix not in IMAGE_SUFFIXES:
        pytest.skip("this OpenCV reads no AVIF")
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), picture)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with pytest.raises(InputError, match=r"is damaged|cut off"):
        read_image(path)


def exif_data(value: int) -> bytes:
    return b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 0x112, 3, 1, value) + bytes(4)


def with_orientation(data: bytes, value: int) -> bytes:
    """A JPEG with EXIF data that say how it is to be turned."""
    segment = b"Exif\x00\x00" + exif_data(value)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image.transpose(1, 0, 2), 2),
    8: lambda image: np.rot90(image),
}


@pytest.mark.parametrize("value", TURNS)
def test_photos_are_turned_and_mirrored_as_their_exif_data_says(
    picture: np.ndarray, tmp_path: Path, value: int
) -> None:
    (tmp_path / "a.jpg").write_bytes(with_orientation(jpeg(picture), value))
    image, expected = read_image(tmp_path / "a.jpg"), TURNS[value](picture)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 6


def test_video_of_jpeg_pictures_is_turned_and_mirrored_as_their_exif_data_says(
    picture: np.ndarray, tmp_path: Path
) -> None:
    content = b"".join(with_orientation(jpeg(picture), value) for value in TURNS) + jpeg(picture)
    (tmp_path / "a.mjpeg").write_bytes(content)
    pictures = list(open_source(tmp_path / "a.mjpeg"))
    assert len(pictures) == 9
    for found, turn in zip(pictures, [*TURNS.values(), TURNS[1]], strict=True):
        assert np.abs(found.image.astype(int) - turn(picture)).mean() < 6


@pytest.mark.parametrize("data", [b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 0x112, 3, 1, 7, 0), exif_data(7)])
def test_an_orientation_is_read_in_both_orders_of_bytes_and_damage_is_none(data: bytes) -> None:
    segment = b"Exif\0\0" + data
    photo = b"\xff\xd8\xff\xe0\0\4ab\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + b"\xff\xda"
    assert jpeg_orientation(photo) == 7
    for damaged in (photo.replace(b"Exif", b"http"), photo.replace(data[:4], b"II?\0"), b"", photo[:30]):
        assert jpeg_orientation(damaged) == 0
    assert {jpeg_orientation(photo[:length]) for length in range(len(photo))} <= {0, 7}


@pytest.mark.skipif(not images._DECODES_RANGES, reason="this OpenCV decodes all pages at once")
def test_a_page_is_decoded_without_the_others(
    picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), [picture, 255 - picture, picture // 2])
    decode, numbers = cv2.imdecodemulti, list[int]()

    def counted(*given: Any, **named: Any) -> Any:
        found = decode(*given, **named)
        numbers.append(len(found[1]))
        return found

    monkeypatch.setattr(cv2, "imdecodemulti", counted)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 1), 255 - picture)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 2), picture // 2)
    with pytest.raises(InputError, match="is damaged"):
        read_image(tmp_path / "a.tif", 3)
    assert numbers[:2] == [1, 1]


@pytest.mark.skipif(".avif" not in IMAGE_SUFFIXES, reason="this OpenCV reads no AVIF")
@pytest.mark.skipif(not hasattr(cv2, "imencodeWithMetadata"), reason="this OpenCV writes no EXIF data")
@pytest.mark.parametrize("repeated", [True, False], ids=["and EXIF", "alone"])
@pytest.mark.parametrize("value", TURNS)
def test_an_avif_file_is_turned_and_mirrored_as_its_container_says(
    picture: np.ndarray, tmp_path: Path, value: int, repeated: bool
) -> None:
    def avif(value: int) -> bytes:
        exif = np.frombuffer(exif_data(value), np.uint8)  # from which the encoder makes irot and imir
        return cv2.imencodeWithMetadata(".avif", picture, [cv2.IMAGE_METADATA_EXIF], [exif])[1].tobytes()

    data = avif(value) if repeated else avif(value).replace(exif_data(value), exif_data(1))
    assert len(HeifItems(data).turns) == {1: 0, 5: 2, 7: 2}.get(value, 1)
    (tmp_path / "plain.avif").write_bytes(avif(1))
    (tmp_path / "a.avif").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a.avif"), TURNS[value](read_image(tmp_path / "plain.avif")))
    for length in range(0, len(data), 7):
        assert HeifItems(data[:length]).main >= 0


@pytest.mark.skipif(".avif" not in IMAGE_SUFFIXES, reason="this OpenCV reads no AVIF")
def test_an_animated_avif_file_is_turned_as_its_container_says(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "a.avif")
    plain = [picture.image for picture in open_source(path)]
    data = path.read_bytes().replace(b"pixi\0", b"irot\3")
    associated = data.index(b"\1\2\x83\4", data.index(b"ipma"))
    path.write_bytes(data[: associated + 1] + b"\x82" + data[associated + 2 :])  # which readers must not pass over
    assert len(plain) == 3
    for picture, expected in zip(open_source(path), plain, strict=True):
        np.testing.assert_array_equal(picture.image, np.rot90(expected, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint32, np.int16])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_files_of_other_numbers_are_read(
    picture: np.ndarray, tmp_path: Path, dtype: type[np.generic], channels: int
) -> None:
    expected = picture if channels == 3 else cv2.cvtColor(picture[:, :, 0], cv2.COLOR_GRAY2BGR)
    stored = (picture if channels == 3 else picture[:, :, 0]).astype(dtype)
    kept = [stored, stored / 255] if np.issubdtype(dtype, np.floating) else [stored]
    for values in kept:
        if not cv2.imwrite(str(tmp_path / "a.tif"), values):
            pytest.skip("this OpenCV does not write such files")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.array([[-0.5, 0.5]], np.float32), "float32 values from -0.5 to 0.5"),
        (np.array([[0, 3.5]], np.float32), "float32 values from 0 to 3.5"),
        (np.array([[0, np.nan]], np.float32), "float32 values from nan to nan"),
        (np.array([[0, 70000]], np.int32), "int32 values from 0 to 70000"),
        (np.array([[-1, 5]], np.int16), "int16 values from -1 to 5"),
    ],
)
def test_a_tiff_file_whose_numbers_may_mean_anything_is_refused(tmp_path: Path, values: np.ndarray, told: str) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), values)
    with pytest.raises(InputError, match=rf"a\.tif: has {told}; expected 0 to 1, or whole numbers from 0 to 65535;"):
        read_image(tmp_path / "a.tif")


def test_pages_of_a_tiff_file_are_images(picture: np.ndarray, tmp_path: Path) -> None:
    cv2.imwritemulti(str(tmp_path / "scan.tif"), [picture, picture[::-1], picture[:, ::-1]])
    cv2.imwrite(str(tmp_path / "z.png"), picture)
    pictures = list(open_source(tmp_path))
    assert [item.name for item in pictures] == ["scan.tif", "scan.page2.tif", "scan.page3.tif", "z.png"]
    np.testing.assert_array_equal(pictures[1].image, picture[::-1])
    assert len(list(open_source(tmp_path / "scan.tif"))) == 3


@pytest.mark.skipif(not hasattr(cv2, "imwriteanimation"), reason="this OpenCV writes no animations")
@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif", ".gif"])
def test_an_animated_image_is_a_video(picture: np.ndarray, tmp_path: Path, suffix: str) -> None:
    if suffix not in (*IMAGE_SUFFIXES, ".gif"):
        pytest.skip("this OpenCV reads no AVIF")
    animation = cv2.Animation()
    animation.frames = [np.full((48, 64, 3), 30 * index, np.uint8) for index in range(6)]
    animation.durations = [100, 50, 200, 100, 100, 100]
    path = tmp_path / f"a{suffix}"
    cv2.imwriteanimation(str(path), animation)
    source = open_source(path)
    assert (source.moving, source.count) == (True, 6)
    pictures = list(source)
    assert [item.time_ms for item in pictures] == pytest.approx([0, 100, 150, 350, 450, 550], abs=1)
    assert [item.image.mean() for item in pictures] == pytest.approx([0, 30, 60, 90, 120, 150], abs=4)


@pytest.mark.skipif(".avif" not in IMAGE_SUFFIXES, reason="this OpenCV reads no AVIF")
def test_an_animation_that_memory_would_not_hold_is_refused_by_the_size_of_its_tracks(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "a.avif")
    data = path.read_bytes()
    head = data.index(b"tkhd") - 4
    end = head + int.from_bytes(data[head : head + 4], "big")
    assert data[end - 8 : end] == struct.pack(">II", 80 << 16, 60 << 16)
    path.write_bytes(data[: end - 8] + struct.pack(">II", 30000 << 16, 30000 << 16) + data[end:])
    with pytest.raises(InputError, match="3 frames of 30000 x 30000 are too many to decode at once"):
        list(open_source(path))


def test_an_opencv_that_decodes_no_animations_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "imdecodeanimation", raising=False)  # as in those that came before it
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"a\.png: OpenCV .* decodes no animations; upgrade it, or convert"):
        list(AnimatedImage(tmp_path / "a.png", 2))


def test_in_a_folder_animations_are_left_to_be_read_as_videos(picture: np.ndarray, tmp_path: Path) -> None:
    animation = cv2.Animation()
    animation.frames, animation.durations = [picture, picture[::-1]], [100, 100]
    cv2.imwriteanimation(str(tmp_path / "a.webp"), animation)
    cv2.imwrite(str(tmp_path / "b.png"), picture)
    found = look_for(tmp_path)
    assert ([path.name for path in found.images], [path.name for path in found.videos]) == (["b.png"], ["a.webp"])


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_photo_whose_name_is_no_text_is_read_and_named(picture: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(png(picture))
    (tmp_path / "b.png").write_bytes(png(picture))
    assert [item.name for item in open_source(tmp_path)] == ["b.png", r"caf\xe9.png"]


def test_a_folder_of_digits_is_a_folder(picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("001").mkdir()
    Path("001/a.png").write_bytes(png(picture))
    assert [item.name for item in open_source("001")] == ["a.png"]


@pytest.mark.skipif(not hasattr(cv2, "imwriteanimation"), reason="this OpenCV writes no animations")
@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_an_animation_that_says_it_is_far_too_large_is_not_decoded(tmp_path: Path, suffix: str) -> None:
    animation = cv2.Animation()
    animation.frames = [np.full((48, 64, 3), 30 * index, np.uint8) for index in range(3)]
    animation.durations = [100] * 3
    path = tmp_path / f"a{suffix}"
    cv2.imwriteanimation(str(path), animation)
    data = bytearray(path.read_bytes())
    if suffix == ".png":  # the number of frames; the checksum behind it is wrong now, which OpenCV lets pass
        place = data.index(b"acTL") + 4
        data[place : place + 4] = (10**6).to_bytes(4, "big")
    else:  # the canvas
        data[24:30] = (9_999).to_bytes(3, "little") * 2
    path.write_bytes(data)
    with pytest.raises(InputError, match="too many to decode at once"):
        list(open_source(path))


def tiff_pages(order: str, big: bool, sides: list[tuple[int, int]]) -> bytes:
    """A TIFF file of pages that have a size and nothing else; the last one leads back to the first."""
    word, count, offset = (8, "Q", "Q") if big else (4, "H", "I")
    data = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    data += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    begin = len(data)
    length = struct.calcsize(f"<{count}") + 2 * (4 + 2 * word) + word
    for page, (width, height) in enumerate(sides, 1):
        data += struct.pack(f"{order}{count}", 2)
        data += struct.pack(f"{order}HH{offset}I{word - 4}x", 256, 4, 1, width)
        data += struct.pack(f"{order}HH{offset}H{word - 2}x", 257, 3, 1, height)
        data += struct.pack(f"{order}{offset}", begin + page % len(sides) * length)
    return data


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_page_of_a_tiff_file_that_states_too_many_pixels_is_refused_at_once(
    tmp_path: Path, order: str, big: bool
) -> None:
    whole = tiff_pages(order, big, [(30, 20), (40000, 40000), (50, 60)])
    (tmp_path / "a.tif").write_bytes(whole)
    with pytest.raises(InputError, match="states 1600 megapixels"):
        read_image(tmp_path / "a.tif")
    for length in range(len(whole)):
        assert stated_pixels(whole[:length]) in (0, 30 * 20, 1_600_000_000)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_an_image_that_states_too_many_pixels_is_refused_at_once(
    picture: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    data = bytearray(cv2.imencode(suffix, picture)[1].tobytes())
    if suffix == ".png":
        data[16:24] = struct.pack(">II", 40000, 40000)
    elif suffix == ".bmp":
        data[18:26] = struct.pack("<ii", 40000, -40000)
    else:
        place = data.index(b"\xff\xc0")
        data[place + 5 : place + 9] = struct.pack(">HH", 40000, 40000)
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(InputError, match="states 1600 megapixels"):
        read_image(tmp_path / f"a{suffix}")
