"""Measurements of drawn clips against what was put into them."""

from __future__ import annotations

import numpy as np
import pytest

from tools.release import video as video_tool

script = video_tool
REST = np.random.default_rng(0).uniform(180, 260, (68, 2))
TIMES = np.arange(script.FRAMES) * 1000 / script.FPS


def truth(motion: str, late_ms: float = 0.0) -> np.ndarray:
    matrices = [script.camera(motion, (time - late_ms) / 1000) for time in TIMES]
    return np.array([REST @ matrix[:, :2].T + matrix[:, 2] for matrix in matrices])


@pytest.mark.parametrize("motion", script.MOTIONS)
def test_perfect_landmarks_have_no_jitter_and_no_lag(motion: str) -> None:
    judged = script.judge(motion, truth(motion), TIMES, REST)
    assert judged["jitter_percent"] < 1e-6
    assert judged.get("lag_ms", 0) == 0


@pytest.mark.parametrize("late", [20.0, 50.0])
def test_landmarks_that_are_late_are_late_by_that(late: float) -> None:
    assert script.judge("shake", truth("shake", late), TIMES, REST)["lag_ms"] == pytest.approx(late, abs=1)


def test_noise_is_jitter() -> None:
    noise = np.random.default_rng(1).normal(0, 0.5, truth("still").shape)
    judged = script.judge("still", truth("still") + noise, TIMES, REST)
    true = truth("still")
    unit = np.linalg.norm(true[0, script.RIGHT] - true[0, script.LEFT])
    assert judged["jitter_percent"] == pytest.approx(100 * 0.5 * 2 / unit, rel=0.05)  # two frames, two directions


def test_a_drawn_clip_shows_the_picture_where_the_camera_says() -> None:
    pictures = list(script.drawn("pan"))
    assert len(pictures) == script.FRAMES
    assert pictures[30].time_ms == 1000
    assert pictures[0].image.shape == (script.HEIGHT, script.WIDTH, 3)
