"""Steady landmarks: filters over time, per object, with the real times of the frames.

`OneEuro` is the filter of Casiez, Roussel and Vogel (CHI 2012): a low pass whose cutoff rises with speed, so that what
stands still is steady and what moves lags little. Speeds are counted in sizes of the object, so that one setting fits
near and far. `smooth_track` looks at the frames after as well as before and has no lag; it needs the whole clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.skeletons import Skeleton
from cunet_deploy.tracking.sides import SideConsistency, has_sides

__all__ = ["ASSUMED_STEP_MS", "OneEuro", "Smoother", "Smoothing", "smooth_clip", "smooth_track"]

FloatArray = NDArray[np.float64]
FloatOrArray = TypeVar("FloatOrArray", float, FloatArray)

_VELOCITY_CUTOFF_HZ = 4.0
"""Cutoff in Hz of the low pass on the velocity. The authors' 1 Hz notices too late that a head begins to move: measured
with tools/release/video.py, a nod then lags by twice as much."""
_MAX_GAP_MS = 500.0
"""After a longer time without an object its filter starts anew."""
ASSUMED_STEP_MS = 1000 / 30
"""Time between two frames that is assumed where it is not known, or both have the same time."""


@dataclass(frozen=True)
class Smoothing:
    """Strength of the filter.

    Attributes:
        min_cutoff: cutoff in Hz of what stands still; lower is steadier.
        beta: by how many Hz the cutoff rises where a landmark moves by one size of its object a second; higher lags
            less.
        both_ways: for files: filter the whole clip forwards and backwards, which has no lag; see `smooth_clip`.
    """

    min_cutoff: float = 1.0
    beta: float = 15.0
    both_ways: bool = False

    def __post_init__(self) -> None:
        are_numbers = isinstance(self.min_cutoff, Real) and isinstance(self.beta, Real)
        if not (are_numbers and 0 < self.min_cutoff < math.inf and 0 <= self.beta < math.inf):
            raise InputError(f"smoothing: min_cutoff above 0 and beta of 0 or more expected, got {self}")


class OneEuro:
    """The filter of one object. Not for several threads.

    Example:
        >>> steady = OneEuro()
        >>> for time_ms, points in measurements:  # (K, 2) pixels
        ...     points = steady.update(points, time_ms)
    """

    def __init__(self, smoothing: Smoothing | None = None, *, size: float | None = None) -> None:
        """Start without a past.

        Args:
            smoothing: how strong; ``None``: the defaults.
            size: of the object in the units of its points, constant; ``None``: the diagonal of the points' own box.

        Raises:
            InputError: the size is not positive.
        """
        if size is not None and not 0 < size < math.inf:
            raise InputError(f"the size of an object is above 0, in the units of its points; got {size!r}")
        self._smoothing = smoothing or Smoothing()
        self._size = size
        self._value: FloatArray | None = None
        self._last: FloatArray = np.zeros(0)
        self._velocity: FloatArray = np.zeros(0)
        self._time_ms = 0.0

    def update(self, points: ArrayLike, time_ms: float) -> FloatArray:
        """Take a measurement and return the steady points.

        Args:
            points: (K, D) of any unit, always of the same shape.
            time_ms: when; never before the last.

        Raises:
            InputError: there is no point, the shape changed, a number is not finite, or time runs backwards.
        """
        value = np.asarray(points, np.float64)
        if value.ndim != 2 or not value.size or not np.isfinite(value).all() or not math.isfinite(time_ms):
            raise InputError(
                f"a filter takes finite points (K, D) at a finite time, got shape {value.shape} at {time_ms} ms"
            )
        if self._value is None:
            self._value, self._velocity, self._time_ms = value, np.zeros_like(value), time_ms
            self._last = value
            return value.copy()
        if value.shape != self._value.shape or time_ms < self._time_ms:
            raise InputError(
                f"a filter follows one object in time: {value.shape} at {time_ms:g} ms came after "
                f"{self._value.shape} at {self._time_ms:g} ms; make a new one"
            )
        seconds = _seconds(self._time_ms, time_ms)
        size = self._size or math.hypot(*(value.max(axis=0) - value.min(axis=0)).tolist()) or 1.0
        # the noise of a velocity averages out, that of a speed does not
        velocity = (value - self._last) / (seconds * size)
        self._velocity = self._velocity + _share(_VELOCITY_CUTOFF_HZ, seconds) * (velocity - self._velocity)
        speed = np.sqrt(np.square(self._velocity).sum(axis=1, keepdims=True))
        cutoff = self._smoothing.min_cutoff + self._smoothing.beta * speed
        self._value = self._value + _share(cutoff, seconds) * (value - self._value)
        self._last, self._time_ms = value, time_ms
        return self._value.copy()


class Smoother:
    """Filters for all objects of a video, told apart by their track ids. Not for several threads.

    Joints of bodies are first put on the sides that they were on; see `cunet_deploy.tracking.sides`.
    """

    def __init__(self, smoothing: Smoothing | None = None) -> None:
        """Start without objects; ``smoothing`` is as for `OneEuro`."""
        self._smoothing = smoothing or Smoothing()
        self._objects: dict[int, _Followed] = {}

    def update(self, landmarks: Landmarks, time_ms: float) -> Landmarks:
        """The landmarks of a frame, steady, each with its score; boxes and track ids stay."""
        points, scores = landmarks.points.copy(), landmarks.scores.copy()
        for index, track_id in enumerate(landmarks.ids.tolist()):
            known = self._objects.get(track_id)
            if known is None or not known.is_recent(time_ms):
                known = _Followed(OneEuro(self._smoothing), _sides_of(landmarks.skeleton), time_ms)
            if known.sides is not None:
                order = known.sides.update(points[index], _seconds(known.time_ms, time_ms))
                points[index], scores[index] = points[index][order], scores[index][order]
            points[index] = known.steady.update(points[index], time_ms)
            self._objects[track_id] = replace(known, time_ms=time_ms)
        # objects that have left would pile up in a video without end
        self._objects = {i: known for i, known in self._objects.items() if known.is_recent(time_ms)}
        return replace(landmarks, points=points, scores=scores)


@dataclass(frozen=True)
class _Followed:
    """Filters of one object, and when they were last used."""

    steady: OneEuro
    sides: SideConsistency | None
    time_ms: float

    def is_recent(self, time_ms: float) -> bool:
        return 0 <= time_ms - self.time_ms <= _MAX_GAP_MS


def _sides_of(skeleton: Skeleton) -> SideConsistency | None:
    return SideConsistency(skeleton) if has_sides(skeleton) else None


def _seconds(before_ms: float, now_ms: float) -> float:
    return (now_ms - before_ms or ASSUMED_STEP_MS) / 1000


def smooth_track(points: ArrayLike, times_ms: ArrayLike, smoothing: Smoothing | None = None) -> FloatArray:
    """One object's landmarks through a whole clip, filtered forwards and backwards: steady and without lag.

    The mean of a forward and a backward pass; what one is late, the other is early.

    Args:
        points: (T, K, 2).
        times_ms: (T,) rising.
        smoothing: as for `OneEuro`.
    """
    values, times = np.asarray(points, np.float64), np.asarray(times_ms, np.float64)
    if values.ndim != 3 or times.shape != (len(values),):
        raise InputError(f"a track has (T, K, 2) points and (T,) times, got {values.shape} and {times.shape}")
    forward, backward = OneEuro(smoothing), OneEuro(smoothing)
    there = [forward.update(value, time) for value, time in zip(values, times, strict=True)]
    back = [backward.update(value, times[-1] - time) for value, time in zip(values[::-1], times[::-1], strict=True)]
    return np.asarray((np.array(there) + np.array(back[::-1])) / 2).reshape(values.shape)


def smooth_clip(
    frames: Sequence[Landmarks], times_ms: Sequence[float], smoothing: Smoothing | None = None
) -> list[Landmarks]:
    """All objects of a clip through `smooth_track`; where one is away for long, its track starts anew.

    As in `Smoother`, joints of bodies keep their sides, and scores go with their joints.

    Args:
        frames: landmarks of successive frames.
        times_ms: of each frame, rising.
        smoothing: as for `OneEuro`.
    """
    smooth, scores = [frame.points.copy() for frame in frames], [frame.scores.copy() for frame in frames]
    runs: dict[int, list[tuple[int, int]]] = {}  # frame and row of the current run of each object

    def finish(run: list[tuple[int, int]]) -> None:
        sides, before_ms = _sides_of(frames[run[0][0]].skeleton), times_ms[run[0][0]]
        if sides is not None:
            for t, row in run:
                order = sides.update(smooth[t][row], _seconds(before_ms, times_ms[t]))
                smooth[t][row], scores[t][row], before_ms = smooth[t][row][order], scores[t][row][order], times_ms[t]
        track = smooth_track([smooth[t][row] for t, row in run], [times_ms[t] for t, _ in run], smoothing)
        for (t, row), points in zip(run, track, strict=True):
            smooth[t][row] = points

    for t, frame in enumerate(frames):
        for row, track_id in enumerate(frame.ids.tolist()):
            run = runs.setdefault(track_id, [])
            if run and not 0 <= times_ms[t] - times_ms[run[-1][0]] <= _MAX_GAP_MS:
                finish(run)
                run.clear()
            run.append((t, row))
    for run in runs.values():
        finish(run)
    steady = zip(frames, smooth, scores, strict=True)
    return [replace(frame, points=points, scores=own) for frame, points, own in steady]


def _share(cutoff: FloatOrArray, seconds: float) -> FloatOrArray:
    """Weight of a new value in a low pass of this cutoff in Hz."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * seconds))
