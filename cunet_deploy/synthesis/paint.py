"""Paint on the face: brows, lids, wrinkles, freckles, stubble, in the front view of the rest pose."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.appearance import Appearance, Beard, Brow
from cunet_deploy.synthesis.landmarks import BrowLine
from cunet_deploy.synthesis.people import Person

__all__ = ["beard_mask", "brow_line", "paint_face"]

Image = NDArray[np.float32]
Doubles = NDArray[np.float64]

_SIDE = 384
_MASK_SIDE = 128
_LEFT, _BOTTOM, _WIDTH, _HEIGHT = -0.9, 6.0, 1.8, 2.2  # the painted area; the shaders know it too
_LIPS = (0.0, 6.615)


def _to_pixels(points: Doubles, side: int) -> NDArray[np.int32]:
    """Places of the front view as pixels, row 0 at the bottom."""
    scaled = (np.asarray(points, np.float64) - [_LEFT, _BOTTOM]) / [_WIDTH, _HEIGHT] * side
    return np.round(scaled).astype(np.int32)


class _Canvas:
    """Colours (square roots of linear ones) and their opacity."""

    def __init__(self) -> None:
        self.rgb = np.zeros((_SIDE, _SIDE, 3), np.float32)
        self.alpha = np.zeros((_SIDE, _SIDE), np.float32)

    def blend(self, colour: object, mask: Image, x: int = 0, y: int = 0) -> None:
        """Paint a linear colour through a mask whose first pixel lies at (x, y)."""
        window = slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1])
        root = np.sqrt(np.clip(np.asarray(colour, np.float32), 0, 1))
        self.rgb[window] += (root - self.rgb[window]) * mask[..., None]
        self.alpha[window] = 1 - (1 - self.alpha[window]) * (1 - mask)

    def spot(
        self, colour: object, centre: tuple[float, float], radii: tuple[float, float], blur: float, strength: float
    ) -> None:
        """A soft ellipse; radii and blur in pixels of the canvas."""
        if strength <= 0.01:
            return
        reach = int(max(radii) + 3 * blur) + 1
        at = _to_pixels(np.array(centre), _SIDE)
        x, y = (int(np.clip(v - reach, 0, _SIDE - 2 * reach - 1)) for v in at)
        mask = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        axes = (max(1, round(radii[0])), max(1, round(radii[1])))
        cv2.ellipse(mask, (int(at[0]) - x, int(at[1]) - y), axes, 0, 0, 360, 1.0, -1)
        self.blend(colour, np.asarray(cv2.GaussianBlur(mask, (0, 0), blur), np.float32) * strength, x, y)

    def line(self, colour: object, points: Doubles, width: int, blur: float, strength: float) -> None:
        """A soft line through places of the front view."""
        if strength <= 0.01:
            return
        at = _to_pixels(points, _SIDE)
        margin = width + int(3 * blur) + 1
        low = np.clip(at.min(axis=0) - margin, 0, _SIDE - 1)
        high = np.clip(at.max(axis=0) + margin, low + 1, _SIDE)
        mask = np.zeros((int(high[1] - low[1]), int(high[0] - low[0])), np.float32)
        cv2.polylines(mask, [at - low], False, 1.0, width, cv2.LINE_AA)
        soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), blur), np.float32)
        self.blend(colour, soft * strength, int(low[0]), int(low[1]))

    def finish(self) -> NDArray[np.uint8]:
        """(H, W, 4) uint8 RGBA, bottom row first."""
        rgb = np.clip(self.rgb / np.maximum(self.alpha[..., None], 1e-4), 0, 1)
        return (np.concatenate([rgb, self.alpha[..., None]], axis=2) * 255).astype(np.uint8)


def brow_line(brow: Brow, x: Doubles, y: Doubles) -> BrowLine:
    """The usual brow's middle line, moved and bent."""
    dx = np.array([-brow.outer, -0.6 * brow.outer, 0.0, 0.5 * brow.inner, brow.inner])
    dy = brow.lift + brow.arch * np.array([-0.6, 0.6, 1, 0.3, -0.6]) + brow.slope * np.array([1, 0.5, 0, -0.5, -1])
    return BrowLine(x + dx, y + dy, brow.width)


