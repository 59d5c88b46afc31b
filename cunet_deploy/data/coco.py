"""COCO keypoints: one JSON file with ``images``, ``annotations`` and ``categories``, as many tools export it.

``keypoints`` of an annotation are x, y, v of each landmark that its category names; v = 0 is not labelled, 1 is
labelled but hidden, 2 is visible: 1 and 2 count alike. People without keypoints and crowds are nobody's background.

Keypoints count pixels from 0 and mean the middle of one. Boxes are ``[x, y, width, height]`` from the photo's corner,
which is half a pixel before the middle of its first pixel.

Where boxes are wanted, those of annotations with keypoints are sure (``score``, where it is given, says how sure), and
those of others are unknown unless they have a ``score``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._decode import decode_json
from cunet_deploy.data.examples import BoxedPhoto, Example
from cunet_deploy.data.json_parts import json_files, photo_folders
from cunet_deploy.data.layout import (
    BoxAround,
    Layout,
    find_photo,
    known_in,
    photo_stem,
    read_label_json,
    refuse,
    tell_placeholders,
    without_placeholders,
)
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton, map_landmarks

__all__ = ["LAYOUT", "read_coco", "read_coco_boxes"]

_WHAT = "COCO keypoints"

FloatArray = NDArray[np.float64]
T = TypeVar("T")
Id = int | str | float | None


class _File(msgspec.Struct, gc=False):
    """The rows as they stand in the file: each is decoded by itself, so that a bad one does not spoil the others."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


class _Category(msgspec.Struct, gc=False):
    id: Id
    name: str = ""
    keypoints: list[str] | None = None


class _Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str
    width: float | None = None
    height: float | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id = None
    id: Id = None
    keypoints: list[float] | None = None
    bbox: list[float] | None = None
    area: float | None = None
    iscrowd: bool | int | None = None
    score: float | None = None


@dataclass(slots=True)
class _Photo:
    """A photo, and the rows about it."""

    image: Path
    photo: str
    stated: tuple[int, int] | None
    boxes: list[Sequence[float]]
    scores: list[float]
    stacked: FloatArray | None = None

    @property
    def others(self) -> FloatArray:
        """(M, 4) boxes of everybody in it; one array for all that ask."""
        if self.stacked is None:
            self.stacked = np.array(self.boxes, np.float64).reshape(-1, 4)
        return self.stacked


@dataclass(slots=True)
class _Person:
    """Object with keypoints."""

    photo: _Photo
    where: str
    category: str
    keypoints: FloatArray
    box: Sequence[float] | None
    area: float | None


def read_coco(path: Path, folders: Sequence[Path], skeleton: Skeleton, bad: list[str] | None = None) -> list[Example]:
    """Everything with keypoints, in the file's order; landmarks are matched by the names that the categories give.

    Args:
        path: the file.
        folders: where to look for the photos; the first that has one counts.
        skeleton: whose landmarks are wanted.
        bad: where to note rows that cannot be used; ``None`` makes the first one an error.

    Raises:
        InputError: the file holds something else, or has no landmark of the skeleton, or a row is bad and ``bad`` is
            ``None``.
    """
    categories, _, people = _read(path, folders, bad)
    usable = _in_common(categories, skeleton, path)
    chosen = [person for person in people if person.category in usable]
    points: list[FloatArray] = [np.zeros(0)] * len(chosen)
    known = {key: known_in(categories[key], skeleton) for key in usable}
    placeholders = 0
    for key in usable:  # all of a category at once: one by one it takes ten times as long
        rows = [index for index, person in enumerate(chosen) if person.category == key]
        if not rows:
            continue
        table = np.stack([chosen[row].keypoints for row in rows])
        own, count = without_placeholders(np.where(table[:, :, 2:] > 0, table[:, :, :2], np.nan))
        placeholders += count
        for row, mapped in zip(rows, map_landmarks(own, categories[key], skeleton), strict=True):
            points[row] = mapped
    tell_placeholders(path, placeholders)
    nowhere = [np.nan] * 4
    boxes = np.array([nowhere if person.box is None else person.box for person in chosen], np.float64)
    return [
        Example(
            person.photo.image,
            own,
            person.photo.photo,
            person.photo.others,
            None if person.box is None else box,
            {} if person.area is None else {"area": person.area},
            person.photo.stated,
            None if known[person.category].all() else known[person.category],
            f"{path}, {person.where}",
        )
        for person, own, box in zip(chosen, points, boxes.reshape(-1, 4), strict=True)
    ]


