"""Crops for calibration, parity and golden inputs: of the user's photos, or drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.batches import plain_batches
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.readers import find_layout, is_data_set, read_examples, split_name
from cunet_deploy.drawn_faces import drawn_faces
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import Crop, CropRule, whole_image
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import read_image
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES
from cunet_deploy.preprocess import sample

__all__ = ["Photos", "crops_of_folder", "drawn_crops", "list_photos"]

T = TypeVar("T")


@dataclass(frozen=True)
class Photos:
    """Objects in photos; their crops are read when they are asked for.

    Attributes:
        items: the labelled objects, or the pictures that show one object each.
        rule: how they are cropped.
        whole: pictures are shown whole, as networks that find boxes are given them; else their middle squares.
    """

    items: tuple[Example, ...] | tuple[Path, ...]
    rule: CropRule
    whole: bool = False

    def __len__(self) -> int:
        return len(self.items)

    @property
    def examples(self) -> tuple[Example, ...]:
        """The labelled objects.

        Raises:
            InputError: the pictures have no labels.
        """
        labelled = tuple(item for item in self.items if isinstance(item, Example))
        if len(labelled) < len(self.items):
            folder = next(item.parent for item in self.items if isinstance(item, Path))
            raise InputError(f"{folder}: holds pictures without labels; expected photos as evaluate takes them")
        return labelled

    @property
    def checksum(self) -> str:
        """SHA-256 of the names and sizes of the files, the labels and the crop rule: other crops have another one."""
        digest = hashlib.sha256(repr(self.rule).encode())
        for item in self.items:
            path = item.image if isinstance(item, Example) else item
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            if isinstance(item, Example):
                digest.update(item.points.tobytes() + (b"" if item.given is None else item.given.tobytes()))
        return digest.hexdigest()

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop - start, size, size, 3) uint8 crops of the objects from ``start`` to ``stop``.

        Raises:
            InputError: a picture cannot be read.
        """
        part = self.items[start:stop]
        examples = [item for item in part if isinstance(item, Example)]
        if examples:
            return np.concatenate([b.images for b in plain_batches(examples, self.rule, PhotoCache(0), size=32)])
        paths = [item for item in part if isinstance(item, Path)]
        return np.stack([_square(read_image(path), self.rule.size, whole=self.whole) for path in paths])


def list_photos(folder: Path, manifest: Manifest, limit: int) -> Photos:
    """Up to ``limit`` objects of a folder, evenly spread over its files in order of name.

    A data set with labels, or a part of it (see `cunet_deploy.data.readers`), gives crops of the labelled boxes. In any
    other folder each picture is taken as showing one object that fills it: its middle square is the crop. A network
    that finds boxes is given whole pictures of any folder.

    Raises:
        InputError: the folder is missing or holds no picture, or a label file cannot be read.
    """
    if not is_data_set(folder):
        raise InputError(f"{folder}: is not a folder; expected photos, with .pts files beside them or cropped already")
    rule = CropRule(manifest.crop.size, manifest.crop.padding)
    whole = manifest.boxes is not None
    if find_layout(split_name(folder)[0]) is not None and not whole:
        return Photos(tuple(_spread(read_examples(folder, manifest.skeleton), limit)), rule)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: holds no picture; expected some of {', '.join(IMAGE_SUFFIXES)}")
    return Photos(tuple(_spread(paths, limit)), rule, whole)


def crops_of_folder(folder: Path, manifest: Manifest, limit: int) -> NDArray[np.uint8]:
    """(N, size, size, 3) uint8 crops of up to ``limit`` objects of a folder; see `list_photos`.

    Raises:
        InputError: the folder is missing or holds no picture, or one that cannot be read.
    """
    photos = list_photos(folder, manifest, limit)
    return photos.read(0, len(photos))


def _spread(items: list[T], limit: int) -> list[T]:
    """Up to ``limit`` items at even distances."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int))
    return [items[index] for index in chosen]


def _square(image: NDArray[np.uint8], size: int, *, whole: bool) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if whole:
        return sample(image, whole_image(width, height, size))
    return sample(image, Crop(((width - 1) / 2, (height - 1) / 2), float(min(height, width)), size))


def drawn_crops(manifest: Manifest, count: int) -> NDArray[np.uint8]:
    """Drawings of faces, the same on every call: inputs that may be shipped, for self-tests.

    Returns:
        (count, size, size, 3) uint8.
    """
    return drawn_faces(manifest.crop.size, count)
