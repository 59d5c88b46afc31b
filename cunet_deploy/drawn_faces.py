"""Drawn faces: pictures that may be shipped and are the same everywhere, for self-tests."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.preprocess import shrink

__all__ = ["drawn_faces"]


def drawn_faces(size: int, count: int) -> NDArray[np.uint8]:
    """(count, size, size, 3) BGR uint8 drawings of one face each, the same on every call."""
    return np.stack([_drawing(np.random.default_rng(index), size) for index in range(count)])


def _drawing(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A face of ellipses on a soft background, at four times the size and averaged down."""
    side = 4 * size
    background = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = np.array(shrink(background, side, side))
    x, y = (0.5 + rng.uniform(-0.06, 0.06, 2)) * side
    radius, turn = side * rng.uniform(0.3, 0.4), float(rng.uniform(-20, 20))
    skin = rng.uniform(0.5, 1) * np.array([150.0, 180.0, 230.0])

    def ellipse(dx: float, dy: float, rx: float, ry: float, colour: NDArray[np.float64]) -> None:
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        center = (round(x + radius * (dx * cos - dy * sin)), round(y + radius * (dx * sin + dy * cos)))
        axes = (max(1, round(rx * radius)), max(1, round(ry * radius)))
        cv2.ellipse(image, center, axes, turn, 0, 360, tuple(float(c) for c in colour), -1, cv2.LINE_AA)

    ellipse(0, 0, 0.8, 1.05, skin)
    for eye in (-0.35, 0.35):
        ellipse(eye, -0.42, 0.2, 0.045, skin * 0.3)
        ellipse(eye, -0.2, 0.15, 0.08, np.full(3, 240.0))
        ellipse(eye, -0.2, 0.06, 0.06, np.full(3, 40.0))
    ellipse(0, 0.12, 0.1, 0.22, skin * 0.85)
    ellipse(0, 0.52, 0.3, 0.1, skin * np.array([0.6, 0.5, 0.8]))
    ellipse(0, 0.52, 0.24, 0.02, skin * 0.3)
    noise = rng.normal(0, 6, (size, size, 3))
    small = shrink(image, size, size).astype(np.float64)
    return (small + noise).round().clip(0, 255).astype(np.uint8)
