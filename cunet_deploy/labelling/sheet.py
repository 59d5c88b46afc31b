"""Contact sheet of the objects on which teachers agree least."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import write_bytes_atomic
from cunet_deploy.drawing import DOUBTED, FOUND, contact_sheet, draw_tile
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.labelling.agreement import Consensus
from cunet_deploy.media import read_image
from cunet_deploy.preprocess import sample
from cunet_deploy.skeletons import Skeleton

__all__ = ["DoubtSheet"]

_SIDE, _COLUMNS, _PADDING = 256, 6, 1.4


class DoubtSheet:
    """Keeps the least certain objects as they come, most doubtful first."""

    def __init__(self, skeleton: Skeleton, count: int) -> None:
        self._skeleton, self._count = skeleton, count
        self._worst: list[tuple[float, int, str, Consensus]] = []
        self._seen = 0

    def add(self, name: str, consensus: Consensus) -> None:
        """Look at one object in the picture of that name."""
        self._seen += 1
        heapq.heappush(self._worst, (consensus.doubt - consensus.agreed_share, -self._seen, name, consensus))
        if len(self._worst) > self._count:
            heapq.heappop(self._worst)

    def write(self, file: Path, place: Callable[[str], Path], *, overwrite: bool) -> None:
        """Draw what is agreed on yellow, what is not red; without any object there is no file.

        Args:
            file: a JPEG.
            place: path of the picture of a name. What cannot be read any more is left out.
            overwrite: replace an earlier one.

        Raises:
            CunetError: the file cannot be written.
        """
        tiles = []
        for *_, name, consensus in sorted(self._worst, key=lambda row: row[:2])[::-1]:
            with contextlib.suppress(InputError):
                tiles.append(self._tile(read_image(place(name)), consensus, Path(name).stem))
        if tiles:
            sheet = contact_sheet(tiles, min(_COLUMNS, len(tiles)))
            write_bytes_atomic(file, cv2.imencode(".jpg", sheet)[1].tobytes(), overwrite=overwrite)

    def _tile(self, image: NDArray[np.uint8], consensus: Consensus, name: str) -> NDArray[np.uint8]:
        crop = CropRule(_SIDE, _PADDING).crop(consensus.box)
        places = crop.to_input(consensus.points)
        doubted = np.where(consensus.kept[:, None], np.nan, places)
        agreed = np.where(consensus.kept[:, None], places, np.nan)
        text = f"{name} {int(consensus.kept.sum())} of {int(consensus.known.sum())}"
        return draw_tile(sample(image, crop), [(doubted, DOUBTED), (agreed, FOUND)], self._skeleton.edges, text)
