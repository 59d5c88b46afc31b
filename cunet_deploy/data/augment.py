"""Random crops of labelled photos: geometry first, then colour, then occlusion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.config import AugmentConfig
from cunet_deploy.data.examples import Example
from cunet_deploy.data.paste import Donor, paste_object, paste_piece
from cunet_deploy.geometry import Crop, CropRule
from cunet_deploy.preprocess import sample, shrink
from cunet_deploy.skeletons import Skeleton

__all__ = ["NOWHERE", "Augmenter", "Colours", "Drawn", "background_square"]

NOWHERE = np.inf
"""Coordinate of a landmark that is known not to be in the crop: its target is an empty map, unlike NaN (unlabelled)."""

_CUT_SIDES = {"bottom": 0.6, "left": 0.15, "right": 0.15, "top": 0.1}
"""Share of the cuts at each side of the object: mostly below, as in portraits."""
_BESIDE, _WHOLE = (0.1, 0.6), (0.3, 1.0)
"""Sides of background squares in shorter sides of the photo: beside objects, and where it shows none."""
_LEAST_LEFT = 4
"""Landmarks that a cut leaves at least; with fewer nobody could say where the others were."""


class Drawn(NamedTuple):
    """A random crop and its labels.

    Attributes:
        image: (S, S, 3) BGR uint8.
        points: (K, 2) input coordinates; all `NOWHERE` in a background crop.
        weights: (K,) how much each label counts.
        visible: (K,) 1 where a landmark is seen, 0 where something hides it, NaN where that is not known.
    """

    image: NDArray[np.uint8]
    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    visible: NDArray[np.float64]


@dataclass(frozen=True)
class Augmenter:
    """Draws training crops.

    Attributes:
        config: how much of what.
        rule: crop of a box without augmentation.
        skeleton: which landmarks trade places in a mirror image.
    """

    config: AugmentConfig
    rule: CropRule
    skeleton: Skeleton

    def draw(
        self, example: Example, photo: NDArray[np.uint8], rng: np.random.Generator, donor: Donor | None = None
    ) -> Drawn:
        """One random crop.

        Args:
            example: the object.
            photo: that it is in.
            rng: decides everything; what is turned off takes no random number, so that it changes nothing else.
            donor: gives other objects for ``people`` and ``objects``; ``None``: there are none.
        """
        gone = np.zeros(len(example.points), np.bool_)
        if _by_chance(self.config.cut, rng):
            example, photo, gone = _cut(example, photo, rng)
        negative = rng.random() < self.config.negative and example.exhaustive
        beside = np.concatenate([example.others, example.box[None]])
        background = background_square(photo, beside, self.rule.size, rng, _BESIDE) if negative else None
        crop = background or self._around(example, rng)
        image = sample(photo, crop)
        points = crop.to_input(example.points) if background is None else np.full_like(example.points, NOWHERE)
        points[gone] = NOWHERE
        weights = np.ones(len(points)) if example.weights is None or background is not None else example.weights
        visible = np.ones(len(points)) if example.visible is None else example.visible
        if donor is not None and background is None:
            image, visible = self._paste(image, points, visible, example, donor, rng)
        if rng.random() < self.config.flip:
            image, order = np.ascontiguousarray(image[:, ::-1]), self.skeleton.flip_order
            points, weights, visible = points[order], weights[order], visible[order]
            points[:, 0] = crop.size - 1 - points[:, 0]
            points[np.isinf(points)] = NOWHERE
        image, covered = Colours(self.config).change_and_cover(image, rng)
        if covered is not None:
            visible = np.where(((points > covered[:2]) & (points < covered[2:])).all(axis=1), 0.0, visible)
        return Drawn(image, points, weights, visible)

    def draw_background(
        self, unknown: NDArray[np.float64], photo: NDArray[np.uint8], rng: np.random.Generator
    ) -> Drawn | None:
        """One random crop of a photo without objects.

        Args:
            unknown: (N, 4) boxes of the photo in which there may be some.
            photo: its pixels.
            rng: decides everything.

        Returns:
            The crop, all landmarks `NOWHERE`; ``None`` when ten draws found no place for one.
        """
        crop = background_square(photo, unknown, self.rule.size, rng, _WHOLE)
        if crop is None:
            return None
        image, count = sample(photo, crop), len(self.skeleton)
        if rng.random() < self.config.flip:
            image = np.ascontiguousarray(image[:, ::-1])
        image = Colours(self.config).change(image, rng)
        return Drawn(image, np.full((count, 2), NOWHERE), np.ones(count), np.ones(count))

    def _paste(
        self,
        image: NDArray[np.uint8],
        points: NDArray[np.float64],
        visible: NDArray[np.float64],
        example: Example,
        donor: Donor,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The crop with pieces of other photos in it, and (K,) which landmarks are seen then."""
        for share, paste_people in ((self.config.people, True), (self.config.objects, False)):
            if not _by_chance(share, rng):
                continue
            other, photo = donor(rng)
            if other.photo == example.photo:
                continue
            if paste_people:
                image, covered = paste_object(image, other, photo, self.rule, rng)
            else:
                image, covered = paste_piece(image, points, photo, rng)
            inside = np.asarray(((points > -0.5) & (points < len(image) - 0.5)).all(axis=1))
            columns, rows = np.where(inside[:, None], points, 0).round().astype(int).T
            visible = np.where(inside & covered[rows, columns], 0.0, visible)
        return image, visible

    def _around(self, example: Example, rng: np.random.Generator) -> Crop:
        """The example's crop, moved, scaled and turned at random."""
        config, straight = self.config, self.rule.crop(example.box)
        scale, dx, dy, angle = (
            float(np.clip(rng.normal(0, spread), -2 * spread, 2 * spread)) if spread else 0.0
            for spread in (config.scale, config.shift, config.shift, config.rotation)
        )
        center = (straight.center[0] + dx * straight.side, straight.center[1] + dy * straight.side)
        return Crop(center, straight.side * 2**scale, straight.size, angle)


