"""Looking at an object more than once, also at its mirror image and at crops of other sizes, and averaging the maps.

Where the network is unsure, the looks differ and their mean is right more often than each; a test of bodies in papers
often has a flip and several scales (six with Yang et al., "Learning Feature Pyramids for Human Pose Estimation", 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.geometry import Crop, CropRule
from cunet_deploy.heatmaps import input_to_map, map_to_input
from cunet_deploy.manifest import Manifest
from cunet_deploy.preprocess import sample
from cunet_deploy.sessions.base import Session

__all__ = ["ONCE", "TTA"]


@dataclass(frozen=True)
class TTA:
    """Test-time augmentation: views of each object; the work grows with their number.

    Attributes:
        flip: at the mirror image of each crop, too.
        scales: sides of further crops about the same middle, in units of the model's own.
    """

    flip: bool = False
    scales: tuple[float, ...] = ()

    def crops(self, rule: CropRule, box: ArrayLike) -> tuple[Crop, ...]:
        """The crops of an object, the model's own first; raises as `CropRule.crop`."""
        return tuple(replace(rule, padding=rule.padding * scale).crop(box) for scale in (1.0, *self.scales))

    def maps(
        self, session: Session, photos: Sequence[NDArray[np.uint8]], crops: Sequence[tuple[Crop, ...]]
    ) -> NDArray[np.floating]:
        """The mean (B, K, H, W) maps of each object, in the cells of its first crop.

        Args:
            session: the model, which finds landmarks.
            photos: of the B objects, (H, W, 3) BGR.
            crops: of the B objects, by `crops`.
        """
        looks: list[NDArray[np.floating]] = []
        for own in zip(*crops, strict=True):
            images = np.stack([sample(photo, crop) for photo, crop in zip(photos, own, strict=True)])
            maps = session.run(images)
            if self.flip:
                mirrored = session.run(np.ascontiguousarray(images[:, :, ::-1]))
                maps = np.asarray((maps + mirrored[:, session.manifest.skeleton.flip_order, :, ::-1]) / 2, maps.dtype)
            looks.append(_moved(maps, own, [first for first, *_ in crops], session.manifest) if looks else maps)
        return looks[0] if len(looks) == 1 else np.asarray(np.mean(looks, axis=0), looks[0].dtype)


ONCE = TTA()
"""At the model's own crop alone, as on a device."""


def _moved(
    maps: NDArray[np.floating], crops: Sequence[Crop], others: Sequence[Crop], manifest: Manifest
) -> NDArray[np.floating]:
    """Maps of crops in the cells of other crops, none of them turned: bilinear, and 0 where the crop does not reach."""
    cells = np.arange(manifest.map_size, dtype=np.float64)
    inputs = map_to_input(np.stack([cells, cells], axis=-1), manifest.stride)
    moved = np.empty_like(maps)
    for index, (crop, other) in enumerate(zip(crops, others, strict=True)):
        there = input_to_map(crop.to_input(other.to_image(inputs)), manifest.stride)
        columns, rows = np.maximum(0, 1 - np.abs(there.T[:, :, None] - cells))  # (cells of the other, own cells)
        moved[index] = rows @ maps[index] @ columns.T
    return moved