def read_coco_boxes(
    path: Path, folders: Sequence[Path], bad: list[str] | None = None, around: BoxAround | None = None
) -> list[BoxedPhoto]:
    """Every photo with the boxes of everything in it that a category with keypoints names; see `read_coco`.

    Args:
        path: as there.
        folders: as there.
        bad: as there.
        around: makes the box of an object from its keypoints, where it has any, in place of its ``bbox``.
    """
    _, photos, _ = _read(path, folders, bad, around)
    return [
        BoxedPhoto(photo.image, photo.others, np.array(photo.scores, np.float64), photo.photo, photo.stated)
        for photo in photos
        if photo.boxes
    ]


def _in_common(categories: dict[str, Skeleton], skeleton: Skeleton, path: Path) -> list[str]:
    """The categories that have a landmark of a skeleton.

    Raises:
        InputError: none has.
    """
    usable, refused = [], None
    for key, own in categories.items():
        try:
            known_in(own, skeleton, path)
        except InputError as error:
            refused = error
        else:
            usable.append(key)
    if refused is not None and not usable:
        raise refused
    return usable


def _read(
    path: Path, folders: Sequence[Path], bad: list[str] | None, around: BoxAround | None = None
) -> tuple[dict[str, Skeleton], list[_Photo], list[_Person]]:
    """Categories that name keypoints by their id, all photos, and all people with keypoints."""
    table = read_label_json(path, _File, _WHAT)
    categories: dict[str, Skeleton] = {}
    others: set[str] = set()
    for where, category in _rows(path, "category", table.categories, _Category, bad):
        if not category.keypoints:
            others.add(_key(category.id))
        elif len(set(category.keypoints)) < len(category.keypoints):
            refuse(f"{where}: names a keypoint twice", bad)
        else:
            categories[_key(category.id)] = Skeleton(category.name, tuple(category.keypoints), (), ())
    if not categories:
        raise InputError(f"{path}: no category names keypoints; is it the file of boxes or captions?")
    if around is not None:
        for own in categories.values():  # keypoints of something else are refused once, not with every row
            around(np.zeros((len(own), 2)), own)
    photos: dict[str, _Photo] = {}
    for where, image in _rows(path, "image", table.images, _Image, bad):
        key = _key(image.id)
        if key in photos:
            refuse(f"{where}: id {image.id!r} is that of another image, too", bad)
            continue
        name = image.file_name
        photos[key] = _Photo(find_photo(name, folders), photo_stem(name), _size(image), [], [])
    people: list[_Person] = []
    for where, row in _rows(path, "annotation", table.annotations, _Annotation, bad):
        try:
            if row.category_id is not None and _key(row.category_id) in others:
                continue
            person = _person(row, categories, photos, around)
        except InputError as error:
            refuse(f"{where}: {error}", bad)
            continue
        if person is not None:
            people.append(person)
    return categories, list(photos.values()), people


def _rows(
    path: Path, what: str, rows: list[msgspec.Raw], kind: type[T], bad: list[str] | None
) -> Iterator[tuple[str, T]]:
    """The rows that are of a type, with their place in the file."""
    for number, raw in enumerate(rows, 1):
        where = f"{path}, {what} {number}"
        try:
            row = decode_json(raw, kind)
        except InputError as error:
            refuse(f"{where}: {error}", bad)
        else:
            yield where, row


