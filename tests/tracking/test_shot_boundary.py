"""Cuts between shots."""

from __future__ import annotations

import numpy as np

from cunet_deploy.bench.latency import drawn_picture
from cunet_deploy.tracking.shot_boundary import ShotBoundaryDetector, make_thumbnail

DAY = drawn_picture(320, 240)
NIGHT = (DAY // 4).astype(np.uint8)


def cuts(frames: list[np.ndarray]) -> list[int]:
    detector = ShotBoundaryDetector()
    return [index for index, frame in enumerate(frames) if detector.update(make_thumbnail(frame))]


def test_another_scene_is_a_cut_and_the_frames_within_are_none() -> None:
    assert cuts([DAY] * 5 + [NIGHT] * 5) == [5]


def test_noise_and_a_slow_fade_are_no_cuts() -> None:
    rng = np.random.default_rng(0)
    noisy = [(DAY * (1 - 0.01 * i) + rng.normal(0, 8, DAY.shape)).clip(0, 255).astype(np.uint8) for i in range(30)]
    assert cuts(noisy) == []


def test_a_camera_that_turns_quickly_is_no_cut() -> None:
    wide = drawn_picture(1200, 240)
    still = [wide[:, :320]] * 5
    assert cuts(still + [wide[:, 20 * i : 20 * i + 320] for i in range(40)]) == []


def test_a_frame_of_another_size_begins_a_shot() -> None:
    assert cuts([DAY, DAY[:200]]) == [1]
