"""Filters over time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.skeletons import Skeleton
from cunet_deploy.tracking.one_euro import OneEuro, Smoother, Smoothing, smooth_clip, smooth_track

PAIR = Skeleton("pair", ("a", "b"), flip_pairs=(), edges=())
REST = np.array([[100.0, 100.0], [200.0, 220.0]])
TIMES = np.arange(90) * 1000 / 30


def noisy(scale: float = 1.0) -> np.ndarray:
    return np.asarray(REST + np.random.default_rng(0).normal(0, scale, (len(TIMES), 2, 2)))


def landmarks(points: np.ndarray, ids: list[int]) -> Landmarks:
    count = len(ids)
    return Landmarks(
        np.asarray(points, np.float32), np.ones((count, 2), np.float32), np.zeros((count, 4), np.float32), PAIR,
        np.array(ids, np.int64),
    )  # fmt: skip


def filtered(track: np.ndarray, smoothing: Smoothing | None = None) -> np.ndarray:
    steady = OneEuro(smoothing)
    return np.array([steady.update(points, time) for points, time in zip(track, TIMES, strict=True)])


def jitter(track: np.ndarray) -> float:
    return float(np.sqrt((np.diff(track[30:], axis=0) ** 2).mean()))


def test_the_cutoff_rises_with_the_low_pass_of_the_measured_velocity() -> None:
    """The filter of Casiez, Roussel and Vogel, written out; speeds in sizes of the object a second."""

    def weight(cutoff: float) -> float:
        return float(1 / (1 + 1 / (2 * np.pi * cutoff / 30)))

    track = noisy(3.0) + (TIMES / 10)[:, None, None] * [1.0, 0.5]
    values, velocity, expected = track[0].copy(), np.zeros((2, 2)), [track[0]]
    for before, now in itertools.pairwise(track):
        size = np.linalg.norm(np.ptp(now, axis=0))
        velocity = velocity + weight(4.0) * ((now - before) * 30 / size - velocity)
        for point in range(2):
            share = weight(1.0 + 15.0 * float(np.linalg.norm(velocity[point])))
            values[point] = values[point] + share * (now[point] - values[point])
        expected.append(values.copy())
    np.testing.assert_allclose(filtered(track), expected, rtol=1e-9)


def test_what_stands_still_is_much_steadier() -> None:
    assert jitter(filtered(noisy())) < 0.4 * jitter(noisy())


def test_what_moves_lags_by_less_than_a_frame_and_a_half() -> None:
    speed = 300.0  # pixels a second, two sizes of the object
    track = REST + (speed * TIMES / 1000)[:, None, None] * [1.0, 0.0]
    late = (track - filtered(track))[45:, :, 0].mean() / speed
    assert 0 < late < 1.5 / 30


def test_frames_that_come_late_are_weighted_by_their_time() -> None:
    quick, slow = OneEuro(), OneEuro()
    for steady in (quick, slow):
        steady.update(REST, 0)
    near, far = quick.update(REST + 1, 10), slow.update(REST + 1, 1000)
    assert (far - REST > near - REST).all()


def test_the_size_of_the_object_does_not_matter() -> None:
    small, large = filtered(noisy()), filtered(noisy() * 10)
    np.testing.assert_allclose(large, small * 10, rtol=1e-9)


def test_a_filter_refuses_what_is_not_its_object() -> None:
    steady = OneEuro()
    steady.update(REST, 100)
    with pytest.raises(InputError, match="one object in time"):
        steady.update(REST, 50)
    with pytest.raises(InputError, match="one object in time"):
        steady.update(REST[:1], 150)
    with pytest.raises(InputError, match="finite"):
        steady.update(REST * np.nan, 150)


@pytest.mark.parametrize(
    "wrong", [{"min_cutoff": 0.0}, {"beta": -1.0}, {"beta": float("inf")}, {"min_cutoff": "1"}, {"beta": None}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="smoothing"):
        Smoothing(**wrong)  # type: ignore[arg-type]


def test_both_ways_there_is_no_lag() -> None:
    track = REST + 40 * np.sin(TIMES / 400)[:, None, None]
    once, twice = filtered(track), smooth_track(track, TIMES)
    assert np.abs(twice - track)[20:-20].mean() < 0.5 * np.abs(once - track)[20:-20].mean()


def test_objects_are_told_apart_and_a_new_one_starts_where_it_is() -> None:
    smoother = Smoother()
    smoother.update(landmarks(REST[None], [0]), 0)
    both = smoother.update(landmarks(np.stack([REST + 4, REST + 50]), [0, 1]), 33)
    assert (both.points[0] < REST + 4).all()
    np.testing.assert_allclose(both.points[1], REST + 50)


def test_an_object_that_was_away_for_long_starts_anew() -> None:
    smoother = Smoother()
    smoother.update(landmarks(REST[None], [0]), 0)
    again = smoother.update(landmarks(REST[None] + 30, [0]), 5000)
    np.testing.assert_allclose(again.points[0], REST + 30)


def test_a_clip_keeps_its_frames_and_objects() -> None:
    frames = [landmarks(points[None], [3]) for points in noisy()]
    frames[10] = landmarks(np.zeros((0, 2, 2)), [])
    steady = smooth_clip(frames, TIMES.tolist())
    assert [len(frame) for frame in steady] == [len(frame) for frame in frames]
    points = np.array([frame.points[0] for frame in steady if len(frame)])
    assert jitter(points) < 0.4 * jitter(noisy())


def test_in_a_clip_an_object_that_was_away_for_long_starts_anew() -> None:
    times = [0.0, 33.0, 5000.0, 5033.0]
    frames = [landmarks(points[None], [3]) for points in (REST, REST, REST + 30, REST + 30)]
    steady = smooth_clip(frames, times)
    np.testing.assert_allclose([frame.points[0] for frame in steady], [REST, REST, REST + 30, REST + 30])


def test_speeds_are_counted_in_the_given_size_of_the_object() -> None:
    moved = REST + np.array([9.0, 0.0])
    by_size = {}
    for size in (None, 50.0, float(np.linalg.norm(REST[1] - REST[0])), 5000.0):
        steady = OneEuro(size=size)
        steady.update(REST, 0)
        by_size[size] = float((steady.update(moved, 33) - REST)[0, 0])
    given, small, own, large = by_size.values()
    assert given == pytest.approx(own)
    assert small > own > large


@pytest.mark.parametrize("time_ms", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_refused_and_forgotten(time_ms: float) -> None:
    steady = OneEuro()
    steady.update(REST, 0)
    with pytest.raises(InputError, match="finite time"):
        steady.update(REST, time_ms)
    assert np.array_equal(steady.update(REST, 33), REST)


def test_no_points_and_no_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"got shape \(0, 2\)"):
        OneEuro().update(np.zeros((0, 2)), 0)
    for size in (0, -1, float("nan")):
        with pytest.raises(InputError, match="the size of an object is above 0"):
            OneEuro(size=size)