def paint_face(appearance: Appearance, person: Person, brow: BrowLine, beard: Image, seed: int) -> NDArray[np.uint8]:
    """Everything painted, as (H, W, 4) uint8 RGBA with the bottom row first; RGB are square roots of linear values.

    Args:
        appearance: colours and strengths.
        person: age decides the wrinkles.
        brow: where the brows are.
        beard: see `beard_mask`.
        seed: of single hairs and freckles.
    """
    rng = np.random.default_rng(seed)
    canvas = _Canvas()
    skin = np.asarray(appearance.skin.colour)
    for side in (-1.0, 1.0):
        canvas.spot(skin * [0.62, 0.5, 0.5], (side * 0.31, 7.13), (36.0, 13.0), 7.0, 0.4 * appearance.skin.wrinkles)
        canvas.spot(appearance.skin.lips, (side * 0.31, 7.36), (37.0, 13.0), 5.0, appearance.skin.eyeshadow)
        angle = np.linspace(0, 2 * np.pi, 24)
        ring = np.stack([side * 0.315 + 0.127 * np.cos(angle), 7.278 + 0.064 * np.sin(angle)], axis=1)
        canvas.line(skin * 0.25, ring, 2, 1.2, appearance.skin.eyeliner)
    _wrinkles(canvas, skin, appearance.skin.wrinkles, float(np.clip((person.age - 0.55) / 0.4, 0, 1)), rng)
    for _ in range(appearance.skin.freckles):
        place, shade = (float(rng.normal(0, 0.35)), float(rng.uniform(6.5, 7.7))), float(rng.uniform(0.3, 0.8))
        if abs(place[0]) < 0.8:
            canvas.spot(skin * [0.5, 0.35, 0.3], place, (1.0, 1.0), 0.6, shade)
    if appearance.beard.kind != "none":
        _stubble(canvas, appearance.beard, skin, beard, rng)
    for side in (-1.0, 1.0):
        _paint_brow(canvas, appearance.brow, brow, side, rng)
    return canvas.finish()


def _wrinkles(canvas: _Canvas, skin: Doubles, strength: float, old: float, rng: np.random.Generator) -> None:
    colour = skin * [0.5, 0.38, 0.35]
    for side in (-1.0, 1.0):
        fold = np.array([[0.17, 6.93], [0.25, 6.83], [0.31, 6.72], [0.335, 6.60]]) * [side, 1]
        canvas.line(colour, fold, 4, 3.0, 0.7 * strength)
        for k in range(3):
            crow = np.array([[side * 0.50, 7.28 - 0.03 * k], [side * 0.62, 7.31 - 0.06 * k]])
            canvas.line(colour, crow, 2, 1.5, 0.5 * old)
        bag = np.array([[0.17, 7.2], [0.27, 7.12], [0.38, 7.13]]) * [side, 1]
        canvas.line(colour, bag, 2, 1.5, 0.5 * old)
    forehead = rng.uniform(0.1, 0.5, 3) * (old if old > 0.1 else 0.25 * (rng.random() < 0.15))
    for k, amount in enumerate(forehead):
        y = 7.68 + 0.1 * k + float(rng.normal(0, 0.01))
        lines = np.array([[-0.35, y], [-0.15, y + 0.02], [0.15, y + 0.02], [0.35, y]])
        canvas.line(colour, lines, 2, 2.0, float(amount))


