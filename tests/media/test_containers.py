"""Videos as people have them: what headers say is not what is there."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, spoil

from cunet_deploy.errors import CunetError, InputError, MissingDependencyError
from cunet_deploy.media import LeftOut, VideoFile, open_source
from cunet_deploy.media.readers.container import picture_times


def regular(count: int, fps: float = 25, start: float = 0.0) -> list[float]:
    return [start + index * 1000 / fps for index in range(count)]


def read(path: Path) -> tuple[list[int], list[float], list[LeftOut]]:
    source = open_source(path)
    pictures = [(picture.index, picture.time_ms) for picture in source]
    return [index for index, _ in pictures], [time for _, time in pictures], list(source.left_out)


@pytest.mark.parametrize("name", ["a.webm", "a.mkv"])
def test_a_file_without_rate_and_length_has_those_of_its_time_stamps(tmp_path: Path, name: str) -> None:
    times = [0, 33, 73, 123, 140, 180, 231, 260, 300, 333, 380, 401]
    path = make_clip(tmp_path / name, times, codec="libvpx" if name == "a.webm" else "mpeg4", options={"live": "1"})
    source = open_source(path)
    assert source.fps == pytest.approx(11 / 0.401, rel=0.01)
    assert source.count is None
    index, found, gaps = read(path)
    assert index == list(range(12))
    assert found == pytest.approx(times)
    assert gaps == []


def test_a_file_that_starts_late_begins_at_zero_and_is_whole(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", regular(20, start=100_000))
    index, times, _ = read(path)
    assert index == list(range(20))
    assert times == pytest.approx(regular(20), abs=1)
    assert open_source(path).count == pytest.approx(20, abs=1)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_a_transport_stream_is_not_called_broken_off(tmp_path: Path, name: str) -> None:
    path = make_clip(tmp_path / name, regular(40, start=680), codec="mpeg2video", rate=25)
    index, times, _ = read(path)
    assert index == list(range(40))
    assert times == pytest.approx(regular(40), abs=1)


def test_pictures_that_start_after_the_sound_keep_their_times(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", regular(20, start=1000), sound_ms=(0, 1800))
    times = read(path)[1]
    assert times[0] == pytest.approx(1000, abs=30)  # an encoder of sound begins some milliseconds early
    assert np.diff(times) == pytest.approx(40, abs=1)


def test_a_variable_rate_stays_as_it_is(tmp_path: Path) -> None:
    times = [*regular(15, 5), *regular(30, 30, start=3000)]
    assert read(make_clip(tmp_path / "a.mp4", times))[1] == pytest.approx(times, abs=1)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mov", "mjpeg", "yuvj420p"),
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.mkv", "libvpx", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
    ],
)
def test_damage_in_the_middle_leaves_a_gap_and_reading_goes_on(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    path = make_clip(
        tmp_path / name,
        regular(45, 30),
        codec=codec,
        pix_fmt=pix_fmt,
        rate=30,
        group=1,
    )
    spoil(path, 14, 3)
    index, times, gaps = read(path)
    assert index == [*range(14), *range(17, 45)]
    assert times == pytest.approx([regular(45, 30)[place] for place in index], abs=1.1)
    assert [(gap.index, gap.count) for gap in gaps] == [(14, 3)]
    assert gaps[0].time_ms == pytest.approx(14 * 1000 / 30, abs=35)
    assert "cannot be decoded" in gaps[0].reason


def test_a_file_whose_rest_is_damaged_is_cut_off(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", regular(45, 30), codec="libx264", group=1)
    spoil(path, 20, 25)
    with pytest.raises(CunetError, match="breaks off after frame 20 of 45") as caught:
        list(open_source(path))
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize("aspect", [Fraction(16, 9), Fraction(3, 4), Fraction(1, 1), Fraction(1, 1000)])
def test_pixels_are_square_when_they_are_read(tmp_path: Path, aspect: Fraction) -> None:
    path = make_clip(tmp_path / "a.mp4", regular(3), codec="libx264", size=(90, 120), aspect=aspect)
    shape = {Fraction(16, 9): (120, 160, 3), Fraction(3, 4): (160, 90, 3)}.get(aspect, (120, 90, 3))
    assert next(iter(open_source(path))).image.shape == shape


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_display_matrix_is_followed_in_all_eight_ways(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    corner = np.zeros((120, 160, 3), np.uint8)
    corner[:40, :40] = 255
    path = make_clip(
        tmp_path / "a.mp4",
        regular(2),
        codec="libx264",
        draw=lambda index: corner,
        turn=(degrees, mirrored, False),
    )
    image = next(iter(open_source(path))).image
    expected = np.rot90(corner, degrees // 90)
    if mirrored:
        expected = expected[:, ::-1]
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 6


@pytest.mark.parametrize(
    ("colours", "pix_fmt"),
    [
        ({"colorspace": 5, "color_range": 1}, "yuv420p"),
        ({"colorspace": 1, "color_range": 1}, "yuv420p"),
        ({"colorspace": 1, "color_range": 2}, "yuv420p"),
        ({"colorspace": 9, "color_range": 1}, "yuv420p10le"),
        ({"colorspace": 5, "color_range": 1}, "yuv422p"),
        ({"colorspace": 5, "color_range": 2}, "yuv444p"),
    ],
)
def test_colours_are_those_that_were_meant(tmp_path: Path, colours: dict[str, int], pix_fmt: str) -> None:
    colour = (40, 90, 200)
    path = make_clip(
        tmp_path / "a.mkv",
        regular(2),
        codec="ffv1",
        draw=lambda index: np.full((120, 160, 3), colour, np.uint8),
        colours=colours,
        pix_fmt=pix_fmt,
    )
    image = next(iter(open_source(path))).image
    assert np.abs(image[60, 80].astype(int) - colour).max() <= 3


def test_high_definition_that_states_no_matrix_is_that_of_television(tmp_path: Path) -> None:
    colour = (40, 90, 200)
    path = make_clip(
        tmp_path / "a.mp4",
        regular(2),
        codec="libx264",
        size=(1280, 720),
        draw=lambda index: np.full((720, 1280, 3), colour, np.uint8),
    )  # written with the matrix of small video
    image = next(iter(open_source(path))).image
    assert np.abs(image[360, 640].astype(int) - colour).max() > 7


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_mapped_to_an_ordinary_screen(tmp_path: Path, transfer: int) -> None:
    grey = {16: 148, 18: 191}[transfer]  # the white of an ordinary picture, 203 nits, in both kinds of signal
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": 1}
    path = make_clip(
        tmp_path / "a.mkv",
        regular(2),
        codec="ffv1",
        pix_fmt="yuv420p10le",
        draw=lambda index: np.full((120, 160, 3), grey, np.uint8),
        colours=tags,
    )
    pixel = next(iter(open_source(path))).image[60, 80].astype(int)
    assert np.ptp(pixel) <= 2
    assert 215 <= pixel.mean() <= 245


@pytest.mark.parametrize(
    "name", ["12:30:05.mp4", "50%.mp4", "a b.mp4", "\N{SLIGHTLY SMILING FACE}.mp4", "001.mp4", "x" * 251]
)
def test_any_name_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    name = name if name.endswith(".mp4") else f"{name}.mp4"
    made = make_clip(tmp_path / "made.mp4", regular(4))
    made.rename(name)
    for spelling in (name, f"./{name}", tmp_path / name):
        assert len(list(open_source(spelling))) == 4


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    make_clip(tmp_path / "made.mp4", regular(4)).rename(path)
    assert len(list(open_source(path))) == 4


def test_a_picture_that_goes_with_sound_is_no_video(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.m4v", [], sound_ms=(0, 500), container="mp4")
    with pytest.raises(InputError, match=r"holds no|not a video"):
        list(open_source(path))


def test_frames_of_a_video_can_change_their_size(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "a.ts", regular(5), codec="mpeg2video", rate=25)
    large = make_clip(tmp_path / "b.ts", regular(5), codec="mpeg2video", rate=25, size=(320, 240))
    (tmp_path / "c.ts").write_bytes(small.read_bytes() + large.read_bytes())
    source = VideoFile(tmp_path / "c.ts")
    pictures = list(source)
    assert {picture.image.shape for picture in pictures} == {(120, 160, 3), (240, 320, 3)}
    times = [picture.time_ms for picture in pictures]
    assert times == sorted(set(times))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("starts", [(0, 0, 0), (20_000, 0, 20_000)])
def test_joined_transport_streams_are_whole(tmp_path: Path, codec: str, starts: tuple[int, ...]) -> None:
    parts = [
        make_clip(tmp_path / "a.ts", regular(20, start=start), codec=codec, rate=25).read_bytes() for start in starts
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    source = VideoFile(tmp_path / "joined.ts", threads=4)  # packets of a part come before the last frames of another
    pictures = list(source)
    assert source.left_out == []
    assert [picture.index for picture in pictures] == list(range(60))
    steps = np.diff([picture.time_ms for picture in pictures])
    forwards = steps > 1000  # to a later clock, which may be a pause
    assert steps[~forwards] == pytest.approx(40, abs=1)
    assert forwards.sum() == (starts[0] > 0)
    assert picture_times(tmp_path / "joined.ts") is None  # no key frame can be found by its time


def from_picture(data: bytes, first: int, end: int | None = None) -> bytes:
    """A transport stream without the pictures before one, and from another one on: cut as recorders do it, anywhere."""
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    starts = [at for at, packet in enumerate(packets) if packet[1] & 0x5F == 0x41 and packet[2] == 0]
    return b"".join(packets[: starts[0]] + packets[starts[first] : None if end is None else starts[end]])


@pytest.mark.parametrize("start", [0, 640, 840, 20_000])
@pytest.mark.parametrize(("end", "missing"), [(25, 0), (None, 5)], ids=["cut", "whole"])
def test_a_part_may_begin_within_a_group_of_pictures(tmp_path: Path, start: int, end: int | None, missing: int) -> None:
    first, second = (
        make_clip(tmp_path / "a.ts", regular(30, start=begin), codec="libx264", rate=25, group=10).read_bytes()
        for begin in (0, start)
    )
    # pictures 4 to 9 refer to some that are not there; the decoder makes do with others where it has them
    (tmp_path / "a.ts").write_bytes(from_picture(first, 0, end) + from_picture(second, 4))
    source, known = VideoFile(tmp_path / "a.ts", threads=4), end or 30
    indices = [picture.index for picture in source]
    assert len(indices) == known + 26 - missing
    assert indices[:known] == list(range(known))
    assert indices[-1] == known + 25
    assert sum(gap.count for gap in source.left_out) == missing
    assert all(gap.index >= known for gap in source.left_out)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_random_damage_ends_in_one_line_or_in_pictures(tmp_path: Path, name: str) -> None:
    whole = make_clip(tmp_path / name, regular(10), codec="mpeg2video" if name == "a.ts" else "mpeg4", rate=25)
    data, rng = whole.read_bytes(), np.random.default_rng(5)
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 12):
            damaged[place] = rng.integers(0, 256)
        whole.write_bytes(damaged)
        messages = []
        try:
            pictures = len(list(open_source(whole)))
        except CunetError as error:
            pictures, messages = 0, [str(error)]
        assert pictures or "\n" not in messages[0]


@pytest.mark.skipif(av.library_versions["libswscale"][0] != 9, reason="another FFmpeg may round otherwise")
def test_pictures_have_the_same_bits_on_every_kind_of_processor() -> None:
    # the digest is that of x86-64, and of Cortex-A57, A76 and Arm "max" under QEMU
    digest = hashlib.sha256()
    demo = Path(__file__).resolve().parents[1] / "data" / "demo.mp4"
    for picture in itertools.islice(open_source(demo), 6):
        digest.update(picture.image.tobytes())
    assert digest.hexdigest().startswith("c9209dabcec2c8c7")


def test_without_pyav_the_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "a.mp4", regular(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match="pip install 'av>=17'"):
        open_source(path)
