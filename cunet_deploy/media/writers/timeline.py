"""Times at which the frames of a written video are shown."""

from __future__ import annotations

import math

__all__ = ["Clock", "Timeline"]

_LONGEST_GAP_MS = 60_000.0
"""A longer one is a clock that jumped, or a source that was away: it is not shown."""


class Clock:
    """Times of frames in a video whose frames last as long as they did: those of the source, always growing."""

    def __init__(self, fps: float) -> None:
        """Start.

        Args:
            fps: of frames whose times say nothing.
        """
        self._step = 1000 / fps
        self._last = -math.inf
        self._skipped = 0.0

    def add(self, time_ms: float) -> float:
        """Take a frame of this time; returns when it is shown, in milliseconds from the start of the video."""
        shown = max(time_ms, 0.0) - self._skipped
        if shown > max(self._last, 0.0) + _LONGEST_GAP_MS:
            self._skipped += shown - max(self._last, 0.0) - self._step
            shown = max(self._last, 0.0) + self._step
        elif shown <= self._last:
            self._skipped -= self._last + self._step - shown
            shown = self._last + self._step
        self._last = shown
        return shown


class Timeline:
    """Resampling of frames with times of their own to a constant rate, at the original speed.

    A gap is filled by showing the frame before it longer, up to a minute. Frames that come faster than the rate are
    left out.
    """

    def __init__(self, fps: float) -> None:
        """Start a video of that many frames per second."""
        self._fps = fps
        self._begun = 0.0
        self._shown = 0

    def add(self, time_ms: float) -> tuple[int, int]:
        """For the frame of this time: how often to show the one before once more, and then this one, 0 or 1."""
        again = round((time_ms - self._begun) * self._fps / 1000) - self._shown
        if again > _LONGEST_GAP_MS / 1000 * self._fps:
            self._begun = time_ms - self._shown * 1000 / self._fps
            again = 0
        if again < 0:
            return 0, 0
        self._shown += again + 1
        return again, 1