def beard_mask(beard: Beard) -> Image:
    """(128, 128) where hair grows on the face, in [0, 1], bottom row first."""
    mask = np.zeros((_MASK_SIDE, _MASK_SIDE), np.float32)

    def fill(points: list[tuple[float, float]], value: float = 1.0) -> None:
        cv2.fillPoly(mask, [_to_pixels(np.array(points), _MASK_SIDE)], value)

    up = beard.cheek
    if beard.kind in ("stubble", "full"):
        left = [(-0.9, 7.05), (-0.66, 7.0), (-0.5, 6.75 + up), (-0.30, 6.74 + up), (-0.2, 6.80), (0.0, 6.775)]
        right = [(-x, y) for x, y in left[-2::-1]]
        fill([*left, *right, (0.9, 6.0), (-0.9, 6.0)])
        if up > 0.05:  # no moustache
            fill([(-0.3, 6.86), (0.3, 6.86), (0.28, 6.7), (-0.28, 6.7)], 0.0)
    elif beard.kind == "goatee":
        chin = _to_pixels(np.array([0.0, 6.33]), _MASK_SIDE)
        cv2.ellipse(mask, (int(chin[0]), int(chin[1])), (18, 13), 0, 0, 360, 1.0, -1)
        if up > -0.03:
            side = [(-0.32, 6.62), (-0.2, 6.80), (0.0, 6.77), (0.2, 6.80), (0.32, 6.62)]
            fill([*side, (0.28, 6.3), (-0.28, 6.3)])
    elif beard.kind == "moustache":
        top = [(-0.33, 6.6), (-0.2, 6.79), (0.0, 6.77), (0.2, 6.79), (0.33, 6.6)]
        fill([*top, (0.2, 6.68), (0.0, 6.69), (-0.2, 6.68)])
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), beard.soft), np.float32)


def _stubble(canvas: _Canvas, beard: Beard, skin: Doubles, mask: Image, rng: np.random.Generator) -> None:
    full = np.asarray(cv2.resize(mask, (_SIDE, _SIDE)), np.float32)
    grain = cv2.GaussianBlur(rng.random((_SIDE, _SIDE), np.float32), (0, 0), 0.8)
    grain = (grain - grain.mean()) / grain.std() * 0.25 + 0.6
    free = np.ones((_SIDE, _SIDE), np.float32)
    lips = _to_pixels(np.array(_LIPS), _SIDE)
    cv2.ellipse(free, (int(lips[0]), int(lips[1])), (56, 20), 0, 0, 360, 0.0, -1)
    free = np.asarray(cv2.GaussianBlur(free, (0, 0), 2.5), np.float32)
    colour = np.asarray(beard.colour) * 0.75 + skin * 0.08
    canvas.blend(colour, np.clip(full * grain * free * beard.density, 0, 0.92).astype(np.float32))


def _paint_brow(canvas: _Canvas, brow: Brow, line: BrowLine, side: float, rng: np.random.Generator) -> None:
    """Single hairs along the middle line, thinner and flatter towards the tail."""
    path = line.sample(40)
    low = np.maximum(_to_pixels(path.min(axis=0) - 0.12, _SIDE), 0)
    width, height = _to_pixels(path.max(axis=0) + 0.12, _SIDE) - low
    mask = np.zeros((int(height), int(width)), np.float32)
    count = int(50 + 120 * brow.density)
    at = rng.integers(0, len(path), count)
    inward = at / (len(path) - 1)  # 0 at the tail, 1 at the head
    thick = brow.width * np.clip(np.minimum(0.35 + inward * 1.3, 1.0), 0, 1.2)
    root = path[at] + np.stack([rng.normal(0, 0.008, count), rng.uniform(-0.62, 0.38, count) * thick], axis=1)
    angle = np.radians(np.where(inward > 0.75, rng.normal(75, 18, count), rng.normal(30, 14, count)))
    length = rng.uniform(0.025, 0.06, count)
    tips = root + np.stack([-length * np.cos(angle), 0.6 * length * np.sin(angle)], axis=1)
    widths = rng.integers(1, 3, count)
    for start, end, stroke in zip(_to_pixels(root, _SIDE) - low, _to_pixels(tips, _SIDE) - low, widths, strict=True):
        a, b = (int(start[0]), int(start[1])), (int(end[0]), int(end[1]))
        cv2.line(mask, a, b, 1.0, int(stroke), cv2.LINE_AA)
    soft = cv2.GaussianBlur(mask, (0, 0), 2.2)
    sharp, smooth = 0.35 + 0.45 * brow.density, 0.25 + 0.5 * brow.density
    hairs = np.clip((mask * sharp + soft * smooth) * (0.35 + 0.6 * brow.density), 0, 0.97).astype(np.float32)
    x = int(low[0])
    if side > 0:
        hairs, x = np.ascontiguousarray(hairs[:, ::-1]), _SIDE - x - hairs.shape[1]
    canvas.blend(brow.colour, hairs, x, int(low[1]))
