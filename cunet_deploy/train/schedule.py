"""Learning rate as a pure function of progress: nothing to save, nothing to restore."""

from __future__ import annotations

import math

__all__ = ["cosine", "one_cycle"]


def one_cycle(progress: float, peak: float, warmup: float = 0.15) -> float:
    """Rise along a cosine from peak / 25 over the first ``warmup`` share, then fall along a cosine to nearly zero.

    Args:
        progress: share of the steps done, in [0, 1].
        peak: highest rate.
        warmup: share of the steps in which the rate rises.
    """
    low, end = peak / 25, peak / 1e4
    if progress < warmup:
        return low + (peak - low) * (1 - math.cos(math.pi * progress / warmup)) / 2
    return end + (peak - end) * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def cosine(progress: float, peak: float) -> float:
    """Fall along a cosine from ``peak`` to nearly zero."""
    return one_cycle(progress, peak, warmup=0.0)