def background_square(
    photo: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    size: int,
    rng: np.random.Generator,
    sides: tuple[float, float],
) -> Crop | None:
    """A random square of a photo, of ``size`` pixels when cut out, that touches none of its boxes.

    Args:
        photo: (H, W, 3).
        boxes: (N, 4).
        size: of the crop.
        rng: decides side, place and turn.
        sides: least and greatest side of the square as a share of the photo's shorter side.

    Returns:
        The crop, or ``None`` when ten draws found none.
    """
    height, width = photo.shape[:2]
    for _ in range(10):
        side, angle = float(min(height, width) * rng.uniform(*sides)), float(rng.uniform(-20, 20))
        x, y = rng.uniform(side / 2, width - side / 2), rng.uniform(side / 2, height - side / 2)
        turn = math.radians(angle)
        reach = side / 2 * (abs(math.cos(turn)) + abs(math.sin(turn)))  # of the turned square
        low = np.maximum(boxes[:, :2], [x - reach, y - reach])
        high = np.minimum(boxes[:, 2:], [x + reach, y + reach])
        if not (high > low).all(axis=1).any():
            return Crop((x, y), side, size, angle)
    return None


def _shrunk(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """A picture as it looks when it was taken with so many times fewer pixels a side."""
    height, width = image.shape[:2]
    small = shrink(image, max(round(width / factor), 4), max(round(height / factor), 4))
    return shrink(small, width, height)


def _by_chance(share: float, rng: np.random.Generator) -> bool:
    """Return whether something happens that happens so often; takes no random number for what never does."""
    return share > 0 and bool(rng.random() < share)


def _cut(
    example: Example, photo: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Example, NDArray[np.uint8], NDArray[np.bool_]]:
    """An example whose photo ends across the object.

    Returns:
        The example, with the box of what is left; its photo; (K,) which landmarks are beyond the end. All as they were
        where too little would be left.
    """
    nothing = np.zeros(len(example.points), np.bool_)
    side = str(rng.choice(list(_CUT_SIDES), p=list(_CUT_SIDES.values())))
    share = float(rng.uniform(0.4, 0.85))
    x0, y0, x1, y1 = example.box.tolist()
    left, top, right, bottom = 0, 0, photo.shape[1], photo.shape[0]
    if side in ("left", "right"):
        left, right = (round(x1 - share * (x1 - x0)), right) if side == "left" else (0, round(x0 + share * (x1 - x0)))
    else:
        top, bottom = (round(y1 - share * (y1 - y0)), bottom) if side == "top" else (0, round(y0 + share * (y1 - y0)))
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, photo.shape[1]), min(bottom, photo.shape[0])
    low, high = np.array([left, top]) - 0.5, np.array([right, bottom]) - 0.5
    labelled = np.asarray(np.isfinite(example.points).all(axis=1))
    gone = labelled & ~np.asarray(((example.points >= low) & (example.points <= high)).all(axis=1))
    box = np.concatenate([np.maximum(example.box[:2], low), np.minimum(example.box[2:], high)])
    if (labelled & ~gone).sum() < _LEAST_LEFT or (box[2:] - box[:2]).min() < 2:
        return example, photo, nothing
    offset = np.array([left, top], np.float64)
    return (
        replace(
            example,
            points=example.points - offset,
            given=box - np.tile(offset, 2),
            others=example.others - np.tile(offset, 2),
        ),
        photo[top:bottom, left:right],
        gone,
    )


@dataclass(frozen=True)
class Colours:
    """Changes what a picture looks like and nothing in it moves: colour, blur, and something in front of the object."""

    config: AugmentConfig

    def change(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """(S, S, 3) BGR uint8 to the same; may write into it."""
        return self.change_and_cover(image, rng)[0]

    def change_and_cover(
        self, image: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64] | None]:
        """Change the image as `change` does; return the (4,) xyxy box of what covers the object now as well, if any."""
        return self._erase(self._colour(image, rng), rng)

    def _colour(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        config = self.config
        if _by_chance(config.low_resolution, rng):
            image = _shrunk(image, float(rng.uniform(1.5, 6)))
        gain = rng.uniform(1 - config.gain, 1 + config.gain) * rng.uniform(1 - config.gain / 2, 1 + config.gain / 2, 3)
        offset = rng.uniform(-config.brightness, config.brightness)
        levels = np.arange(256, dtype=np.float64)[:, None]
        table = ((levels - 128) * gain + 128 + offset).round().clip(0, 255).astype(np.uint8)
        image = np.asarray(cv2.LUT(image, table[None]), np.uint8)
        if rng.random() < config.blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.5))), np.uint8)
        return image

    def _erase(
        self, image: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64] | None]:
        """Cover up to a fifth of the crop with one colour: something in front of the object."""
        if rng.random() >= self.config.erase:
            return image, None
        size = image.shape[0]
        height, width = (rng.uniform(0.1, 0.45, 2) * size).astype(int)
        top, left = int(rng.integers(0, size - height)), int(rng.integers(0, size - width))
        image[top : top + height, left : left + width] = rng.integers(0, 256, 3, dtype=np.uint8)
        return image, np.array([left, top, left + width, top + height]) - 0.5
