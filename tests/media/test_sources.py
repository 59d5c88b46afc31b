from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from dots import scene

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media import ImageFiles, VideoFile, open_source
from cunet_deploy.media.video import VideoWriter


def write_clip(path: Path, count: int = 30, fps: float = 25) -> Path:
    writer = VideoWriter(path, fps, (160, 120))
    for index in range(count):
        writer.write(scene((80 + index % 5, 60), 20, (120, 160))[0])
    writer.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.jpg", "c.PNG"):
        cv2.imwrite(str(folder / name), np.full((20, 30, 3), 90, np.uint8))
    (folder / "notes.txt").write_text("not an image")
    (folder / "more.png").mkdir()
    return folder


def test_an_image_is_one_frame(folder: Path) -> None:
    source = open_source(folder / "b.png")
    assert isinstance(source, ImageFiles)
    assert source.single
    assert [(p.index, p.name, p.image.shape) for p in source] == [(0, "b.png", (20, 30, 3))]


def test_a_folder_gives_its_images_by_name(folder: Path) -> None:
    source = open_source(folder)
    assert source.count == 3
    assert not source.moving
    assert [(p.index, p.name) for p in source] == [(0, "a.jpg"), (1, "b.png"), (2, "c.PNG")]


def test_a_pattern_gives_the_images_that_match(folder: Path) -> None:
    assert [p.name for p in open_source(str(folder / "*.png"))] == ["b.png"]
    assert [p.name for p in open_source(str(folder / "[ab].*"))] == ["a.jpg", "b.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "b.png").rename(folder / "[b].png")
    assert [p.name for p in open_source(folder / "[b].png")] == ["[b].png"]


def test_a_video_gives_frames_with_times_and_can_be_read_twice(tmp_path: Path) -> None:
    source = open_source(write_clip(tmp_path / "clip.mp4", 20, 10))
    assert isinstance(source, VideoFile)
    assert (source.count, source.fps, source.moving) == (20, 10, True)
    for _ in range(2):
        pictures = list(source)
        assert [p.index for p in pictures] == list(range(20))
        np.testing.assert_allclose([p.time_ms for p in pictures], np.arange(20) * 100, atol=1)
        assert pictures[0].image.shape == (120, 160, 3)


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    path = _write_gif(tmp_path / "clip.gif", 6)
    assert [p.index for p in open_source(path)] == list(range(6))


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_video_that_breaks_off_gives_its_frames_and_then_says_where(
    tmp_path: Path, suffix: str, share: float
) -> None:
    whole = write_clip(tmp_path / f"clip{suffix}", 60)
    data = whole.read_bytes()
    if suffix == ".mp4":  # the table of frames stands at the end: keep it, and lose the pictures
        middle, end = int(len(data) * share), data.rfind(b"moov") - 4
        data = data[:middle] + bytes(end - middle) + data[end:]
    else:
        data = data[: int(len(data) * share)]
    whole.write_bytes(data)
    frames = []
    with pytest.raises(CunetError) as caught:
        for picture in open_source(whole):
            frames.append(picture.index)
    assert not isinstance(caught.value, InputError)
    assert 5 < len(frames) < 58
    assert f"breaks off after frame {len(frames)}" in str(caught.value)


def test_a_gif_that_breaks_off_is_noticed(tmp_path: Path) -> None:
    path = _write_gif(tmp_path / "clip.gif", 8)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(CunetError, match="breaks off after frame"):
        list(open_source(path))


def test_a_video_without_its_end_is_refused_when_nothing_can_be_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="cut off, damaged or not a video"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("clip.mp4", b"", "is empty"),
        ("photo.png", b"", "is empty"),
        ("clip.mp4", b"no video at all" * 100, "not a video"),
        ("clip.gif", b"no video at all" * 100, "not a video"),
        ("notes.txt", b"words", r"type \.txt is not read"),
        ("noend", b"words", r"type \(none\) is not read"),
    ],
)
def test_what_is_not_a_picture_or_video_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)


@pytest.mark.parametrize("name", ["missing.mp4", "*.jpg", "", "no/such/folder/"])
def test_what_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"does not exist|no image matches|holds no images"):
        open_source(name)


def _write_gif(path: Path, count: int) -> Path:
    """Written by hand: not every OpenCV writes animations."""
    size, pixels = 16, 16 * 16
    table = bytes(value for grey in range(128) for value in (grey * 2,) * 3)
    data = b"GIF89a" + size.to_bytes(2, "little") * 2 + bytes([0xF6, 0, 0]) + table
    for index in range(count):
        data += b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + b"\x2c" + bytes(4) + size.to_bytes(2, "little") * 2 + b"\x00"
        # 7-bit codes in bytes of their own: clear, then pixels in runs short enough that codes stay 8 bits wide
        codes = []
        for start in range(0, pixels, 100):
            codes += [128] + [(index * 15 + p) % 128 for p in range(start, min(start + 100, pixels))]
        body = bytes([*codes, 129])
        data += b"\x07" + b"".join(
            bytes([len(part)]) + part for part in (body[i : i + 255] for i in range(0, len(body), 255))
        )
        data += b"\x00"
    path.write_bytes(data + b"\x3b")
    return path
