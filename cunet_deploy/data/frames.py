"""Random training images of networks that find boxes: whole photos at many scales, alone and in mosaics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.config import AugmentConfig, BoxConfig
from cunet_deploy.data.augment import Colours
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.data.scatter import Scatterer, beside
from cunet_deploy.geometry import Crop, whole_image
from cunet_deploy.preprocess import BORDER, sample

__all__ = ["FrameSampler", "LabelledFrame", "whole_frame"]

_LEAST_SEEN = 0.5
"""An object of which less is in the image is neither learnt nor background."""
_ANGLE = 10.0
_ALONE = 0.25
"""Share of the single photos that are shown whole, as they are in use."""


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """An image of the network's size and what is in it.

    Attributes:
        image: (S, S, 3) BGR uint8.
        boxes: (N, 4) what is to be found, in pixels of the image.
        ignored: (M, 4) where it is not known what there is.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    ignored: NDArray[np.float64]


def whole_frame(photo: BoxedPhoto, pixels: NDArray[np.uint8], size: int, config: BoxConfig) -> LabelledFrame:
    """A photo as the network is given it in use: all of it, its longer side as long as the image."""
    crop = whole_image(pixels.shape[1], pixels.shape[0], size)
    return _labelled(photo, sample(pixels, crop), crop, config)


@dataclass(frozen=True)
class FrameSampler:
    """Draws training images.

    Attributes:
        photos: what is to be found is in these.
        backgrounds: and in none of these; may be empty.
        cache: decodes them.
        size: side of the images.
        boxes: sides and mosaics.
        augment: rotation and shift are its own; the rest is as for landmarks.
    """

    photos: Sequence[BoxedPhoto]
    backgrounds: Sequence[BoxedPhoto]
    cache: PhotoCache
    size: int
    boxes: BoxConfig
    augment: AugmentConfig

    def draw(self, index: int, rng: np.random.Generator) -> LabelledFrame:
        """A random image that shows photo ``index``, perhaps among others."""
        scatter = self.boxes.scatter
        frame = self._scattered(index, rng) if scatter and rng.random() < scatter else self._photos(index, rng)
        image, boxes, ignored = frame.image, frame.boxes, frame.ignored
        if rng.random() < self.augment.flip:
            image = np.ascontiguousarray(image[:, ::-1])
            boxes, ignored = _mirrored(boxes, self.size), _mirrored(ignored, self.size)
        return LabelledFrame(Colours(self.augment).change(image, rng), boxes, ignored)

    def _scattered(self, index: int, rng: np.random.Generator) -> LabelledFrame:
        scatterer = Scatterer(self.photos, self.backgrounds, self.cache, self.size, self.boxes)
        return LabelledFrame(*scatterer.draw(index, rng))

    def _photos(self, index: int, rng: np.random.Generator) -> LabelledFrame:
        """One photo or a background, or a mosaic."""
        tiles = int(rng.integers(2, self.boxes.max_tiles + 1)) if rng.random() < self.boxes.mosaic else 1
        if tiles == 1:
            photo = self.photos[index]
            if self.backgrounds and rng.random() < self.augment.negative:
                photo = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            return self._tile(photo, self.size, rng, whole=rng.random() < _ALONE)
        return self._mosaic(index, tiles, rng)

    def _mosaic(self, index: int, tiles: int, rng: np.random.Generator) -> LabelledFrame:
        """Tiles of random heights and widths, one of them of photo ``index``."""
        cuts = [self._cuts(tiles, rng) for _ in range(2)]
        own = int(rng.integers(tiles * tiles))
        image = np.full((self.size, self.size, 3), BORDER, np.uint8)
        found: list[LabelledFrame] = []
        for place in range(tiles * tiles):
            (top, bottom), (left, right) = (cuts[axis][i : i + 2] for axis, i in enumerate(divmod(place, tiles)))
            photo = self.photos[index if place == own else int(rng.integers(len(self.photos)))]
            if place != own and self.backgrounds and rng.random() < self.augment.negative:
                photo = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            side = max(bottom - top, right - left)
            tile = self._tile(photo, side, rng, whole=rng.random() < 0.5)
            y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
            image[top:bottom, left:right] = tile.image[y : y + bottom - top, x : x + right - left]
            area = np.array([left, top, right - 1, bottom - 1], np.float64)
            move = np.array([left - x, top - y] * 2)
            found.append(_clipped(tile.boxes + move, tile.ignored + move, area))
        return LabelledFrame(
            image, np.concatenate([f.boxes for f in found]), np.concatenate([f.ignored for f in found])
        )

    def _cuts(self, tiles: int, rng: np.random.Generator) -> list[int]:
        shares = rng.uniform(0.7, 1.3, tiles)
        edges = np.concatenate([[0], np.cumsum(shares) / shares.sum()]) * self.size
        return [round(float(edge)) for edge in edges]

    def _tile(self, photo: BoxedPhoto, side: int, rng: np.random.Generator, *, whole: bool) -> LabelledFrame:
        """A square piece of a photo, ``side`` pixels large in the image, or all of it."""
        pixels = self.cache[photo.image]
        if self.boxes.beside and len(photo.boxes) and not photo.scores.any():
            pixels, photo = beside(pixels, photo)
        height, width = pixels.shape[:2]
        crop = whole_image(width, height, side)
        angle = float(np.clip(rng.normal(0, _ANGLE), -2 * _ANGLE, 2 * _ANGLE))
        known = np.flatnonzero(photo.scores >= self.boxes.min_label)
        if whole:
            crop = Crop(crop.center, crop.side * 2 ** float(rng.uniform(-0.2, 0.4)), side, 0.0)
        elif len(known):
            box = photo.boxes[known[int(rng.integers(len(known)))]]
            low, high = (np.log2(value) for value in (self.boxes.drawn_from, min(self.boxes.drawn_to, 0.9 * side)))
            wanted = 2 ** float(rng.uniform(min(low, high), high))
            reach = side * float((box[2:] - box[:2]).max()) / wanted  # photo pixels that the tile shows
            # more border than picture teaches little
            reach = min(reach, 1.1 * max(height, width))
            away = rng.uniform(-0.4, 0.4, 2) * (reach - float((box[2:] - box[:2]).max()))
            middle = (box[:2] + box[2:]) / 2 + away
            crop = Crop((float(middle[0]), float(middle[1])), reach, side, angle)
        else:
            reach = min(height, width) * float(rng.uniform(0.4, 1.2))
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            crop = Crop((float(x), float(y)), reach, side, angle)
        return _labelled(photo, sample(pixels, crop), crop, self.boxes)


