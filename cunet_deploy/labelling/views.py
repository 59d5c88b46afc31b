"""Views of an object: crops that differ a little, in which a teacher that knows a joint finds it in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.geometry import Crop, CropRule
from cunet_deploy.labelling.base import Teacher
from cunet_deploy.preprocess import sample

__all__ = ["VIEWS", "View", "look"]


@dataclass(frozen=True)
class View:
    """A crop of an object that is not quite the usual one.

    Attributes:
        flip: it is mirrored.
        shift: of its middle, x and y, in longer sides of the box.
        scale: of its side.
        angle: clockwise rotation in degrees.
    """

    flip: bool = False
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    angle: float = 0.0

    def crop(self, rule: CropRule, box: ArrayLike, shares: tuple[float, float] = (1.0, 1.0)) -> Crop:
        """The crop of a tight xyxy box.

        Args:
            rule: of the square.
            box: what shall be seen.
            shares: width and height of what is looked at, in sides of the square.

        Raises:
            InputError: as `CropRule.crop`.
        """
        x0, y0, x1, y1 = np.asarray(box, np.float64).tolist()
        longer = max((x1 - x0) / shares[0], (y1 - y0) / shares[1])
        middle = (x0 + x1) / 2 + self.shift[0] * longer, (y0 + y1) / 2 + self.shift[1] * longer
        half = longer * self.scale / 2
        return rule.crop((middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half), self.angle)


VIEWS = (
    View(),
    View(flip=True),
    View(shift=(0.05, -0.04), scale=1.14, angle=9),
    View(flip=True, shift=(-0.05, 0.04), scale=0.93, angle=9),
    View(shift=(-0.04, -0.05), scale=1.06, angle=-9),
)
"""Views of each object. Their differences are those that detectors and trackers bring, and that training saw."""


def look(
    teacher: Teacher, image: NDArray[np.uint8], box: ArrayLike, views: Sequence[View] = VIEWS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ask a teacher about one object, once for each view.

    Args:
        teacher: whom.
        image: (H, W, 3) uint8 BGR.
        box: tight xyxy box of the object.
        views: the crops.

    Returns:
        points: (V, K, 2) in pixels of the image, left and right as they are there.
        scores: (V, K) in [0, 1].
    """
    crops = [view.crop(teacher.rule, box, teacher.shares) for view in views]
    tiles = [sample(image, crop) for crop in crops]
    found, scores = teacher.read(np.stack([t[:, ::-1] if v.flip else t for t, v in zip(tiles, views, strict=True)]))
    points, order = np.asarray(found, np.float64).copy(), teacher.skeleton.flip_order
    heights = np.asarray(scores, np.float64).copy()
    for index, (view, crop) in enumerate(zip(views, crops, strict=True)):
        if view.flip:
            points[index], heights[index] = points[index][order], heights[index][order]
            points[index, :, 0] = crop.size - 1 - points[index, :, 0]
        points[index] = crop.to_image(points[index])
    return points, heights
