"""A clock for tests of what is timed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass
class Clock:
    """Time passes only where a test lets it."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now
