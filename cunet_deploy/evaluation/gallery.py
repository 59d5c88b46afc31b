"""A picture of what a model finds hardest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.drawing import FOUND, TRUE, contact_sheet, draw_tile
from cunet_deploy.evaluation.landmarks import Evaluation
from cunet_deploy.geometry import CropRule
from cunet_deploy.preprocess import sample

__all__ = ["worst_objects", "worst_sheet"]

_SIDE, _COLUMNS = 256, 6


def worst_objects(evaluation: Evaluation, count: int) -> list[int]:
    """Indices of the objects with the largest errors, the worst first; those without a normalizer are left out.

    Of bodies those with the smallest share of correct joints; of equals the larger mean error comes first.
    """
    errors, close = evaluation.errors(), evaluation.pck_threshold
    mean = metrics.object_errors(errors)
    rank = mean if close is None else -metrics.object_errors(metrics.correct_joints(errors, close.threshold))
    order = np.lexsort((-mean, -rank))
    return [int(index) for index in order if not np.isnan(mean[index])][:count]


def worst_sheet(evaluation: Evaluation, photos: PhotoCache, count: int) -> NDArray[np.uint8]:
    """The worst objects in a grid, the worst first: labels (blue) under what was found (yellow), and the error.

    Args:
        evaluation: what was found.
        photos: reads them.
        count: how many objects.

    Returns:
        (H, W, 3) BGR uint8.
    """
    chosen = worst_objects(evaluation, count)
    tiles = [_tile(evaluation, photos, index) for index in chosen]
    nothing = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    return contact_sheet(tiles or [nothing], min(_COLUMNS, max(len(tiles), 1)))


def _tile(evaluation: Evaluation, photos: PhotoCache, index: int) -> NDArray[np.uint8]:
    example, close = evaluation.examples[index], evaluation.pck_threshold
    # wider than the model's own crop: a landmark that was found far away shall be seen
    crop = CropRule(_SIDE, 1.2 * evaluation.manifest.crop.padding).crop(example.box)
    tile = sample(photos[example.image], crop)
    errors = evaluation.errors()[index]
    if close is None:
        text = f"{100 * float(np.nanmean(errors)):.1f} %"
    else:
        correct = metrics.correct_joints(errors, close.threshold)
        text = f"{int(np.nansum(correct))} of {int((~np.isnan(correct)).sum())}"
    layers = [(crop.to_input(example.points), TRUE), (crop.to_input(evaluation.points[index]), FOUND)]
    return draw_tile(tile, layers, evaluation.manifest.skeleton.edges, f"{example.image.stem} {text}")
