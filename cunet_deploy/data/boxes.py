"""Photos with boxes, from lists of boxes or from labelled landmarks, and photos without what is to be found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.bodies import body_box, has_joints
from cunet_deploy.data.examples import BoxedPhoto, Example
from cunet_deploy.data.faces import FILE_NAME, read_faces
from cunet_deploy.data.faces import LAYOUT as FACES
from cunet_deploy.data.lsp import read_lsp
from cunet_deploy.data.readers import LAYOUTS, find_layout, get_layout, read_examples, read_part, split_name
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import landmark_boxes
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES

__all__ = ["read_backgrounds", "read_boxes"]

_NECK, _HEAD_TOP = 12, 13  # of the joints of Leeds Sports Pose
_HEAD = 1.0
"""Half the side of the square around a head, in lengths from neck to top: hair and chin are well inside."""
_BODY = np.array([-3.0, -0.5, 4.0, 10.0])
"""Area in which the body of a face may be: from the left top corner of the face's box, in its widths and heights."""


def read_boxes(
    dataset: Path, layout: str | None = None, bad: list[str] | None = None, *, bodies: bool = False
) -> list[BoxedPhoto]:
    """Photos with the boxes of all that is labelled in them.

    Where a layout has boxes of its own (``faces.json``, COCO), it is those, with their scores, and nobody in a photo is
    left out. Of other labelled landmarks it is the tight boxes around them, and the share of an object's landmarks that
    is labelled is its score.

    Args:
        dataset: a folder, perhaps with a part of it.
        layout: how the folder is laid out; ``None`` looks at what lies in it, a ``faces.json`` first.
        bad: where to note files and rows that cannot be used; ``None`` makes the first one an error.
        bodies: the objects are people, and wherever their joints are labelled their boxes are made from these, to hair,
            hands and shoes; see `cunet_deploy.data.bodies`.

    Raises:
        InputError: the folder is missing or holds something else, or a file in it is bad and ``bad`` is ``None``, or
            boxes of bodies are wanted of what has no joints.
    """
    folder = split_name(dataset)[0]
    row = get_layout(layout or find_layout(folder, of_boxes=True) or FACES.name)
    if row.read_boxes is not None:
        read, around = row.read_boxes, body_box if bodies else None
        photos = read_part(dataset, lambda own, part: read(own, part, bad, around))
        if not photos:
            raise InputError(f"{dataset}: holds no photo with a box; check its labels")
        return photos
    if row.skeleton is None:
        able = ", ".join(other.name for other in LAYOUTS.values() if other.skeleton or other.read_boxes)
        raise InputError(f"{dataset}: boxes can be made of {able} only; or list them in a {FILE_NAME}")
    box_of = partial(body_box, skeleton=row.skeleton) if bodies else _tight
    return _by_photo(
        read_examples(dataset, row.skeleton, row.name, bad),
        lambda example: (box_of(example.points), float(np.isfinite(example.points).all(axis=1).mean())),
    )


def read_backgrounds(folder: Path, *, people: bool = False) -> list[BoxedPhoto]:
    """Photos of a folder that show what is not to be found, in order of file names.

    Nothing is said about parts of them, which have a score of 0. Where faces are to be found and the folder has body
    joints in the layout of Leeds Sports Pose, that is the squares around heads. Where the folder has a ``faces.json``,
    it is the boxes in it; and where people are to be found, the bodies that belong to them. Of the
    joints of Leeds Sports Pose and MPII it is the boxes of whole bodies, of COCO those of its file, and of other
    labelled landmarks those around them.

    Args:
        folder: holds the photos; perhaps with a part of it.
        people: they are to be found, not faces.

    Raises:
        InputError: the folder is missing or holds no photo.
    """
    if not people and (folder / "joints.mat").is_file():
        with_heads = [e for e in read_lsp(folder) if np.isfinite(e.points[[_NECK, _HEAD_TOP]]).all()]
        return _by_photo(with_heads, lambda example: (_head(example.points), 0.0))
    if (folder / FILE_NAME).is_file():
        unknown: Callable[[NDArray[np.float64]], NDArray[np.float64]] = _bodies if people else _keep
        return [replace(p, boxes=unknown(p.boxes), scores=np.zeros(len(p.boxes))) for p in read_faces(folder)]
    if people and (layout := find_layout(split_name(folder)[0])) is not None:
        skeleton = get_layout(layout).skeleton
        photos = read_boxes(folder, layout, bodies=skeleton is not None and has_joints(skeleton))
        return [replace(photo, scores=np.zeros(len(photo.boxes))) for photo in photos]
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; expected photos without what is to be found")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: holds no photo; expected some of {', '.join(IMAGE_SUFFIXES)}")
    return [BoxedPhoto(path, np.zeros((0, 4)), np.zeros(0), path.stem) for path in paths]


def _by_photo(
    examples: Sequence[Example], box: Callable[[Example], tuple[NDArray[np.float64], float]]
) -> list[BoxedPhoto]:
    """The objects of each photo together, in the order of the first of each."""
    groups: dict[Path, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.image, []).append(example)
    photos = []
    for path, own in groups.items():
        boxes, scores = zip(*(box(example) for example in own), strict=True)
        photos.append(BoxedPhoto(path, np.array(boxes, np.float64), np.array(scores, np.float64), own[0].photo))
    return photos


def _tight(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return landmark_boxes(points[np.isfinite(points).all(axis=1)])


def _head(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) square around neck and head top."""
    neck, top = points[_NECK], points[_HEAD_TOP]
    middle, half = (neck + top) / 2, _HEAD * float(np.linalg.norm(top - neck))
    return np.concatenate([middle - half, middle + half])


def _keep(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes


def _bodies(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) boxes of faces to where their bodies may be."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.asarray(np.tile(boxes[:, :2], 2) + _BODY * sides)
