"""Surroundings: rooms and landscapes by code or from files, the light from them, and what lies behind a head.

An environment is an equirectangular picture in linear RGB, (H, 2H, 3): the middle column lies behind the camera's
subject, the top row is the zenith.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.errors import InputError
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.scene import Background

__all__ = ["Surroundings", "irradiance"]

Image = NDArray[np.float32]
Rng = np.random.Generator

_HEIGHT = 128
_BUILT_IN = 40
_TURNS = 8
_BRIGHTEST = 60.0
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_BANDS = np.array([np.pi, *[2 * np.pi / 3] * 3, *[np.pi / 4] * 5])  # a cosine lobe's share of each order


def irradiance(image: Image) -> NDArray[np.float64]:
    """(9, 3) coefficients of the light that falls on a diffuse surface, in the order of ``common.glsl``.

    The environment's middle column is the direction -z, away from the camera.
    """
    weights = _cosine_weights(*image.shape[:2])
    sums = weights.reshape(9, -1) @ np.minimum(image, 12.0).reshape(-1, 3)
    return np.asarray(sums, np.float64)


@functools.lru_cache(maxsize=4)
def _cosine_weights(height: int, width: int) -> NDArray[np.float32]:
    """(9, H, W) what each pixel adds to each coefficient."""
    polar = (np.arange(height) + 0.5) / height * np.pi
    around = ((np.arange(width) + 0.5) / width * 2 - 1) * np.pi
    theta, phi = np.meshgrid(polar, around, indexing="ij")
    x, y, z = np.sin(theta) * np.sin(phi), np.cos(theta), -np.sin(theta) * np.cos(phi)
    area = np.sin(theta) * (np.pi / height) * (2 * np.pi / width)
    factors = np.array([0.282095, *[0.488603] * 3, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274])
    shapes = np.stack([np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y])
    return np.asarray(shapes * area * (factors**2 * _BANDS / np.pi)[:, None, None], np.float32)


class Surroundings:
    """All environments and background pictures that a run uses.

    Args:
        options: name the folders; without them environments are drawn by code and there are no pictures.

    Raises:
        InputError: a named folder has no usable file.
    """

    def __init__(self, options: FaceOptions) -> None:
        if options.environments is None:
            self._environments = [_build(number) for number in range(_BUILT_IN)]
        else:
            self._environments = _read_environments(Path(options.environments))
        self._pictures = _list_pictures(Path(options.backgrounds)) if options.backgrounds is not None else []
        self._harmonics: dict[tuple[int, int], NDArray[np.float64]] = {}

    def light(self, share: float, turn: int, tint: float) -> NDArray[np.float64]:
        """(9, 3) coefficients of one environment, of unit brightness; ``tint`` keeps a share of its colour."""
        index = int(share * len(self._environments))
        if (index, turn) not in self._harmonics:
            image = self._environments[index]
            self._harmonics[index, turn] = irradiance(np.roll(image, turn * image.shape[1] // _TURNS, axis=1))
        full = self._harmonics[index, turn]
        grey = full.mean(axis=1, keepdims=True)
        mixed = grey + (full - grey) * tint
        return np.asarray(mixed / max(float(mixed[0].mean()), 1e-6))

    def behind(self, background: Background, share: float, turn: int, size: int) -> Image:
        """(size, size, 3) BGR in [0, 255]: what lies behind the head."""
        rng = np.random.default_rng(background.seed)
        if background.kind == "environment":
            image = _look_into(self._environments[int(share * len(self._environments))], turn, size, rng)
        elif background.kind == "picture" and self._pictures:
            image = _read_picture(self._pictures[int(rng.integers(len(self._pictures)))], size, rng)
        else:
            image = _drawn(size, rng)
        for _ in range(background.clutter):
            _add_shape(image, rng)
        if background.blur > 0:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), max(background.blur * size, 0.1)), np.float32)
        return np.clip(image, 0, 255)


def _look_into(environment: Image, turn: int, size: int, rng: Rng) -> Image:
    """A camera's view into an environment, with a random field of view and a random tilt."""
    half, tilt = rng.uniform(0.3, 1.0), rng.normal(0, 0.25)
    around = turn / _TURNS * 2 * np.pi + rng.normal(0, 0.2)
    line = np.linspace(-half, half, size)
    u, v = np.meshgrid(line, -line)
    d = np.stack([u, v, np.ones_like(u)], axis=-1) / np.sqrt(u * u + v * v + 1)[..., None]
    y = np.cos(tilt) * d[..., 1] + np.sin(tilt) * d[..., 2]
    ahead = np.cos(tilt) * d[..., 2] - np.sin(tilt) * d[..., 1]
    height, width = environment.shape[:2]
    column = ((np.arctan2(d[..., 0], ahead) - around) / (2 * np.pi) + 0.5) % 1.0 * width - 0.5
    row = np.arccos(np.clip(y, -1, 1)) / np.pi * height - 0.5
    wrapped = np.concatenate([environment, environment[:, :1]], axis=1)
    view = cv2.remap(
        wrapped, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    view = view / (np.median(view) + 0.01) * rng.uniform(0.1, 0.6)
    return np.asarray(np.clip(view / (1 + 0.6 * view), 0, 1) ** (1 / 2.2) * 255, np.float32)[..., ::-1].copy()


def _drawn(size: int, rng: Rng) -> Image:
    """A plain or cloudy backdrop."""
    image = np.zeros((size, size, 3), np.float32) + rng.normal(120, 60) + rng.normal(0, 25, 3).astype(np.float32)
    slope = rng.normal(0, 1, 2)
    line = np.linspace(-1, 1, size)
    gradient = line[:, None] * slope[0] + line[None] * slope[1]
    image += (gradient[..., None] * rng.normal(0, 40, 3)).astype(np.float32)
    for grain in (4, 16, 64):
        used, channels, strength = rng.random() < 0.5, 3 if rng.random() < 0.2 else 1, rng.uniform(5, 30)
        count = size // grain + 2
        rough = rng.normal(0, 1, (count, count, channels)).astype(np.float32)
        if used:
            cloud = cv2.resize(rough, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, channels)
            image += np.asarray(cloud * strength, np.float32)
    return image


def _add_shape(image: Image, rng: Rng) -> None:
    """A rectangle, disc, line or polygon somewhere."""
    size = image.shape[0]
    colour = tuple(float(c) for c in np.clip(rng.normal(120, 70) + rng.normal(0, 30, 3), 0, 255))
    a, b = (rng.integers(-size // 6, size + size // 6, 2) for _ in range(2))
    kind, width = int(rng.integers(4)), int(rng.integers(1, max(2, size // 16)))
    corners = rng.integers(-size // 10, size + size // 10, (int(rng.integers(3, 6)), 2)).astype(np.int32)
    start, end = (int(a[0]), int(a[1])), (int(b[0]), int(b[1]))
    if kind == 0:
        cv2.rectangle(image, start, end, colour, -1)
    elif kind == 1:
        cv2.circle(image, start, int(rng.integers(size // 40 + 1, size // 3)), colour, -1, cv2.LINE_AA)
    elif kind == 2:
        cv2.line(image, start, end, colour, width, cv2.LINE_AA)
    else:
        cv2.fillPoly(image, [corners], colour)


def _read_picture(path: Path, size: int, rng: Rng) -> Image:
    """A random square of a picture."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: cannot be read as a picture; remove it, or repair it")
    side = max(1, int(min(image.shape[:2]) * rng.uniform(0.4, 1.0)))
    x, y = (int(rng.integers(0, extent - side + 1)) for extent in (image.shape[1], image.shape[0]))
    crop = image[y : y + side, x : x + side]
    return np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), np.float32)


def _list_pictures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not found:
        raise InputError(f"{folder}: holds no picture; expected {', '.join(_PICTURES)}")
    return found


def _read_environments(folder: Path) -> list[Image]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".exr", ".hdr"))
    if not found:
        raise InputError(f"{folder}: holds no .exr or .hdr file; leave the environments out for drawn ones")
    images = []
    for path in found:
        image = _read_exr(path) if path.suffix.lower() == ".exr" else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 3 or image.shape[1] != 2 * image.shape[0]:
            raise InputError(f"{path}: is not a colour picture twice as wide as high; remove it, or convert it")
        if path.suffix.lower() == ".hdr":
            image = image[..., ::-1]
        resized = cv2.resize(
            np.asarray(image[..., :3], np.float32), (4 * _HEIGHT, 2 * _HEIGHT), interpolation=cv2.INTER_AREA
        )
        images.append(np.clip(np.nan_to_num(resized), 0, _BRIGHTEST).astype(np.float32))
    return images


def _read_exr(path: Path) -> Image:
    """RGB of an OpenEXR file; OpenCV lacks some of the format's compressions."""
    library = require("OpenEXR", "synth")
    try:
        with library.File(str(path)) as file:
            channels = file.channels()
            if "RGB" in channels or "RGBA" in channels:
                return np.asarray((channels.get("RGB") or channels.get("RGBA")).pixels[..., :3], np.float32)
            return np.stack([np.asarray(channels[name].pixels, np.float32) for name in "RGB"], axis=-1)
    except (RuntimeError, KeyError, OSError) as error:
        raise InputError(f"{path}: cannot be read as OpenEXR ({error}); remove it, or convert it") from error


def _build(number: int) -> Image:
    """An environment by code: a third are landscapes, the rest rooms with windows and lamps."""
    rng = np.random.default_rng([77, number])
    return _landscape(rng) if number % 3 == 0 else _room(rng)


def _landscape(rng: Rng) -> Image:
    """Sky with a sun, hills, trees or houses, ground."""
    height, width = _HEIGHT, 2 * _HEIGHT
    up = np.linspace(1, -1, height)[:, None, None]
    zenith, horizon = (
        rng.uniform(0.2, 0.7) * np.array([0.55, 0.75, 1.0]),
        rng.uniform(0.6, 1.2) * np.array([1.0, 0.97, 0.92]),
    )
    image = (horizon + (zenith - horizon) * np.clip(up, 0, 1) ** 0.6) * np.ones((1, width, 1))
    image += _cloudy(rng, height, width, (5, 12)) * 0.5 * np.clip(up * 3, 0, 1)
    ground = rng.uniform(0.05, 0.35, 3) * [1.0, 1.0, 0.7]
    skyline = height * (0.5 - 0.12 * np.abs(_cloudy(rng, 1, width, (1, int(rng.integers(5, 30))))[0, :, 0]))
    below = np.arange(height)[:, None] > skyline[None]
    rough = 1 + 0.6 * _cloudy(rng, height, width, (24, 48))
    dark = np.where((np.arange(height) > height * 0.55)[:, None, None], ground, ground * rng.uniform(0.2, 0.8))
    image = np.where(below[..., None], dark * rough, image)
    if rng.random() < 0.6:
        _glow(image, rng, float(rng.uniform(20, 60)), 3.0, (0.1, 0.45))
    return np.clip(image, 0.005, _BRIGHTEST).astype(np.float32)


def _room(rng: Rng) -> Image:
    """Ceiling, walls with pictures, doors and furniture, floor; windows and lamps that shine."""
    height, width = _HEIGHT, 2 * _HEIGHT
    wall = rng.uniform(0.15, 0.8) * (1 + rng.normal(0, 0.12, 3))
    image = np.ones((height, width, 3)) * wall
    floor, ceiling = int(height * rng.uniform(0.58, 0.72)), int(height * rng.uniform(0.22, 0.36))
    image[floor:] = rng.uniform(0.05, 0.4) * (1 + rng.normal(0, 0.2, 3))
    image[:ceiling] = rng.uniform(0.4, 0.9) * (1 + rng.normal(0, 0.05, 3))
    for _ in range(int(rng.integers(4, 22))):
        x, y = int(rng.integers(0, width)), int(rng.integers(ceiling, height - 20))
        w, h = int(rng.integers(3, 40)), int(rng.integers(3, 45))
        piece = rng.uniform(0.02, 0.7) * (1 + rng.normal(0, 0.25, 3))
        for start in (x, x - width):  # things go around the seam
            image[y : y + h, max(start, 0) : max(start + w, 0)] = piece
    image *= 1 + 0.25 * _cloudy(rng, height, width, (8, 16))
    for _ in range(int(rng.integers(0, 4))):
        x, y, w, h = (
            int(rng.integers(*limits)) for limits in ((0, width - 40), (ceiling, floor - 8), (8, 40), (8, 40))
        )
        image[y : min(y + h, floor), x : x + w] = rng.uniform(2, 12) * (1 + rng.normal(0, 0.08, 3))
        image[y : min(y + h, floor), x + w // 2 : x + w // 2 + 1] = 0.2
    for _ in range(int(rng.integers(1, 6))):
        _glow(image, rng, float(rng.uniform(8, 40)), float(rng.uniform(1.5, 5)), (0.02, 0.4))
    return np.clip(image, 0.005, _BRIGHTEST).astype(np.float32)


def _cloudy(rng: Rng, height: int, width: int, cells: tuple[int, int]) -> NDArray[np.float64]:
    """(height, width, 1) smooth noise of unit size."""
    rough = rng.normal(0, 1, cells).astype(np.float32)
    resize: Callable[..., Any] = cv2.resize
    return np.asarray(resize(rough, (width, height), interpolation=cv2.INTER_CUBIC), np.float64).reshape(
        height, width, 1
    )


def _glow(image: NDArray[np.float64], rng: Rng, strength: float, radius: float, band: tuple[float, float]) -> None:
    """Add a lamp or a sun at a random azimuth within a band of heights."""
    height, width = image.shape[:2]
    x, y = rng.uniform(0, width), rng.uniform(*band) * height
    rows, columns = np.arange(height)[:, None] - y, np.arange(width)[None] - x
    columns = (columns + width / 2) % width - width / 2
    colour = strength * (1 + rng.normal(0, 0.12, 3))
    image += np.exp(-(rows**2 + columns**2) / (2 * radius**2))[..., None] * colour
