"""Labels against the photos that they belong to: whether both are of one size, and the points where the photo is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.examples import BoxedPhoto, Example, PhotoCache
from cunet_deploy.data.layout import is_file, refuse
from cunet_deploy.errors import InputError

__all__ = ["check_against_photo", "fitting_photo", "usable_examples"]

_OUTSIDE = 0.1
"""Largest distance of a point or a box's middle from the photo, in longer sides of the photo. What people label of a
cut-off object reaches 0.04 in the data sets that this was written with; labels of another size go far beyond."""

Item = TypeVar("Item", Example, BoxedPhoto)


def usable_examples(items: Sequence[Item], photos: PhotoCache, bad: list[str] | None) -> list[Item]:
    """Those whose photos can be read and fit the labels; every photo is decoded once.

    Args:
        items: labelled objects, or photos with boxes.
        photos: reads and keeps the photos.
        bad: where to note what cannot be used; ``None`` makes the first an error.

    Raises:
        InputError: a photo or row is bad, and ``bad`` is ``None``.
    """
    present = []
    for item in items:
        try:
            _check_presence(item)
        except InputError as error:
            refuse(str(error), bad)
        else:
            present.append(item)
    readable = photos.check((item.image for item in present), bad)
    sizes: dict[Path, tuple[int, int]] = {path: photos.size(path) for path in readable}
    used = []
    for item in present:
        if item.image not in readable:
            continue
        try:
            check_against_photo(item, *sizes[item.image])
        except InputError as error:
            refuse(str(error), bad)
        else:
            used.append(item)
    return used


def fitting_photo(item: Example | BoxedPhoto, photos: PhotoCache) -> NDArray[np.uint8]:
    """The photo of a labelled object, or of boxes, in whose size its labels fit.

    Raises:
        InputError: it is missing, cannot be read, or is of another size.
    """
    _check_presence(item)
    photo = photos[item.image]
    check_against_photo(item, photo.shape[1], photo.shape[0])
    return photo


def check_against_photo(item: Example | BoxedPhoto, width: int, height: int) -> None:
    """Refuse labels that are of a photo of another size.

    Args:
        item: a labelled object, or a photo with boxes.
        width: of the photo as it is decoded, in pixels.
        height: likewise.

    Raises:
        InputError: its labels state another size, or a point is far outside the photo; the message names the row.
    """
    row = _row(item)
    if item.stated is not None and item.stated != (width, height):
        stated = f"{item.stated[0]} x {item.stated[1]}"
        turned = " (turned, perhaps by its EXIF orientation)" if item.stated == (height, width) else ""
        raise InputError(
            f"{row}{item.image}: the labels are of a photo of {stated} pixels, and this one has {width} x {height}"
            f"{turned}; label or convert it again"
        )
    points = item.points if isinstance(item, Example) else _middles(item)
    away = _far_outside(points, width, height)
    if away is not None:
        x, y = away
        raise InputError(
            f"{row}{item.image}: a label at ({x:.6g}, {y:.6g}) lies far outside the photo of {width} x {height} pixels"
            "; it may be of another one, or of another size of it"
        )


def _check_presence(item: Example | BoxedPhoto) -> None:
    """Refuse a row whose photo is not there; the message names the row."""
    if not is_file(item.image):
        raise InputError(f"{_row(item)}{item.image}: is missing")


def _row(item: Example | BoxedPhoto) -> str:
    """Place of the labels in their file, as it begins a message; empty where it is not known."""
    return f"{item.where}: " if isinstance(item, Example) and item.where else ""


def _middles(photo: BoxedPhoto) -> NDArray[np.float64]:
    """(N, 2) middles of its boxes, but for those that only say where something may be."""
    return np.asarray((photo.boxes[:, :2] + photo.boxes[:, 2:]) / 2)[photo.scores > 0]


def _far_outside(points: NDArray[np.float64], width: int, height: int) -> tuple[float, float] | None:
    """The one of (N, 2) points that is farthest outside a photo, if it is too far; NaN is nowhere."""
    beyond = np.maximum(-points, points - np.array([width - 1, height - 1])).max(axis=1, initial=0)
    beyond = np.where(np.isfinite(beyond), beyond, 0)
    if not len(beyond) or beyond.max() <= _OUTSIDE * max(width, height):
        return None
    x, y = points[int(beyond.argmax())]
    return float(x), float(y)
