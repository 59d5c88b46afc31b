"""MPII Human Pose: ``mpii_human_pose_v1_u12_1.mat``, or one of its two common conversions to JSON.

* A list of ``{"image", "center", "scale", "joints", "joints_vis"}`` (simple-baselines, HRNet, MMPose), one file a part:
  ``train.json``, ``valid.json``. A joint with ``joints_vis`` 0 is not labelled. Head boxes are in ``gt_valid.mat``
  (``headboxes_src``, in the order of ``valid.json``) beside it, where there is one.
* A list of ``{"img_paths", "objpos", "scale_provided", "joint_self", "isValidation"}`` (OpenPose, pytorch-pose), one
  file for both parts. A joint at (0, 0) is not labelled.

All count pixels from 1; what is read counts from 0. Joints that are hidden are labelled like others. Whole people come
with a centre and a scale, their height divided by 200 pixels: their box is the square of that side, 15 pixels times the
scale lower than the centre, as everybody who trains on MPII has it. The unit of PCKh is 0.6 of the diagonal of the head
box (Andriluka et al., CVPR 2014).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.data.examples import Example
from cunet_deploy.errors import InputError

__all__ = ["MAT_NAME", "read_mpii_json", "read_mpii_mat"]

MAT_NAME = "mpii_human_pose_v1_u12_1.mat"

_JOINTS = 16
_PERSON = 200.0
_LOWER = 15.0
_OF_HEAD_BOX = 0.6
_STILL_DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


def read_mpii_mat(path: Path, images: Path) -> list[Example]:
    """Everybody with labelled joints, in the file's order.

    Args:
        path: the file, as it is released.
        images: folder of the photos.

    Raises:
        InputError: the file holds something else.
    """
    try:
        release = require("scipy.io", extra="train").loadmat(path, struct_as_record=False, squeeze_me=True)["RELEASE"]
        return [example for photo in _several(release.annolist) for example in _people_of(photo, images)]
    except (*_STILL_DAMAGED, NotImplementedError) as error:
        raise InputError(f"{path}: is not the release of MPII Human Pose ({error!r}); download it again") from error


def _people_of(photo: Any, images: Path) -> Iterator[Example]:
    """The labelled people of one entry of ``annolist``."""
    people = _several(_field(photo, "annorect"))
    placed = [(center, float(person.scale)) for person in people if (center := _center(person)) is not None]
    boxes = [_square(center, scale) for center, scale in placed]
    for person in people:
        points = np.full((_JOINTS, 2), np.nan)
        for point in _several(_field(_field(person, "annopoints"), "point")):
            points[int(point.id)] = point.x - 1, point.y - 1
        if np.isnan(points).all():
            continue  # nobody of the test images has joints
        name, center = str(photo.image.name), _center(person)
        box = None if center is None else _square(center, float(person.scale))
        corners = [_field(person, side) for side in ("x1", "y1", "x2", "y2")]
        sizes = {} if any(value is None for value in corners) else {"head": _head_length(corners)}
        yield Example(images / name, points, Path(name).stem, np.reshape(boxes, (-1, 4)), box, sizes)


def read_mpii_json(path: Path, images: Path) -> dict[str, list[Example]]:
    """The people of a conversion by the part that they are in: the file's own name, or ``train`` and ``valid``.

    Args:
        path: the file.
        images: folder of the photos.

    Raises:
        InputError: the file holds something else.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if rows and "joint_self" in rows[0]:
            parts: dict[str, list[Example]] = {"train": [], "valid": []}
            for row in rows:
                parts["valid" if row.get("isValidation", 0) else "train"].append(_of_openpose(row, images))
        else:
            parts = {path.stem: [_of_baselines(row, images) for row in rows]}
    except _STILL_DAMAGED as error:
        raise InputError(
            f"{path}: is not MPII Human Pose as JSON ({error!r}); see the module for both forms"
        ) from error
    return {
        part: _with_heads(_with_others(examples), path.parent / f"gt_{part}.mat") for part, examples in parts.items()
    }


def _of_baselines(row: Mapping[str, Any], images: Path) -> Example:
    joints, visible = np.asarray(row["joints"], np.float64), np.asarray(row["joints_vis"], np.float64).reshape(-1)
    points = np.where(visible[:, None] > 0, joints.reshape(_JOINTS, 2) - 1, np.nan)
    return _example(row["image"], points, row["center"], row["scale"], images)


def _of_openpose(row: Mapping[str, Any], images: Path) -> Example:
    joints = np.asarray(row["joint_self"], np.float64).reshape(_JOINTS, 3)[:, :2]
    points = np.where((joints > 0).all(axis=1, keepdims=True), joints - 1, np.nan)
    return _example(row["img_paths"], points, row["objpos"], row["scale_provided"], images)


def _example(name: Any, points: NDArray[np.float64], center: Any, scale: Any, images: Path) -> Example:
    middle = np.asarray(center, np.float64).reshape(2) - 1
    return Example(images / str(name), points, Path(str(name)).stem, given=_square(middle, float(scale)))


def _with_others(examples: Sequence[Example]) -> list[Example]:
    """The examples with the boxes of everybody in their photos."""
    people: dict[Path, list[Example]] = {}
    for example in examples:
        people.setdefault(example.image, []).append(example)
    boxes = {image: np.stack([one.box for one in own]) for image, own in people.items()}
    return [replace(one, others=boxes[one.image]) for one in examples]


def _with_heads(examples: list[Example], path: Path) -> list[Example]:
    """The examples with the lengths of their heads, where a file has them."""
    if not path.is_file():
        return examples
    try:
        boxes = require("scipy.io", extra="train").loadmat(path)["headboxes_src"]
        lengths = _OF_HEAD_BOX * np.linalg.norm(boxes[1] - boxes[0], axis=0)
        return [replace(one, sizes={"head": float(length)}) for one, length in zip(examples, lengths, strict=True)]
    except (*_STILL_DAMAGED, NotImplementedError) as error:
        raise InputError(f"{path}: has no headboxes_src of {len(examples)} people ({error!r})") from error


def _square(center: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """(4,) xyxy box of a person."""
    x, y, half = center[0], center[1] + _LOWER * scale, _PERSON * scale / 2
    return np.array([x - half, y - half, x + half, y + half])


def _center(person: Any) -> NDArray[np.float64] | None:
    """0-based pixels; ``None`` for somebody without centre or scale, whom nobody labelled."""
    place = _field(person, "objpos")
    if place is None or _field(person, "scale") is None:
        return None
    return np.array([place.x, place.y], np.float64) - 1


def _head_length(corners: list[Any]) -> float:
    x0, y0, x1, y1 = (float(value) for value in corners)
    return _OF_HEAD_BOX * float(np.hypot(x1 - x0, y1 - y0))


def _field(struct: Any, name: str) -> Any:
    """A field of a Matlab struct; ``None`` where it is missing or empty."""
    value = getattr(struct, name, None)
    return None if isinstance(value, np.ndarray) and not value.size else value


def _several(value: Any) -> list[Any]:
    """The items of a Matlab array of structs, of which one alone comes without the array."""
    return [] if value is None else list(np.atleast_1d(np.asarray(value, object)))
