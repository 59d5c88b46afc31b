from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from cunet_deploy.errors import CunetError
from cunet_deploy.media import open_source
from cunet_deploy.media.readers.video import VideoWriter, open_writer
from cunet_deploy.media.writers.encode import Timeline, find_ffmpeg, fitted

FAKE = """\
#!{python}
# An ffmpeg that writes what it was asked in a log, and frames of a pipe as MJPG.
import os, sys

arguments = sys.argv[1:]
with open({log!r}, "a") as file:
    file.write(" ".join(arguments) + "\\n")
if "-encoders" in arguments:
    print(" V....D {encoder}  H.264")
elif arguments[-2:-1] == ["-i"]:
    sound = os.path.basename(arguments[-1]) == "sound.mp4"
    print("Stream #0:1: Audio: aac" if sound else "Stream #0:0: Video: h264", file=sys.stderr)
    sys.exit(1)
elif "-" in arguments:
    import cv2, numpy as np
    width, height = map(int, arguments[arguments.index("-s") + 1].split("x"))
    writer = cv2.VideoWriter(arguments[-1], cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    count = 0
    while len(data := sys.stdin.buffer.read(width * height * 3)) == width * height * 3:
        writer.write(np.frombuffer(data, np.uint8).reshape(height, width, 3))
        count += 1
        if count == {dies}:
            print("av_interleaved_write_frame(): No space left on device", file=sys.stderr)
            writer.release()
            sys.exit(1)
    writer.release()
elif {refuses!r} in arguments:
    print("codec not supported in container", file=sys.stderr)
    sys.exit(1)
else:
    with open(arguments[arguments.index("-i") + 1], "rb") as source, open(arguments[-1], "wb") as copy:
        copy.write(source.read())
"""


