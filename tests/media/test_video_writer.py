from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import make_clip

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media import open_source
from cunet_deploy.media.writers.video import WRITABLE_SUFFIXES, VideoWriter, fitted


def frames(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    return [np.full((size[1], size[0], 3), 20 * index % 250, np.uint8) for index in range(count)]


def write(path: Path, times_ms: list[float], *, audio: Path | None = None, fps: float = 25) -> Path:
    writer = VideoWriter(path, fps, (64, 48), audio=audio)
    for image, time_ms in zip(frames(len(times_ms)), times_ms, strict=True):
        writer.write(image, time_ms)
    writer.close()
    assert writer.playable
    return path


def heard(path: Path) -> tuple[float, float]:
    """First and last time with sound, in seconds."""
    container: Any = av.open(str(path))
    times = [frame.time for frame in container.decode(audio=0)]
    return times[0], times[-1]


def seen(path: Path) -> list[float]:
    container: Any = av.open(str(path))
    return [frame.time * 1000 for frame in container.decode(video=0)]


VARIABLE = [0.0, 200.0, 400.0, 433.0, 467.0, 500.0, 533.0]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv"])
def test_frames_last_as_long_as_they_did(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"out{suffix}", VARIABLE)
    assert seen(path) == pytest.approx(VARIABLE, abs=1)
    with av.open(str(path)) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(0.566, abs=0.01)


def test_a_container_of_constant_rate_keeps_the_length(tmp_path: Path) -> None:
    times = seen(write(tmp_path / "out.avi", [index * 1000 / 7 for index in range(14)]))
    assert times[-1] == pytest.approx(13 * 1000 / 7, abs=41)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
@pytest.mark.parametrize("start", [0.0, 1000.0])
def test_sound_stays_in_step(tmp_path: Path, suffix: str, start: float) -> None:
    times = [start + index * 40 for index in range(25)]
    source = make_clip(tmp_path / "in.mkv", times, sound_ms=(0, start + 1000))
    out = tmp_path / f"out{suffix}"
    pictures = list(open_source(source))
    writer = VideoWriter(out, 25, (160, 120), audio=source)
    for picture in pictures:
        writer.write(picture.image, picture.time_ms)
    writer.close()
    assert heard(out)[0] == pytest.approx(0, abs=0.04)
    assert heard(out)[1] == pytest.approx((start + 1000) / 1000, abs=0.08)
    assert seen(out)[-1] == pytest.approx(pictures[-1].time_ms, abs=40)
    assert len(seen(out)) >= 25


def test_sound_that_does_not_fit_is_encoded_anew(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", [index * 40 for index in range(25)], sound_ms=(0, 1000), sound="pcm_s16le")
    out = write(tmp_path / "out.mp4", [index * 40 for index in range(25)], audio=source)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert heard(out)[1] == pytest.approx(1, abs=0.08)


def test_a_source_without_sound_gives_none(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", [0, 40, 80])
    out = write(tmp_path / "out.mp4", [0, 40, 80], audio=source)
    with av.open(str(out)) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_is_written_plays_at_any_moment(tmp_path: Path, suffix: str) -> None:
    part = tmp_path / "out.part"
    writer = VideoWriter(part, 25, (64, 48), name=tmp_path / f"out{suffix}")
    for image in frames(160):
        writer.write(image)
    (tmp_path / f"copy{suffix}").write_bytes(part.read_bytes())  # what a power cut would leave
    writer.abort()
    assert len(seen(tmp_path / f"copy{suffix}")) >= 50


def test_a_finished_file_is_a_plain_one(tmp_path: Path) -> None:
    with av.open(str(write(tmp_path / "out.mp4", [index * 40.0 for index in range(130)]))) as container:
        assert container.streams.video[0].frames == 130  # it has a table, as fragments have not


@pytest.mark.parametrize("colour", [(40, 90, 200), (250, 5, 5), (128, 128, 128)])
@pytest.mark.parametrize("size", [(160, 120), (1280, 720)])
def test_the_copy_has_the_colours_of_the_original(
    tmp_path: Path, colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 25, size)
    for _ in range(3):
        writer.write(np.full((size[1], size[0], 3), colour, np.uint8))
    writer.close()
    image = next(iter(open_source(tmp_path / "out.mp4"))).image
    assert np.abs(image[50, 50].astype(int) - colour).max() <= 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    writer = VideoWriter(Path("/dev/full"), 25, (640, 480), name=tmp_path / "out.mkv")
    noise = np.random.default_rng(0).integers(0, 256, (60, 480, 640, 3), np.uint8)
    with pytest.raises(CunetError, match=r"out\.mkv: cannot be written: the disk is full"):
        for image in noise:
            writer.write(image)
    with pytest.raises(CunetError, match="cannot be written"):
        writer.close()
    assert not writer.playable


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"video is written as \.mp4"):
        VideoWriter(tmp_path / "out.wmv", 25, (64, 48))
    assert ".webm" not in WRITABLE_SUFFIXES


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
@pytest.mark.parametrize("size", [(161, 121), (33, 17), (1, 1)])
def test_of_odd_sizes_no_column_or_row_is_lost(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    writer = VideoWriter(tmp_path / f"out{suffix}", 25, size)
    for picture in frames(3, size):
        writer.write(picture)
    writer.close()
    for read in open_source(tmp_path / f"out{suffix}"):
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
