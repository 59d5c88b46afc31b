"""A network of ours that finds boxes, as a detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.boxmaps import BoxCode, distinct
from cunet_deploy.detection.table import detector_forms
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import Crop, box_iou, whole_image, whole_pixels
from cunet_deploy.preprocess import sample
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.base import Session

__all__ = ["NetworkDetector", "open_spec"]

_TILE_SIDE = 0.6
"""Side of the four tiles in which small objects are looked for, as a share of the picture's longer side."""
_MAX_SIDE_IN_TILE = 0.5
"""Boxes that take more than this share of a tile's side are left to the look at the whole picture."""
_SMALL_SIDE_PX = 32.0
"""Tracked objects smaller than this, in pixels of the network's input, are searched in their tile: the run on the whole
frame may miss them."""
_MAX_FOLLOWED_TILES = 2
_CONFIDENT_SHARE = 0.5
"""Share of the way from the least score to 1 from which a box is believed before landmarks confirm it."""
_HYSTERESIS_RATIO, _MIN_OVERLAP = 0.5, 0.3
"""Share of the least score that is enough for a box that overlaps a track by at least this IoU."""


class NetworkDetector:
    """See `cunet_deploy.detection.base.Detector`.

    It looks at the whole picture, and for small objects at four tiles of it: in single pictures at all of them, in
    video at one after the other.

    Attributes:
        manifest: of its network.
    """

    every = 15
    retry = 2
    exact = False

    def __init__(self, session: Session) -> None:
        """Use an open session.

        Raises:
            InputError: its network finds landmarks, not boxes.
        """
        if session.manifest.boxes is None:
            raise InputError(
                f"{session.manifest.name} finds landmarks, not boxes; a detector such as face-detect-s does"
            )
        self.manifest = session.manifest
        self._session = session
        self._code: BoxCode = session.manifest.boxes

    @property
    def confident_score(self) -> float:
        """See `cunet_deploy.detection.base.Detector`."""
        least = self._session.manifest.min_score
        return least + _CONFIDENT_SHARE * (1 - least)

    def close(self) -> None:
        """Release the network."""
        self._session.close()

    def find(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes as the network was taught them, in one look at the whole image.

        Args:
            image: (H, W, 3) uint8 BGR.

        Returns:
            boxes: (N, 4) xyxy pixels of the image, best first.
            scores: (N,) in [0, 1].
        """
        return self._look(image, [whole_image(image.shape[1], image.shape[0], self._session.manifest.crop.size)], 1.0)

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find objects; see `cunet_deploy.detection.base.Detector.detect`."""
        size = self._session.manifest.crop.size
        whole = whole_image(image.shape[1], image.shape[0], size)
        tiles = _tiles(image.shape[1], image.shape[0], size) if whole.scale < 1 else []
        followed = known if known is not None and len(known) else None
        if known is not None and tiles:
            turn = _turn(index // (self.retry if followed is None else self.every), len(tiles))
            small = known[(known[:, 2:] - known[:, :2]).max(axis=1, initial=0) * whole.scale < _SMALL_SIDE_PX]
            chosen = {turn, *(_nearest(box, tiles) for box in small[:_MAX_FOLLOWED_TILES])}
            tiles = [tiles[place] for place in sorted(chosen)]
        boxes, scores = self._look(image, [whole, *tiles], 1.0 if followed is None else _HYSTERESIS_RATIO)
        boxes = self._code.tight(boxes)
        good = scores >= self._session.manifest.min_score
        if followed is not None:
            good |= box_iou(boxes, followed).max(axis=1, initial=0) >= _MIN_OVERLAP
        return boxes[good], scores[good]

    def _look(
        self, image: NDArray[np.uint8], crops: list[Crop], share: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes in pieces of an image, the first of them whole, down to a share of the least score."""
        manifest, found, scores = self._session.manifest, [], []
        maps = self._session.run(np.stack([sample(image, crop) for crop in crops]))
        for crop, one in zip(crops, maps, strict=True):
            boxes, heights = self._code.decode(one, manifest.stride, share * manifest.min_score)
            if crop is not crops[0]:
                small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) < _MAX_SIDE_IN_TILE * crop.size
                # what the edge of a tile cuts is whole in a neighbour or in the whole picture
                uncut = ((boxes > 1) & (boxes < crop.size - 2)).all(axis=1)
                boxes, heights = boxes[small & uncut], heights[small & uncut]
            found.append(crop.to_image(boxes.reshape(-1, 2, 2)).reshape(-1, 4))
            scores.append(heights)
        boxes, heights = np.concatenate(found), np.concatenate(scores)
        order = np.argsort(-heights, kind="stable")
        kept = order[distinct(boxes[order], self._code.overlap)] if len(crops) > 1 else order
        return boxes[kept], heights[kept]


def _turn(look: int, count: int) -> int:
    """Return which of ``count`` tiles is searched in a look: all in every block of looks, in a shifted order.

    Without the shift, a random number of the block, frames at regular distances, such as every fourth while a camera
    drops frames, would be searched in one tile alone.
    """
    block = look // count
    for factor in (0x7FEB352D, 0x846CA68B):  # an integer hash: mixes all bits of the number of the block
        block = (block ^ block >> 16) * factor & 0xFFFFFFFF
    return (look + (block ^ block >> 16)) % count


def open_spec(argument: str, session: Session | None) -> NetworkDetector:
    """``NAME|PATH``, as `cunet_deploy.sessions.open_session` takes it."""
    try:
        # One thread: two pools that spin would take each other's processors, and the network is small.
        network = open_session(argument, threads=1)
    except InputError as error:
        raise InputError(
            f"detector {argument!r} is not known ({error}); expected one of {detector_forms(', ')}"
        ) from error
    try:
        return NetworkDetector(network)
    except InputError:
        network.close()
        raise


def _tiles(width: int, height: int, size: int) -> list[Crop]:
    """Four overlapping squares in the corners of an image; fewer where it is long and narrow."""
    side = _TILE_SIDE * max(width, height)
    columns = sorted({min(side, width) / 2, width - min(side, width) / 2})
    rows = sorted({min(side, height) / 2, height - min(side, height) / 2})
    return [whole_pixels(x - 0.5, y - 0.5, side, size) for y in rows for x in columns]


def _nearest(box: NDArray[np.float64], tiles: list[Crop]) -> int:
    """The tile in whose middle a box is most."""
    middle = (box[:2] + box[2:]) / 2
    return int(np.argmin([np.abs(middle - tile.center).max() for tile in tiles]))
