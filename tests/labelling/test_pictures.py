"""Pictures to label."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cunet_deploy.labelling.pictures import Pictures
from cunet_deploy.media import Item
from cunet_deploy.media.readers.still import RemoteImage
from cunet_deploy.media.writers.video import VideoWriter

IMAGE = np.full((120, 160, 3), 90, np.uint8)


def test_a_picture_at_a_url_is_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://camera/snap.png"
    still = RemoteImage(url, cv2.imencode(".png", IMAGE)[1].tobytes())
    monkeypatch.setattr(Item, "open", lambda item: still)
    pictures = Pictures([url], every=10, seconds=(5.0, 9.0))
    assert pictures.expected == 1
    (found,) = pictures
    assert found is not None
    assert (found.file, found.stem, found.origin.source, found.origin.index) == (None, "snap", url, 0)
    assert pictures.has(found.origin)


def test_frames_that_are_passed_over_are_told(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", 10, (160, 120))
    for _ in range(5):
        writer.write(IMAGE)
    writer.close()
    pictures = Pictures([str(tmp_path / "clip.mp4")], every=2)
    assert pictures.expected == 3
    assert [found and found.origin.index for found in pictures] == [0, None, 2, None, 4]


@pytest.mark.parametrize(
    ("every", "seconds", "indices"),
    [
        (1, (0.1, 0.4), [None, 1, 2, 3, None]),
        (2, (0.1, 9.0), [None, None, 2, None, 4]),
        (3, (0.0, 0.3), [0, *[None] * 3]),
    ],
)
def test_the_part_of_a_clip_begins_with_its_first_moment_and_ends_before_its_last(
    tmp_path: Path, every: int, seconds: tuple[float, float], indices: list[int | None]
) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", 10, (160, 120))
    for _ in range(5):
        writer.write(IMAGE)
    writer.close()
    pictures = Pictures([str(tmp_path / "clip.mp4")], every=every, seconds=seconds)
    assert pictures.expected == sum(index is not None for index in indices)
    assert [found and found.origin.index for found in pictures] == indices
