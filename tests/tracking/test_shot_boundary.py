"""Cuts between shots."""

from __future__ import annotations

import numpy as np
import pytest

from cunet_deploy.bench.latency import drawn_picture
from cunet_deploy.tracking.shot_boundary import ShotBoundaryDetector, make_thumbnail

DAY = drawn_picture(320, 240)
NIGHT = (DAY // 4).astype(np.uint8)


def cuts(frames: list[np.ndarray]) -> list[int]:
    detector = ShotBoundaryDetector()
    return [index for index, frame in enumerate(frames) if detector.update(make_thumbnail(frame))]


def flat(level: float, shape: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.full(shape, level, np.float32)


def boundaries(thumbnails: list[np.ndarray]) -> list[int]:
    detector = ShotBoundaryDetector()
    return [index for index, thumbnail in enumerate(thumbnails) if detector.update(thumbnail)]


@pytest.mark.parametrize(("level", "found"), [(0.56, []), (0.59, [4])])
def test_a_small_change_of_all_levels_is_no_boundary(level: float, found: list[int]) -> None:
    assert boundaries([flat(0.5)] * 4 + [flat(level)] * 4) == found


@pytest.mark.parametrize(("lines", "found"), [(2, []), (4, [4])])
def test_what_moves_keeps_its_levels_and_a_scene_has_others(lines: int, found: list[int]) -> None:
    """Left and right trade places, and of both some of the 24 lines have another level."""
    before, after = flat(0.2), flat(0.8)
    before[:, 16:], after[:, 16:] = 0.8, 0.2
    after[:lines] = 0.5
    assert boundaries([before] * 4 + [after] * 4) == found


def test_in_a_restless_shot_a_change_that_is_usual_is_no_boundary() -> None:
    restless = [flat(0.2)] * 4 + [flat(0.32), flat(0.2)] * 6
    assert boundaries(restless) == [4, 5]
    assert boundaries([*restless, flat(0.95)]) == [4, 5, 16]


def test_behind_a_frame_of_another_size_nothing_is_usual_yet() -> None:
    wide = (24, 40)
    assert boundaries([flat(0.2)] * 4 + [flat(0.2, wide), flat(0.9, wide), flat(0.9, wide)]) == [4]


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
