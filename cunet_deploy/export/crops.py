"""Crops for calibration, parity and golden inputs: of the user's photos, or drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.batches import plain_batches
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.ibug import IMAGE_SUFFIXES, read_300w
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import Crop, CropRule
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import read_image
from cunet_deploy.runtime.preprocess import sample

__all__ = ["crops_of_folder", "drawn_crops"]


def crops_of_folder(folder: Path, manifest: Manifest, limit: int) -> NDArray[np.uint8]:
    """Up to ``limit`` crops of a folder, evenly spread over its files in order of name.

    A folder with ``.pts`` files gives crops of the labelled boxes. In any other each picture is taken as showing one
    object that fills it: its middle square is the crop.

    Returns:
        (N, size, size, 3) uint8.

    Raises:
        InputError: the folder is missing or holds no picture, or one that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; expected photos, with .pts files beside them or cropped already")
    rule = CropRule(manifest.crop.size, manifest.crop.padding)
    if next(folder.glob("*.pts"), None) is not None:
        examples = _spread(read_300w(folder, len(manifest.skeleton)), limit)
        return np.concatenate([batch.images for batch in plain_batches(examples, rule, PhotoCache(0), size=32)])
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: holds no picture ({', '.join(IMAGE_SUFFIXES)})")
    return np.stack([_middle(read_image(path), rule) for path in _spread(paths, limit)])


def _spread(items: list[Example] | list[Path], limit: int) -> list:  # type: ignore[type-arg]
    """Up to ``limit`` items at even distances."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int))
    return [items[index] for index in chosen]


def _middle(image: NDArray[np.uint8], rule: CropRule) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    return sample(image, Crop(((width - 1) / 2, (height - 1) / 2), float(min(height, width)), rule.size))


def drawn_crops(manifest: Manifest, count: int) -> NDArray[np.uint8]:
    """Drawings of faces, the same on every call: inputs that may be shipped, for self-tests.

    Returns:
        (count, size, size, 3) uint8.
    """
    return np.stack([_drawing(np.random.default_rng(index), manifest.crop.size) for index in range(count)])


def _drawing(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A face of ellipses on a soft background, at four times the size and averaged down."""
    side = 4 * size
    background = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(background, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
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
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.float64)
    return (small + noise).round().clip(0, 255).astype(np.uint8)
