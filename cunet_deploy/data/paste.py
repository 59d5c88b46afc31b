"""Pieces of other training photos in a crop: somebody else beside the object, or something in front of it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.examples import Example
from cunet_deploy.geometry import Crop, CropRule
from cunet_deploy.preprocess import sample

__all__ = ["Donor", "paste_object", "paste_piece"]

Donor = Callable[[np.random.Generator], tuple[Example, NDArray[np.uint8]]]
"""Draws another training example, with its photo."""

Pasted = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""(S, S, 3) crop, and (S, S) where something else covers it."""

_SOFT = 1 / 80
"""Standard deviation of the edge of a piece, in sides of the crop."""


def paste_object(
    image: NDArray[np.uint8], example: Example, photo: NDArray[np.uint8], rule: CropRule, rng: np.random.Generator
) -> Pasted:
    """Paste another object beside the middle, about as large as the one that is there, in the shape of an ellipse.

    Args:
        image: (S, S, 3) crop.
        example: the other object.
        photo: its photo.
        rule: of the crop.
        rng: decides place and size.

    Returns:
        The crop, and where the other object is.
    """
    size, own = len(image), rule.crop(example.box)
    scale = float(rng.uniform(0.75, 1.3))
    across = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.25, 0.6))
    down = float(rng.uniform(-0.15, 0.15))
    side = own.side * scale
    crop = Crop((own.center[0] - across * side, own.center[1] - down * side), side, size)
    corners = crop.to_input(example.box.reshape(2, 2))
    half = (corners[1] - corners[0]) / 2 * (1.1, 1.05)
    # a thin box is that of somebody seen from the side, whose trunk is wider than the line of the joints
    half = np.maximum(half, half.max() / 4)
    return _mix(image, sample(photo, crop), _ellipse(size, corners.mean(axis=0), half, 0.0))


def paste_piece(
    image: NDArray[np.uint8], points: NDArray[np.float64], photo: NDArray[np.uint8], rng: np.random.Generator
) -> Pasted:
    """Paste a piece of another photo over a part of the object: an ellipse or a bar, turned at random.

    Args:
        image: (S, S, 3) crop.
        points: (K, 2) landmarks in it, which say where the object is; NaN: not labelled.
        photo: the other photo.
        rng: decides place, size and shape.

    Returns:
        The crop, and where the piece is.
    """
    size, (height, width) = len(image), photo.shape[:2]
    side = float(min(height, width) * rng.uniform(0.3, 1.0))
    x, y = (float(rng.uniform(side / 2, length - side / 2)) - 0.5 for length in (width, height))
    crop = Crop((x, y), side, size)
    seen = points[np.isfinite(points).all(axis=1)]
    place = seen[int(rng.integers(len(seen)))] if len(seen) else np.full(2, (size - 1) / 2)
    place = place + rng.normal(0, size / 16, 2)
    half = size * (rng.uniform(0.06, 0.22, 2) if rng.random() < 0.7 else np.array([rng.uniform(0.02, 0.06), size]))
    return _mix(image, sample(photo, crop), _ellipse(size, place, half, float(rng.uniform(0, 180))))


def _ellipse(size: int, center: NDArray[np.float64], half: NDArray[np.float64], angle: float) -> NDArray[np.float32]:
    """(S, S) 1 inside and 0 outside, with a soft edge."""
    mask = np.zeros((size, size), np.float32)
    axes = np.clip(half, 1, 2 * size).round().astype(int).tolist()
    cv2.ellipse(mask, np.clip(center, -size, 2 * size).round().astype(int).tolist(), axes, angle, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(size * _SOFT, 0.5)), np.float32)


def _mix(image: NDArray[np.uint8], other: NDArray[np.uint8], mask: NDArray[np.float32]) -> Pasted:
    share = mask[..., None]
    mixed = (image * (1 - share) + other * share).round().clip(0, 255).astype(np.uint8)
    return mixed, mask > 0.5
