"""Training images of networks that find boxes, put together: objects at random places in front of something else.

Photos that their object fills teach that an object is where a photo is. Here pieces of them, and pieces of backgrounds
like them, lie at random places and sizes on a background that fills the image, with soft edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.config import BoxConfig
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.geometry import Crop
from cunet_deploy.preprocess import sample

__all__ = ["Scatterer", "beside"]

_MARGIN = 0.1
"""Distance at which the surroundings of an object begin, in longer sides of its box."""
_LEAST_PIECE = 32
"""Smallest side, in pixels of the photo, of a part of it that is shown alone."""
_MOST = 5
_OBJECTS = 0.6
"""Share of the pieces that show an object."""
_ROOM = (1.15, 1.6)
"""Side of a piece in longer sides of its object."""
_SOFT = 0.08
"""Width of a soft edge as a share of the piece."""
_SEEN, _UNSEEN = 0.7, 0.1
"""An object of which more than the first is left is learnt, and less than the second is forgotten; what is between
counts as unknown."""
_TRIES = 6


def _piece_beside(pixels: NDArray[np.uint8], photo: BoxedPhoto) -> NDArray[np.uint8] | None:
    """The largest part of a photo above, below, left or right of all its boxes; ``None`` where that is too small."""
    if not len(photo.boxes):
        return pixels
    reach = _MARGIN * photo.longer.max()
    x0, y0, x1, y1 = np.concatenate([photo.boxes[:, :2].min(axis=0) - reach, photo.boxes[:, 2:].max(axis=0) + reach])
    left, top, right, bottom = (max(0, int(value)) for value in (x0, y0, x1, y1))
    pieces = [pixels[:top], pixels[bottom:], pixels[:, :left], pixels[:, right:]]
    largest = max(pieces, key=lambda piece: min(piece.shape[:2]))
    return largest if min(largest.shape[:2]) >= _LEAST_PIECE else None


@dataclass(frozen=True)
class Scatterer:
    """Puts images together.

    Attributes:
        photos: with objects; in place of one without any a piece of a background is shown.
        backgrounds: without, beside their boxes.
        cache: decodes them.
        size: side of the images.
        boxes: sides of the objects.
    """

    photos: Sequence[BoxedPhoto]
    backgrounds: Sequence[BoxedPhoto]
    cache: PhotoCache
    size: int
    boxes: BoxConfig

    def draw(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
        """A random image that shows the object of photo ``index``, perhaps among others.

        Returns:
            image: (size, size, 3) BGR.
            boxes: (N, 4) what is to be found.
            ignored: (M, 4) where it is not known what there is.
        """
        image = self._ground(rng)
        known: list[NDArray[np.float64]] = []
        left: list[NDArray[np.float32]] = []  # what still shows of each
        count = int(rng.integers(1, _MOST + 1))
        own = int(rng.integers(count))
        unknown = []
        for number in range(count):
            photo = None
            if number == own or rng.random() < _OBJECTS:
                photo = self.photos[index if number == own else int(rng.integers(len(self.photos)))]
            if photo is not None and len(photo.boxes):
                pixels, mask, box, sure = self._object(photo, rng)
            else:
                pixels, mask, box, sure = self._distractor(rng)
            side = len(mask)
            x, y = (int(value) for value in rng.integers(-side // 4, self.size - 3 * side // 4 + 1, 2))
            shown = _paste(image, pixels, mask, x, y)
            left = [np.minimum(one, 1 - shown) for one in left]
            if box is None:
                continue
            placed = box + np.array([x, y, x, y])
            if sure:
                known.append(placed)
                left.append(np.ones((self.size, self.size), np.float32))
            else:
                unknown.append(placed)
        shares = [_share_left(box, what) for box, what in zip(known, left, strict=True)]
        found = [box for box, share in zip(known, shares, strict=True) if share > _SEEN]
        unknown += [box for box, share in zip(known, shares, strict=True) if _UNSEEN < share <= _SEEN]
        visible = np.clip(np.array(unknown).reshape(-1, 4), 0, self.size - 1)
        inside = (visible[:, 2:] > visible[:, :2]).all(axis=1)
        return image, np.array(found).reshape(-1, 4), visible[inside]

    def _ground(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A background that fills the image: the largest of a few pieces, stretched."""
        pieces = [piece for _ in range(3) if (piece := self._background(rng)) is not None]
        shape = (self.size, self.size)
        if not pieces or rng.random() < 0.15:
            return np.full((*shape, 3), rng.integers(0, 256, 3), np.uint8)
        largest = max(pieces, key=lambda piece: min(piece.shape[:2]))
        return np.asarray(cv2.resize(largest, shape, interpolation=cv2.INTER_LINEAR), np.uint8)

    def _background(self, rng: np.random.Generator) -> NDArray[np.uint8] | None:
        if not self.backgrounds:
            return None
        for _ in range(_TRIES):
            photo = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            piece = _piece_beside(self.cache[photo.image], photo)
            if piece is not None:
                return piece
        return None

    def _side(self, rng: np.random.Generator) -> float:
        """Longer side of an object in the image."""
        low, high = np.log2(self.boxes.drawn_from), np.log2(min(self.boxes.drawn_to, 0.95 * self.size))
        return float(2 ** rng.uniform(low, high))

    def _object(
        self, photo: BoxedPhoto, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64] | None, bool]:
        """Pixels, mask, box and whether it is sure, of a square piece around one object of a photo."""
        pixels = self.cache[photo.image]
        chosen = int(rng.integers(len(photo.boxes)))
        box = photo.boxes[chosen]
        longer, room = float((box[2:] - box[:2]).max()), float(rng.uniform(*_ROOM))
        away = rng.uniform(-0.5, 0.5, 2) * (room - 1.1) * longer
        middle = (box[:2] + box[2:]) / 2 + away
        side = max(int(self._side(rng) * room), 8)
        crop = Crop((float(middle[0]), float(middle[1])), longer * room, side, float(rng.normal(0, 4)))
        inside = np.full(pixels.shape, 255, np.uint8)
        inside = sample(inside, crop)[:, :, 0]  # grey beyond the photo
        mask = _soft(side) * (inside > 250).astype(np.float32)
        centre, half = crop.to_input((box[:2] + box[2:]) / 2), (box[2:] - box[:2]) / 2 * crop.scale
        placed = np.concatenate([centre - half, centre + half])
        return sample(pixels, crop), mask, placed, bool(photo.scores[chosen] >= self.boxes.min_label)

    def _distractor(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64] | None, bool]:
        """The same of a piece of a background."""
        side = max(int(self._side(rng) * rng.uniform(*_ROOM)), 8)
        piece = self._background(rng)
        if piece is None:
            return np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8), _soft(side), None, False
        return np.asarray(cv2.resize(piece, (side, side)), np.uint8), _soft(side), None, False


