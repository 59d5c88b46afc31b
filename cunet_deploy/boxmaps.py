"""Boxes of objects as maps, and back: what a detecting network learns and returns.

Three maps, in this order: ``center`` is a Gaussian at the middle of every box, as wide as the box is large; ``width``
and ``height`` hold, where the first is high, the logarithm of the sides: 0 is `BoxCode.smallest` pixels of the
network's input, and 1 is `BoxCode.octaves` doublings of it. So a relative error of a side is the same at every size.

Coordinates are those of `cunet_deploy.heatmaps`: a box is x0, y0, x1, y1 in pixels of the network's input.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from cunet_deploy._decode import Positive, check_fields
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou
from cunet_deploy.heatmaps import Decoder, decode, input_to_map, map_to_input

__all__ = ["MAPS", "BoxCode", "BoxTargets", "distinct"]

MAPS = ("center", "width", "height")

_MAX_BOXES = 300
"""Peaks that are looked at, best first; a frame of more faces than pixels would otherwise take long."""
_LEAST_SIGMA = 1.0


class BoxTargets(NamedTuple):
    """Target maps of one image.

    Attributes:
        maps: (3, H, W) float32; see the top of this module.
        center: (H, W) float32 weight of the cells of the first map: 0 where nothing is known.
        sides: (H, W) float32 weight of the cells of the other two.
    """

    maps: NDArray[np.float32]
    center: NDArray[np.float32]
    sides: NDArray[np.float32]


@dataclass(frozen=True)
class BoxCode:
    """Encoding of boxes as maps, and their decoding.

    Attributes:
        smallest: side in input pixels that is coded as 0.
        octaves: doublings of it up to the side that is coded as 1.
        spread: standard deviation of the Gaussian as a share of the box's mean side; at least one map cell.
        overlap: of two boxes that overlap by more than this (intersection over union) the weaker one is dropped.
        tight_down: from these boxes to tight ones around landmarks: how far down, as a share of the height.
        tight_width: width of the tight box as a share of the width.
        tight_height: height of the tight box as a share of the height.
    """

    smallest: Positive = 8.0
    octaves: Annotated[float, Meta(gt=0, le=16)] = 5.0
    spread: Positive = 0.1
    overlap: Annotated[float, Meta(gt=0, lt=1)] = 0.4
    tight_down: Annotated[float, Meta(ge=-10, le=10)] = 0.0
    tight_width: Positive = 1.0
    tight_height: Positive = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "box code:", InputError)

    def encode(
        self,
        boxes: ArrayLike,
        ignored: ArrayLike,
        size: int,
        stride: int,
        *,
        balance: float = 0.0,
        typical: float = 64.0,
    ) -> BoxTargets:
        """Targets of one square image.

        A small box has few cells. So that the loss does not overlook it, its cells can count more: by the area of the
        Gaussian of a box of typical size over that of its own, to the power of ``balance``.

        Args:
            boxes: (N, 4) boxes to find; those whose middle is outside the image are not written.
            ignored: (M, 4) boxes in which it is not known what there is: their cells do not count in the first map.
            size: side of the maps in cells.
            stride: input pixels per cell.
            balance: 0: every cell counts alike; 1: every box does.
            typical: mean side (geometric, in pixels of the input) of the boxes whose cells count once all the same.
        """
        found = np.asarray(boxes, np.float64).reshape(-1, 4)
        cells = input_to_map(found.reshape(-1, 2, 2), stride)
        middles, sides = cells.mean(axis=1), (found[:, 2:] - found[:, :2])
        inside = ((middles > -0.5) & (middles < size - 0.5)).all(axis=1)
        middles, sides = middles[inside], sides[inside]
        grid = np.arange(size)
        weight = np.ones((size, size), np.float32)
        for x0, y0, x1, y1 in input_to_map(np.asarray(ignored, np.float64).reshape(-1, 2, 2), stride).reshape(-1, 4):
            weight[np.ix_((grid >= y0 - 0.5) & (grid <= y1 + 0.5), (grid >= x0 - 0.5) & (grid <= x1 + 0.5))] = 0
        maps = np.zeros((3, size, size), np.float32)
        if not len(middles):
            return BoxTargets(maps, weight, np.zeros_like(weight))
        sigma = self._sigma(np.sqrt(sides.prod(axis=1)), stride)
        profiles = np.exp(-((grid - middles[..., None]) ** 2) / (2 * sigma[:, None, None] ** 2))  # (N, 2, size)
        bumps = profiles[:, 1, :, None] * profiles[:, 0, None, :]
        owner = bumps.argmax(axis=0)
        maps[0] = bumps.max(axis=0)
        maps[1:] = np.moveaxis(self._code(sides)[owner], -1, 0)
        weight = np.maximum(weight, maps[0] > 0.5)  # a known object beside an unknown one
        share = ((self._sigma(typical, stride) / sigma) ** (2 * balance)).astype(np.float32)[owner]
        return BoxTargets(maps, weight * (1 + (share - 1) * maps[0]), share * maps[0] * (maps[0] > 0.1))

    def decode(
        self, maps: NDArray[np.floating], stride: int, min_score: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes in the maps of one image.

        A box stands where the first map is highest among its neighbours; its sides are read there.

        Args:
            maps: (3, H, W).
            stride: input pixels per cell.
            min_score: peaks below it are none.

        Returns:
            boxes: (N, 4) xyxy in pixels of the network's input, best first.
            scores: (N,) in (0, 1].
        """
        import cv2  # here, since manifests import this module and need no OpenCV

        center = np.ascontiguousarray(maps[0], np.float32)
        peaks = (center >= cv2.dilate(center, np.ones((3, 3), np.uint8))) & (center >= max(min_score, 1e-6))
        rows, columns = np.nonzero(peaks)
        order = center[rows, columns].argsort(kind="stable")[::-1][:_MAX_BOXES]
        rows, columns = rows[order], columns[order]
        boxes = self._at(maps, rows, columns, stride)
        kept = distinct(boxes, self.overlap)
        return boxes[kept], np.minimum(center[rows, columns], 1).astype(np.float64)[kept]

    def best(self, maps: NDArray[np.floating], stride: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """The most certain box of each image, however uncertain.

        Args:
            maps: (B, 3, H, W).
            stride: input pixels per cell.

        Returns:
            corners: (B, 2, 2) its corners in pixels of the network's input.
            scores: (B, 2) its score in [0, 1], once for each corner.
        """
        flat = maps[:, 0].reshape(len(maps), -1)
        highest = flat.argmax(axis=1)
        rows, columns = np.divmod(highest, maps.shape[-1])
        corners = [self._at(one, rows[i : i + 1], columns[i : i + 1], stride) for i, one in enumerate(maps)]
        scores = flat[np.arange(len(flat)), highest].clip(0, 1).astype(np.float32)
        return np.concatenate(corners).reshape(-1, 2, 2), np.repeat(scores[:, None], 2, axis=1)

    def tight(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, 4) boxes that were found to the boxes around landmarks that crops are made from."""
        sides = np.asarray(boxes[:, 2:] - boxes[:, :2], np.float64)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2 + sides * [0, self.tight_down]
        half = sides * [self.tight_width, self.tight_height] / 2
        return np.concatenate([middles - half, middles + half], axis=1)

    def from_tight(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Enlarge (N, 4) xyxy boxes around landmarks to those that are to be found: the inverse of `tight`."""
        sides = np.asarray(boxes[:, 2:] - boxes[:, :2], np.float64) / [self.tight_width, self.tight_height]
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2 - sides * [0, self.tight_down]
        return np.concatenate([middles - sides / 2, middles + sides / 2], axis=1)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, as a manifest stores them."""
        return asdict(self)

    def _sigma(self, side: ArrayLike, stride: int) -> NDArray[np.float64]:
        """Standard deviations in cells of the Gaussians of boxes with these mean sides."""
        return np.maximum(self.spread * np.asarray(side, np.float64) / stride, _LEAST_SIGMA)

    def _code(self, sides: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((np.log2(np.maximum(sides, 1e-6) / self.smallest) / self.octaves).clip(0, 1))

    def _at(
        self, maps: NDArray[np.floating], rows: NDArray[np.intp], columns: NDArray[np.intp], stride: int
    ) -> NDArray[np.float64]:
        """(N, 4) boxes around the peaks in these cells of (3, H, W) maps."""
        reach = np.arange(3)  # of the cell and its neighbours, in maps with a border of zeros
        padded = np.pad(np.asarray(maps, np.float32), ((0, 0), (1, 1), (1, 1)))
        window = padded[:, (rows[:, None] + reach)[:, :, None], (columns[:, None] + reach)[:, None, :]]
        window = np.ascontiguousarray(window)  # (3, N, 3, 3); qemu 7.2 gathers what is scattered wrongly for AVX2
        place = decode(window[0], Decoder(1))[0] - 1 + np.stack([columns, rows], axis=-1)
        weights = np.maximum(window[0], 1e-6)
        codes = (weights * window[1:]).sum(axis=(2, 3)).T / weights.sum(axis=(1, 2))[:, None]
        half = self.smallest * 2 ** (self.octaves * codes) / 2
        middle = map_to_input(place, stride)
        return np.concatenate([middle - half, middle + half], axis=1)


def distinct(boxes: NDArray[np.float64], overlap: float) -> list[int]:
    """Indices of those of (N, 4) boxes, best first, that overlap no better one by more than ``overlap``."""
    kept: list[int] = []
    overlaps = box_iou(boxes, boxes) > overlap
    for index in range(len(boxes)):
        if not overlaps[index, kept].any():
            kept.append(index)
    return kept
