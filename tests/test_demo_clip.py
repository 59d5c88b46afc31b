"""The demo clip, its script, and what the released model makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cunet_deploy import zoo
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import open_source

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "tests" / "data" / "demo.mp4"
MOTION = json.loads((ROOT / "tests" / "data" / "demo_motion.json").read_text())


def test_the_clip_is_small_and_has_a_matrix_for_each_frame() -> None:
    assert CLIP.stat().st_size < 400_000
    assert len(list(open_source(CLIP))) == len(MOTION["picture_to_frame"]) == 100


def test_the_motion_is_smooth_and_the_face_stays_in_the_frame() -> None:
    matrices = np.array(MOTION["picture_to_frame"])
    places = matrices @ [*MOTION["face_in_picture"], 1]
    assert (places > 60).all()
    assert (places < np.array(MOTION["size"]) - 60).all()
    assert np.abs(np.diff(places, axis=0)).max() < 6


def test_the_frames_move_as_the_motion_says() -> None:
    """Frame 30 warped onto frame 31 by the true motion is closer than without."""
    pictures = {p.index: p.image for p in open_source(CLIP) if p.index in (30, 40)}
    matrices = [np.vstack([MOTION["picture_to_frame"][index], [0, 0, 1]]) for index in (30, 40)]
    step = (matrices[1] @ np.linalg.inv(matrices[0]))[:2]
    moved = cv2.warpAffine(pictures[30], step, (320, 240), borderMode=cv2.BORDER_REPLICATE).astype(int)
    middle = np.s_[40:200, 60:260]
    assert (
        np.abs(moved - pictures[40])[middle].mean()
        < 0.4 * np.abs(pictures[30].astype(int) - pictures[40])[middle].mean()
    )


def test_the_script_makes_the_same_motion(tmp_path: Path, astronaut: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        ROOT / "tests" / "data" / "make_demo_clip.py",
        "--image",
        astronaut,
        "--out",
        tmp_path,
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert json.loads((tmp_path / "demo_motion.json").read_text()) == MOTION
    assert (tmp_path / "demo.mp4").stat().st_size > 10_000


@pytest.mark.skipif(zoo.DEFAULT_MODEL not in zoo.released_models(), reason="the default model is not here yet")
def test_the_default_model_follows_the_face_with_the_camera() -> None:
    with Localizer(threads=1) as localizer:
        frames = list(localizer.stream(CLIP))
    assert sum(len(frame.landmarks) == 1 for frame in frames) >= 95
    assert {int(i) for frame in frames for i in frame.landmarks.ids} == {0}
    # landmarks of each frame, taken back to the picture, are at one place
    matrices = np.array(MOTION["picture_to_frame"])
    back = [
        (frame.landmarks.points[0] - matrices[frame.index, :, 2]) @ np.linalg.inv(matrices[frame.index, :, :2]).T
        for frame in frames
        if len(frame.landmarks)
    ]
    eyes = np.linalg.norm(np.mean(back, axis=0)[36] - np.mean(back, axis=0)[45])
    spread = np.linalg.norm(np.array(back) - np.median(back, axis=0), axis=2)
    assert np.median(spread) < 0.03 * eyes