def _labelled(photo: BoxedPhoto, image: NDArray[np.uint8], crop: Crop, config: BoxConfig) -> LabelledFrame:
    """Boxes of a photo in a piece of it. A box that is turned stays upright, around the same middle, as large."""
    middles = crop.to_input((photo.boxes[:, :2] + photo.boxes[:, 2:]) / 2).reshape(-1, 2)
    half = (photo.boxes[:, 2:] - photo.boxes[:, :2]) / 2 * crop.scale
    boxes = np.concatenate([middles - half, middles + half], axis=1)
    sure = (photo.scores >= config.min_label) & (photo.longer * crop.scale >= config.min_side)
    area = np.array([0, 0, crop.size - 1, crop.size - 1], np.float64)
    found = _clipped(boxes[sure], boxes[~sure], area)
    return LabelledFrame(image, found.boxes, found.ignored)


def _clipped(boxes: NDArray[np.float64], ignored: NDArray[np.float64], area: NDArray[np.float64]) -> LabelledFrame:
    """Clip boxes to the area of the image that shows them."""
    low, high = np.maximum(boxes[:, :2], area[:2]), np.minimum(boxes[:, 2:], area[2:])
    seen = (high - low).clip(0).prod(axis=1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((middles >= area[:2]) & (middles <= area[2:])).all(axis=1) & (seen >= _LEAST_SEEN)
    unsure = np.concatenate([ignored, boxes[~inside & (seen > 0)]])
    low, high = np.maximum(unsure[:, :2], area[:2]), np.minimum(unsure[:, 2:], area[2:])
    unsure = np.concatenate([low, high], axis=1)[(high > low).all(axis=1)]
    return LabelledFrame(np.zeros((0, 0, 3), np.uint8), boxes[inside], unsure)


def _mirrored(boxes: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.stack([size - 1 - boxes[:, 2], boxes[:, 1], size - 1 - boxes[:, 0], boxes[:, 3]], axis=1)
