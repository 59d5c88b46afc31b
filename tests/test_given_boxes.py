"""Boxes of a file for a source: which are of it, and when that is known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_clip
from dots import box, scene

from cunet_deploy import CunetError, InputError, Localizer
from cunet_deploy.detection.boxes import GivenBoxes
from cunet_deploy.media import Picture, VideoFile
from cunet_deploy.media.readers.still import RemoteImage
from cunet_deploy.tracking.one_euro import Smoothing


def given(model: Path, *keys: int | str) -> Localizer:
    return Localizer(model, threads=1, detector=GivenBoxes(dict.fromkeys(keys, box()), "b.csv"))


@pytest.fixture
def clip(tmp_path: Path) -> VideoFile:
    source = VideoFile(write_clip(tmp_path / "clip.avi", 6, 25))
    source.count = 3  # as headers of joined files say
    return source


@pytest.mark.parametrize("smooth", [True, Smoothing(both_ways=True)], ids=["forward", "both ways"])
def test_frames_of_a_video_are_those_that_came(
    dots_model: Path, clip: VideoFile, smooth: bool | Smoothing, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(list(given(dots_model, 0, 5).stream(clip, smooth=smooth))) == 6
    assert not caplog.records
    assert len(list(given(dots_model, 5, 6).stream(clip, smooth=smooth))) == 6
    assert [record.message for record in caplog.records] == [f"b.csv: of 2 frames or files in it, 1 are of {clip.name}"]
    with pytest.raises(InputError, match=r"none of its boxes is of .*; expected frames 0 to 5, found 6"):
        list(given(dots_model, 6).stream(clip, smooth=smooth))


def test_a_video_that_does_not_reach_its_end_says_nothing_of_its_frames(
    dots_model: Path, clip: VideoFile, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = given(dots_model, 9).stream(clip)
    next(frames)
    frames.close()
    stop = threading.Event()
    for _ in given(dots_model, 9).stream(clip, stop=stop):
        stop.set()
    pictures = VideoFile.__iter__

    def break_off(source: VideoFile) -> Iterator[Picture]:
        yield from pictures(source)
        raise CunetError("breaks off")

    monkeypatch.setattr(VideoFile, "__iter__", break_off)
    with pytest.raises(CunetError, match="breaks off"):
        list(given(dots_model, 9).stream(clip))
    assert not caplog.records


def test_boxes_of_files_alone_are_refused_for_a_video_before_it_is_read(dots_model: Path, clip: VideoFile) -> None:
    with pytest.raises(InputError, match=r"expected frame numbers, found '0\.png'"):
        next(given(dots_model, "0.png").stream(clip))


def test_a_picture_at_a_url_has_a_file_name(dots_model: Path) -> None:
    picture = RemoteImage("http://host/a/0.png?x=1", cv2.imencode(".png", scene()[0])[1].tobytes())
    (frame,) = given(dots_model, "0.png").stream(picture)
    np.testing.assert_array_equal(frame.landmarks.boxes, box().astype(np.float32))
    with pytest.raises(InputError, match=r"expected file names such as '0\.png', found '1\.png'"):
        list(given(dots_model, "1.png").stream(picture))
