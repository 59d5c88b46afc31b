"""Photos with boxes: a ``faces.json`` lists for each photo of its folder the boxes of all objects in it.

``{"NAME.jpg": [[x, y, width, height, score], ...], ...}`` in 0-based pixels; the score says how sure the label is, 1
where a person drew it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from cunet_deploy._decode import decode_json
from cunet_deploy.data.examples import BoxedPhoto, Example
from cunet_deploy.data.layout import (
    BoxAround,
    Layout,
    face_stems,
    find_photo,
    is_file,
    photo_stem,
    read_label_json,
    refuse,
)
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton

__all__ = ["FILE_NAME", "LAYOUT", "BoxedPhoto", "read_face_boxes", "read_faces"]

FILE_NAME = "faces.json"

_WHAT = "a list of boxes, {photo: [[x, y, width, height, score], ...]}"


def read_faces(folder: Path, bad: list[str] | None = None) -> list[BoxedPhoto]:
    """Read a folder with a ``faces.json``, in order of file names.

    Args:
        folder: holds both.
        bad: where to note photos that are missing and boxes that cannot be; ``None`` makes the first one an error.

    Raises:
        InputError: the list is missing or not of this form, or a row is bad and ``bad`` is ``None``.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected photos and a {FILE_NAME} of the boxes in them")
    listed = sorted(read_face_boxes(path, bad).items())
    photo_of, photos = face_stems([photo_stem(name) for name, _ in listed]), []
    for name, rows in listed:
        image = find_photo(name, [folder])
        if not is_file(image):
            refuse(f"{image}: is missing, but {FILE_NAME} lists it", bad)
            continue
        boxes = np.array(rows, np.float64).reshape(-1, 5)
        xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], axis=1)
        photos.append(BoxedPhoto(image, xyxy, boxes[:, 4], photo_of[photo_stem(name)]))
    if not photos:
        raise InputError(f"{path}: lists no photo; is it the right folder?")
    return photos


def read_face_boxes(path: Path, bad: list[str] | None = None) -> Mapping[str, list[list[float]]]:
    """The boxes of each photo, as they stand in a ``faces.json``; without photos of which a box cannot be.

    Raises:
        InputError: it is not of this form, or a box is bad and ``bad`` is ``None``.
    """
    found: dict[str, list[list[float]]] = {}
    for name, raw in read_label_json(path, dict[str, msgspec.Raw], _WHAT).items():
        try:
            rows = decode_json(raw, list[list[float]])
            wrong = [row for row in rows if not _is_box(row)]
            if wrong:
                raise InputError(f"the box {wrong[0]} is not x, y, width and height, both positive, and a score")
        except InputError as error:
            refuse(f"{path}: {name}: {error}", bad)
        else:
            found[name] = rows
    return found


def _is_box(row: list[float]) -> bool:
    return len(row) == 5 and all(map(math.isfinite, row)) and row[2] > 0 and row[3] > 0


def _no_landmarks(folder: Path, skeleton: Skeleton, part: str, bad: list[str] | None) -> dict[str, list[Example]]:
    raise InputError(f'{folder}: has boxes and no landmarks; set skeleton = "box", or [data] layout to another')


def _read_boxes(
    folder: Path, part: str, bad: list[str] | None, around: BoxAround | None
) -> dict[str, list[BoxedPhoto]]:
    if around is not None:
        raise InputError(f'{folder}: has boxes and no landmarks to make others of; leave out boxes = "bodies"')
    return {"": read_faces(folder, bad)}


LAYOUT = Layout(
    "faces",
    FILE_NAME,
    lambda folder: (folder / FILE_NAME).is_file(),
    _no_landmarks,
    read_boxes=_read_boxes,
    has_landmarks=False,
)
