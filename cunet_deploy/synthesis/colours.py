"""Colours of surfaces: linear RGB, each from 0.003 to 1."""

from __future__ import annotations

import numpy as np

__all__ = ["Colour", "cloth_colour", "to_colour"]

Rng = np.random.Generator
Colour = tuple[float, float, float]


def to_colour(values: object) -> Colour:
    """A colour of three numbers, kept within what surfaces can have."""
    red, green, blue = np.clip(np.asarray(values, np.float64), 0.003, 1.0)
    return float(red), float(green), float(blue)


def cloth_colour(rng: Rng) -> Colour:
    """A colour of cloth: mostly muted, some white, black or bright."""
    kind, value, tint = rng.random(), rng.uniform(0, 1), rng.uniform(0, 1, 3)
    if kind < 0.25:
        return to_colour(np.full(3, 0.004 + 0.04 * value))
    if kind < 0.4:
        return to_colour(np.full(3, 0.6 + 0.3 * value) * (0.95 + 0.05 * tint))
    strength = 0.25 if kind < 0.8 else 0.9
    return to_colour((0.05 + 0.6 * value) * (1 - strength + strength * tint))
