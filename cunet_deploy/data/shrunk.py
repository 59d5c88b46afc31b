"""Smaller copies of large photos: decoded faster, and more of them fit into memory.

A photo is halved as often as leaves every object in it twice as large as the network sees it. Labels move along.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import write_bytes_atomic
from cunet_deploy.config import BoxConfig
from cunet_deploy.data.examples import BoxedPhoto, Example, PhotoCache
from cunet_deploy.geometry import CropRule
from cunet_deploy.machine.cpu import available_cpus
from cunet_deploy.preprocess import shrink

__all__ = ["box_ratio", "crop_ratio", "shrunk_photos"]

Item = TypeVar("Item", Example, BoxedPhoto)

_SPARE = 2.0
"""Pixels of a shrunk photo for each pixel of the network's input, along a line, at least."""
_LEAST_REACH = 0.4
"""Share of a photo without boxes that a training image shows at least; see `cunet_deploy.data.frames`."""
_QUALITY = 95


def crop_ratio(example: Example, width: int, height: int, rule: CropRule) -> float:
    """Photo pixels for each pixel of the network's input, along a line, where a crop shows an object."""
    x0, y0, x1, y1 = example.box.tolist()
    return float(max(x1 - x0, y1 - y0) * rule.padding / rule.size)


def box_ratio(photo: BoxedPhoto, width: int, height: int, size: int, boxes: BoxConfig) -> float:
    """The same of a photo of which training images show pieces, at the largest scale that they do."""
    sure = photo.longer[photo.scores >= boxes.min_label]
    whole = _LEAST_REACH * min(width, height) / size
    return float(min([whole, *(sure / min(boxes.drawn_to, float(size))).tolist()]))


def shrunk_photos(
    items: Sequence[Item], photos: PhotoCache, folder: Path, ratio: Callable[[Item, int, int], float]
) -> list[Item]:
    """Items whose large photos are replaced by smaller ones, which are made where ``folder`` lacks them.

    Args:
        items: labelled objects, or photos with boxes.
        photos: reads the large ones.
        folder: of the small ones; a changed photo gets another one.
        ratio: of an item in a photo of that width and height; see `crop_ratio`.

    Raises:
        InputError: a photo cannot be read.
        CunetError: ``folder`` cannot be written.
    """
    least: dict[Path, float] = {}
    for item in items:
        width, height = photos.size(item.image)
        least[item.image] = min(ratio(item, width, height), least.get(item.image, math.inf))
    times = {path: max(math.frexp(value / _SPARE)[1] - 1, 0) for path, value in least.items()}
    large = [path for path, count in times.items() if count]
    with ThreadPoolExecutor(available_cpus()) as pool:
        made = pool.map(lambda path: _shrunk(path, times[path], photos, folder), large)
        small: Mapping[Path, tuple[Path, NDArray[np.float64]]] = dict(zip(large, made, strict=True))
    return [_moved(item, *small[item.image]) if item.image in small else item for item in items]


def _shrunk(path: Path, times: int, photos: PhotoCache, folder: Path) -> tuple[Path, NDArray[np.float64]]:
    """Path of the smaller photo, and its (2,) width and height by those of the large one."""
    width, height = photos.size(path)
    new = [max(side >> times, 1) for side in (width, height)]
    state = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\n{state.st_size}\n{state.st_mtime_ns}\n{times}".encode(errors="replace"))
    target = folder / key.hexdigest()[:20] / f"{path.stem}.jpg"
    if not target.is_file():
        options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
        data = cv2.imencode(".jpg", shrink(photos[path], *new), options)[1]
        write_bytes_atomic(target, data.tobytes(), overwrite=True)
    return target, np.array(new, np.float64) / [width, height]


def _moved(item: Item, image: Path, scale: NDArray[np.float64]) -> Item:
    """An item in a photo that is smaller by (2,) factors."""

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(((points.reshape(-1, 2) + 0.5) * scale - 0.5).reshape(points.shape))

    if isinstance(item, BoxedPhoto):
        moved: Item = replace(item, image=image, boxes=move(item.boxes), stated=None)  # type: ignore[call-arg]
        return moved
    sizes = {name: value * scale.prod() ** (1.0 if name == "area" else 0.5) for name, value in item.sizes.items()}
    return replace(
        item,
        image=image,
        points=move(item.points),
        others=move(item.others),
        given=None if item.given is None else move(item.given),
        sizes=sizes,
        stated=None,
    )