class Ffmpeg:
    """A fake program, and what it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path, self._log = folder / "fake-ffmpeg", folder / "asked.txt"
        self._monkeypatch = monkeypatch

    def install(self, encoder: str = "libx264", dies: int = -1, refuses: str = "nothing") -> None:
        log = str(self._log)
        text = FAKE.format(python=sys.executable, log=log, encoder=encoder, dies=dies, refuses=refuses)
        self._path.write_text(text)
        self._path.chmod(self._path.stat().st_mode | stat.S_IXUSR)
        self._monkeypatch.setenv("CUNET_FFMPEG", str(self._path))

    @property
    def asked(self) -> list[str]:
        return self._log.read_text().splitlines()


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ffmpeg:
    if os.name == "nt":
        pytest.skip("the fake program is a script of POSIX")
    folder = tmp_path / "bin"
    folder.mkdir()
    return Ffmpeg(folder, monkeypatch)


def frames(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    return [np.full((size[1], size[0], 3), 20 * index % 250, np.uint8) for index in range(count)]


def write(path: Path, pictures: list[np.ndarray], audio: Path | None = None, fps: float = 25) -> bool:
    """Write a clip; whether it plays, also when an error is raised."""
    writer = open_writer(path, fps, (pictures[0].shape[1], pictures[0].shape[0]), audio=audio)
    for picture in pictures:
        writer.write(picture)
    writer.close()
    return writer.playable


@pytest.mark.parametrize("encoder", ["libx264", "libopenh264"])
def test_ffmpeg_encodes_where_it_is(ffmpeg: Ffmpeg, tmp_path: Path, encoder: str) -> None:
    ffmpeg.install(encoder)
    assert write(tmp_path / "out.mkv", frames(9, (65, 49)), fps=30000 / 1001)
    assert len(list(open_source(tmp_path / "out.mkv"))) == 9
    command = next(line for line in ffmpeg.asked if "rawvideo" in line)
    for part in (f"-c:v {encoder}", "-s 65x49", "-framerate 30000/1001", "-pix_fmt yuv420p", "pad=ceil(iw/2)*2:"):
        assert part in command
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.mkv"]


@pytest.mark.parametrize("what", ["no encoder", "off", "missing", "avi"])
def test_without_ffmpeg_opencv_encodes(
    ffmpeg: Ffmpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    ffmpeg.install("mpeg2video" if what == "no encoder" else "libx264")
    if what in ("off", "missing"):
        monkeypatch.setenv("CUNET_FFMPEG", {"off": "off", "missing": str(tmp_path / "none")}[what])
    assert (find_ffmpeg() is None) == (what != "avi")
    writer = open_writer(tmp_path / ("out.avi" if what == "avi" else "out.mp4"), 25, (64, 48))
    assert isinstance(writer, VideoWriter)
    writer.abort()


def test_the_sound_of_the_original_is_copied(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    ffmpeg.install()
    assert write(tmp_path / "out.mp4", frames(50), tmp_path / "sound.mp4")
    (last,) = [line for line in ffmpeg.asked if "-map 1:a" in line]
    assert f"-t 2.000 -i {tmp_path / 'sound.mp4'} -map 0:v -map 1:a -c copy -movflags +faststart" in last


def test_without_sound_nothing_is_copied_from_the_original(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    ffmpeg.install()
    assert write(tmp_path / "out.mp4", frames(5), tmp_path / "mute.mp4")
    assert not any("1:a" in line for line in ffmpeg.asked)
    assert ffmpeg.asked[-1].count("-i ") == 1


def test_sound_that_does_not_fit_is_encoded_anew(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    ffmpeg.install(refuses="-c")
    assert write(tmp_path / "out.mp4", frames(5), tmp_path / "sound.mp4")
    assert "-c:v copy -c:a aac" in ffmpeg.asked[-1]


def test_where_nothing_can_be_copied_the_fragments_stay(
    ffmpeg: Ffmpeg, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ffmpeg.install(refuses="-map")
    assert write(tmp_path / "out.mkv", frames(5), tmp_path / "sound.mp4")
    assert "out.mkv: is without sound" in caplog.text
    assert len(list(open_source(tmp_path / "out.mkv"))) == 5
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.mkv"]


def test_an_ffmpeg_that_ends_early_says_why_and_its_part_plays(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    ffmpeg.install(dies=4)
    writer = open_writer(tmp_path / "out.mkv", 25, (640, 480))
    with pytest.raises(CunetError, match=r"out\.mkv: cannot be written: ffmpeg says: .*No space left on device"):
        for picture in frames(60, (640, 480)):
            writer.write(picture)
    with pytest.raises(CunetError, match="frames were written: ffmpeg says"):
        writer.close()
    assert writer.playable


def test_aborting_ends_ffmpeg(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    ffmpeg.install()
    writer = open_writer(tmp_path / "out.mkv", 25, (64, 48))
    writer.write(frames(1)[0])
    writer.abort()
    assert not writer.playable


@pytest.mark.parametrize("size", [(161, 121), (33, 17), (1, 1)])
def test_of_odd_sizes_no_column_or_row_is_lost(tmp_path: Path, size: tuple[int, int]) -> None:
    writer = VideoWriter(tmp_path / "out.avi", 25, size)
    for picture in frames(3, size):
        writer.write(picture)
    writer.close()
    for read in open_source(tmp_path / "out.avi"):
        assert read.image.shape == (size[1] + 1, size[0] + 1, 3)
        assert np.ptp(read.image) < 12  # the column that was added looks like its neighbour


def test_an_image_of_another_size_keeps_its_proportions() -> None:
    white = np.full((100, 100, 3), 255, np.uint8)
    wide = fitted(white, (200, 100))
    assert wide.shape == (100, 200, 3)
    assert (wide[:, 50:150] == 255).all()
    assert not wide[:, :50].any()
    assert not wide[:, 150:].any()
    assert fitted(white, (100, 100)) is white
    assert fitted(white, (3, 1)).shape == (1, 3, 3)


def shown(times_ms: list[float], fps: float, *, live: bool) -> list[int]:
    """Which frame each picture of the video shows."""
    timeline, pictures = Timeline(fps, live=live), list[int]()
    for index, time_ms in enumerate(times_ms):
        again, once = timeline.add(time_ms)
        pictures += [index - 1] * again + [index] * once
    return pictures


def test_frames_at_a_constant_rate_are_shown_once_each() -> None:
    for fps in (25, 29.97, 30000 / 1001, 12.5, 240):
        times = [round(index * 1000 / fps, 1) for index in range(500)]
        for live in (False, True):
            assert shown(times, fps, live=live) == list(range(500))


def test_gaps_are_filled_with_the_frame_before() -> None:
    assert shown([0, 40, 200, 240], 25, live=False) == [0, 1, 1, 1, 1, 2, 3]
    assert shown([5000, 5040, 5200], 25, live=True) == [0, 1, 1, 1, 1, 2]


def test_frames_that_come_too_fast_are_left_out_of_live_video_only() -> None:
    times = [index * 10.0 for index in range(41)]
    live = shown(times, 25, live=True)
    assert len(live) == 11
    assert shown(times, 25, live=False) == list(range(41))


def test_frames_without_times_are_all_shown() -> None:
    assert shown([0] * 9, 25, live=False) == list(range(9))


def test_a_slow_camera_gives_a_video_that_plays_as_fast_as_it_was() -> None:
    times = [float(index * 1000 / 7) for index in range(70)]
    assert len(shown(times, 30, live=True)) == pytest.approx(300, abs=5)


@pytest.mark.parametrize("jump", [1e6, -1e6])
def test_a_clock_that_jumps_does_not_fill_the_disk(jump: float) -> None:
    times = [index * 40.0 for index in range(10)] + [jump + index * 40.0 for index in range(10)]
    assert len(shown(times, 25, live=False)) == 20