def _person(
    row: _Annotation, categories: dict[str, Skeleton], photos: dict[str, _Photo], body: BoxAround | None
) -> _Person | None:
    """Add a row's box to its photo; the person where it has labelled keypoints and is no crowd.

    Raises:
        InputError: the row contradicts itself or the others; the message does not say which it is.
    """
    own = "" if row.id is None else f"id {row.id!r} "
    photo = photos.get(_key(row.image_id))
    if photo is None:
        raise InputError(f"{own}is of image_id {row.image_id!r}, and no image has that id")
    category = _key(row.category_id) if row.category_id is not None or len(categories) > 1 else next(iter(categories))
    if category not in categories:
        raise InputError(f"{own}is of category_id {row.category_id!r}, and no category has that id")
    expected, numbers = 3 * len(categories[category]), row.keypoints or []
    if len(numbers) not in (0, expected):
        raise InputError(f"{own}has {len(numbers)} numbers in keypoints, expected {expected}")
    labelled = any(flag > 0 for flag in numbers[2::3])
    table = np.array(numbers, np.float64).reshape(-1, 3)
    box = _box(row.bbox, own)
    around = box if box is not None else _around(table)
    if body is not None and not row.iscrowd and _around(table) is not None:
        around = body(_labelled(table), categories[category]).tolist()
    if around is not None:
        photo.boxes.append(around)
        sure = float(labelled) if row.score is None else row.score
        photo.scores.append(0.0 if row.iscrowd else min(max(sure, 0.0), 1.0))
    if not labelled or row.iscrowd:
        return None
    return _Person(
        photo, f"annotation {own}".strip(), category, table, box, row.area if row.area and row.area > 0 else None
    )


def _box(bbox: list[float] | None, own: str) -> Sequence[float] | None:
    """An xyxy box; ``None`` where there is none."""
    if not bbox or not any(bbox):
        return None
    if len(bbox) != 4 or bbox[2] <= 0 or bbox[3] <= 0:
        raise InputError(f"{own}has the bbox {bbox}; expected x, y, width and height, the last two positive")
    x, y, width, height = bbox
    return x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5


def _around(table: FloatArray) -> Sequence[float] | None:
    """The tight xyxy box of the labelled of (K, 3) keypoints; ``None`` where none is."""
    seen = _labelled(table)
    seen = seen[np.isfinite(seen).all(axis=1)]
    return [*seen.min(axis=0).tolist(), *seen.max(axis=0).tolist()] if len(seen) else None


def _labelled(table: FloatArray) -> FloatArray:
    """(K, 2) points of (K, 3) keypoints; NaN where one is not labelled."""
    return without_placeholders(np.where(table[:, 2:] > 0, table[:, :2], np.nan))[0]


def _size(image: _Image) -> tuple[int, int] | None:
    """Width and height; ``None`` where the file does not say."""
    if not image.width or not image.height or min(image.width, image.height) <= 0:
        return None
    return round(image.width), round(image.height)


def _key(identity: Id) -> str:
    """An id as text: numbers and their texts name the same."""
    if isinstance(identity, float) and identity.is_integer():
        identity = int(identity)
    return str(identity).strip()


def _is_coco(begin: bytes) -> bool:
    keys = (b'"info"', b'"licenses"', b'"images"', b'"annotations"', b'"categories"')
    return begin.startswith(b"{") and any(key in begin for key in keys)


def _files(folder: Path, part: str) -> dict[str, Path]:
    files = json_files(folder, _is_coco)
    if not files:
        raise InputError(
            f"{folder}: holds no JSON file of coco labels; expected one in annotations or beside the photos"
        )
    return {part: files[part]} if part in files else files


def _read_parts(folder: Path, skeleton: Skeleton, part: str, bad: list[str] | None) -> dict[str, list[Example]]:
    files = _files(folder, part).items()
    return {name: read_coco(path, photo_folders(folder, name), skeleton, bad) for name, path in files}


def _read_box_parts(
    folder: Path, part: str, bad: list[str] | None, around: BoxAround | None
) -> dict[str, list[BoxedPhoto]]:
    files = _files(folder, part).items()
    return {name: read_coco_boxes(path, photo_folders(folder, name), bad, around) for name, path in files}


LAYOUT = Layout(
    "coco",
    "JSON files of COCO keypoints",
    lambda folder: bool(json_files(folder, _is_coco)),
    _read_parts,
    read_boxes=_read_box_parts,
)
