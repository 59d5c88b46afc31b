from __future__ import annotations

import numpy as np
import pytest

from cunet_deploy.media.writers.timeline import Clock, Timeline


def shown(times_ms: list[float], fps: float) -> list[int]:
    """Numbers of the frames that the pictures of the video show."""
    timeline, pictures = Timeline(fps), list[int]()
    for index, time_ms in enumerate(times_ms):
        again, once = timeline.add(time_ms)
        pictures += [index - 1] * again + [index] * once
    return pictures


def test_frames_at_a_constant_rate_are_shown_once_each() -> None:
    for fps in (25, 29.97, 30000 / 1001, 12.5, 240):
        times = [round(index * 1000 / fps, 1) for index in range(500)]
        assert shown(times, fps) == list(range(500))


def test_gaps_are_filled_with_the_frame_before() -> None:
    assert shown([0, 40, 200, 240], 25) == [0, 1, 1, 1, 1, 2, 3]
    assert shown([80, 120], 25) == [-1, -1, 0, 1]  # the first one is shown before its time too


def test_frames_that_come_too_fast_are_left_out() -> None:
    assert len(shown([index * 10.0 for index in range(41)], 25)) == 11


def test_a_slow_camera_gives_a_video_that_plays_as_fast_as_it_was() -> None:
    times = [float(index * 1000 / 7) for index in range(70)]
    assert len(shown(times, 30)) == pytest.approx(300, abs=5)


def test_a_clock_that_jumps_does_not_fill_the_disk() -> None:
    times = [index * 40.0 for index in range(10)] + [1e6 + index * 40.0 for index in range(10)]
    assert len(shown(times, 25)) == 20


def test_a_clock_keeps_the_times_of_the_source() -> None:
    clock, times = Clock(25), [1023.0, 1063.0, 1400.0, 1401.0]
    assert [clock.add(time) for time in times] == times


@pytest.mark.parametrize("jump", [1e6, -1e6, 0.0])
def test_a_clock_grows_whatever_comes(jump: float) -> None:
    clock = Clock(25)
    times = [clock.add(time) for time in [index * 40.0 for index in range(10)] + [jump] * 5]
    assert (np.diff(times) > 0).all()
    assert times[-1] == pytest.approx(14 * 40, abs=1)
