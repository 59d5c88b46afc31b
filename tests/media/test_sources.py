from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import make_clip, write_clip, write_gif
from mp4_boxes import cut_start

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media import FrameSize, ImageFiles, VideoFile, find_items, open_source
from cunet_deploy.media.readers.gif import with_durations


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


def test_a_video_from_a_phone_held_upright_is_turned(tmp_path: Path) -> None:
    plain = next(iter(open_source(write_clip(tmp_path / "plain.mp4", 5)))).image
    path = make_clip(tmp_path / "clip.mp4", [0, 40, 80], turn=(270, False, False))
    picture = next(iter(open_source(path)))
    assert picture.image.shape == (160, 120, 3)
    assert np.abs(picture.image.astype(int) - np.rot90(plain, -1)).mean() < 3


def test_a_clip_that_was_cut_without_encoding_it_anew_is_whole(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", [index * 50 for index in range(40)], rate=20)
    cut_start(path, 12, 40)
    pictures = list(open_source(path))
    assert 28 <= len(pictures) <= 30
    assert pictures[0].time_ms == 0


def test_a_cut_clip_that_breaks_off_is_still_noticed(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", [index * 50 for index in range(60)], rate=20)
    cut_start(path, 10, 60)
    data = path.read_bytes()
    middle, end = len(data) // 2, data.rfind(b"moov") - 4
    path.write_bytes(data[:middle] + bytes(end - middle) + data[end:])
    with pytest.raises(CunetError, match="breaks off after frame"):
        list(open_source(path))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_damage_within_a_video_is_no_crash(tmp_path: Path, suffix: str) -> None:
    path = write_clip(tmp_path / f"clip{suffix}", 60)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(8):
        data = bytearray(whole)
        for place in rng.integers(2000, len(data) * 3 // 4, 40):
            data[place] ^= 0xFF
        path.write_bytes(data)
        seen = []
        with contextlib.suppress(CunetError):
            for picture in open_source(path):
                seen.append(picture.index)
        assert seen == sorted(set(seen))


def test_frames_of_odd_sizes_are_read(tmp_path: Path) -> None:
    source = open_source(write_gif(tmp_path / "clip.gif", 3, 17))
    assert [picture.image.shape for picture in source] == [(17, 17, 3)] * 3


class Stdin:
    """Standard input of a program that was started with a pipe."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    reading, writing = os.pipe()

    def write(data: bytes) -> None:
        os.write(writing, data)
        os.close(writing)

    monkeypatch.setattr("sys.stdin", Stdin(reading))
    yield write
    os.close(reading)


def test_raw_frames_come_from_stdin(piped: Callable[[bytes], None]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 13, 3), np.uint8)
    piped(images.tobytes())
    source = open_source("-", size=FrameSize(13, 9, 20))
    assert (source.live, source.moving, source.count, source.fps, source.stem) == (False, True, None, 20, "stdin")
    pictures = list(source)
    assert [picture.time_ms for picture in pictures] == [0, 50, 100, 150, 200]
    np.testing.assert_array_equal([picture.image for picture in pictures], images)
    assert pictures[0].image.flags.writeable


def test_a_pipe_that_breaks_off_gives_its_whole_frames(piped: Callable[[bytes], None]) -> None:
    piped(bytes(2 * 9 * 13 * 3 + 5))
    seen = []
    with pytest.raises(CunetError, match="within frame 3, at byte 5 of 351"):
        for picture in open_source("-", size=FrameSize(13, 9)):
            seen.append(picture.index)
    assert seen == [0, 1]


def test_an_empty_pipe_and_a_pipe_without_a_size_are_refused(piped: Callable[[bytes], None]) -> None:
    with pytest.raises(InputError, match="give it, as WIDTHxHEIGHT@FPS"):
        open_source("-")
    piped(b"")
    with pytest.raises(InputError, match="stdin: ended after 0 bytes"):
        list(open_source("-", size=FrameSize(13, 9)))


@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
def test_a_terminal_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    main, terminal = os.openpty()
    try:
        monkeypatch.setattr("sys.stdin", Stdin(terminal))
        with pytest.raises(InputError, match="stdin is a terminal"):
            open_source("-", size=FrameSize(13, 9))
    finally:
        os.close(main)
        os.close(terminal)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("640x480", FrameSize(640, 480)), ("1x1@0.5", FrameSize(1, 1, 0.5)), (" 1920x1080@59.94 ", (1920, 1080, 59.94))],
)
def test_a_frame_size_is_written_with_an_x(text: str, expected: FrameSize | tuple[int, int, float]) -> None:
    assert FrameSize.parse(text) == (expected if isinstance(expected, FrameSize) else FrameSize(*expected))


@pytest.mark.parametrize("text", ["", "640", "640x", "640x480@", "640 x 480", "0x480", "640x480@0", "99999x9", "-1x5"])
def test_what_is_no_frame_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"640x480@30|cannot be"):
        FrameSize.parse(text)


def test_a_file_url_is_a_file(folder: Path) -> None:
    assert [picture.name for picture in open_source(f"file://{folder / 'b.png'}")] == ["b.png"]


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "clip.gif", 6)
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
    path = write_gif(tmp_path / "clip.gif", 8)
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "does not exist"),
        ("*.jpg", "no image matches"),
        ("", "a source is an empty text"),
        ("no/such/folder/", "does not exist"),
    ],
)
def test_what_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_source(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.txt"])
def test_a_named_pipe_is_refused_and_not_waited_for(folder: Path, name: str) -> None:
    pipe = folder / name
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=rf"{name}: is a pipe or device; save what it gives as a file"):
        open_source(pipe)
    items = find_items([str(pipe), str(folder / "b.png")])
    assert items is not None
    assert [(item.text, len(item.images)) for item in items] == [(str(pipe), 0), (str(folder / "b.png"), 1)]
    assert len(list(open_source(folder))) == 3


@pytest.mark.parametrize("stated", [(), (1, 2)])
def test_frames_of_a_gif_without_durations_are_shown_at_10_fps(tmp_path: Path, stated: tuple[int, ...]) -> None:
    path = write_gif(tmp_path / "a.gif", 5, stated=stated)
    source = open_source(path)
    pictures = list(source)
    assert [(picture.index, picture.time_ms) for picture in pictures] == [(n, 100.0 * n) for n in range(5)]
    assert len({picture.image.tobytes() for picture in pictures}) == 5
    assert (source.fps, source.left_out) == (10, [])
    data = path.read_bytes()
    for length in range(len(data)):
        with_durations(data[:length])
    path.write_bytes(data[:-300])
    with pytest.raises(CunetError, match="breaks off after frame"):
        list(source)
