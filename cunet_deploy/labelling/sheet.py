"""Contact sheet of the objects on which teachers agree least."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.drawing import DOUBTED, FOUND, contact_sheet, draw_tile
from cunet_deploy.geometry import CropRule
from cunet_deploy.labelling.agreement import Consensus
from cunet_deploy.preprocess import sample
from cunet_deploy.skeletons import Skeleton

__all__ = ["DoubtSheet"]

_SIDE, _COLUMNS, _PADDING = 256, 6, 1.4


class DoubtSheet:
    """Keeps the least certain objects as they come, most doubtful first."""

    def __init__(self, skeleton: Skeleton, count: int) -> None:
        self._skeleton, self._count = skeleton, count
        self._tiles: list[tuple[float, int, NDArray[np.uint8]]] = []
        self._seen = 0

    def add(self, image: NDArray[np.uint8], consensus: Consensus, name: str) -> None:
        """Look at one object; what is agreed on is yellow, what is not red."""
        self._seen += 1
        rank = consensus.doubt - consensus.agreed_share
        if len(self._tiles) == self._count and (not self._count or rank <= self._tiles[0][0]):
            return
        crop = CropRule(_SIDE, _PADDING).crop(consensus.box)
        places = crop.to_input(consensus.points)
        doubted = np.where(consensus.kept[:, None], np.nan, places)
        agreed = np.where(consensus.kept[:, None], places, np.nan)
        text = f"{name} {int(consensus.kept.sum())} of {int(consensus.known.sum())}"
        tile = draw_tile(sample(image, crop), [(doubted, DOUBTED), (agreed, FOUND)], self._skeleton.edges, text)
        heapq.heappush(self._tiles, (rank, -self._seen, tile))
        if len(self._tiles) > self._count:
            heapq.heappop(self._tiles)

    def draw(self) -> NDArray[np.uint8] | None:
        """(H, W, 3) BGR uint8; ``None`` without any object."""
        tiles: Sequence[NDArray[np.uint8]] = [tile for *_, tile in sorted(self._tiles, key=lambda row: row[:2])[::-1]]
        return contact_sheet(tiles, min(_COLUMNS, len(tiles))) if tiles else None