def _soft(side: int) -> NDArray[np.float32]:
    """(side, side) opacity: 1 but for the edges."""
    ramp = np.minimum(np.arange(side) + 1, np.arange(side)[::-1] + 1) / max(_SOFT * side, 1)
    profile = ramp.clip(0, 1).astype(np.float32)
    return np.asarray(profile[:, None] * profile, np.float32)


def _paste(
    image: NDArray[np.uint8], pixels: NDArray[np.uint8], mask: NDArray[np.float32], x: int, y: int
) -> NDArray[np.float32]:
    """Lay pixels over an image at a place; (H, W) how much of the image they cover."""
    size, side = len(image), len(mask)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, size), min(y + side, size)
    cover = np.zeros((size, size), np.float32)
    if x1 <= x0 or y1 <= y0:
        return cover
    part = mask[y0 - y : y1 - y, x0 - x : x1 - x]
    under = image[y0:y1, x0:x1].astype(np.float32)
    over = pixels[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32)
    image[y0:y1, x0:x1] = (under + part[:, :, None] * (over - under)).round().astype(np.uint8)
    cover[y0:y1, x0:x1] = part
    return cover


def _share_left(box: NDArray[np.float64], left: NDArray[np.float32]) -> float:
    """Share of a box that is in the image and not covered, by the (H, W) mask of what is left."""
    low, high = np.maximum(box[:2], 0), np.minimum(box[2:], len(left) - 1)
    if (high <= low).any():
        return 0.0
    (x0, y0), (x1, y1) = low.astype(int), np.ceil(high).astype(int) + 1
    area = max(float((box[2:] - box[:2]).prod()), 1e-9)
    return float(left[y0:y1, x0:x1].mean() * (high - low).prod() / area)


def beside(pixels: NDArray[np.uint8], photo: BoxedPhoto) -> tuple[NDArray[np.uint8], BoxedPhoto]:
    """Return what `_piece_beside` gives as a photo of its own, or the photo as it is where that is too small."""
    piece = _piece_beside(pixels, photo)
    if piece is None:
        return pixels, photo
    return piece, replace(photo, boxes=np.zeros((0, 4)), scores=np.zeros(0))
