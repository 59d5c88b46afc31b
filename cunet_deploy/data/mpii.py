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

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._decode import decode_json
from cunet_deploy.data.examples import Example
from cunet_deploy.data.json_parts import LABEL_FOLDERS, json_files
from cunet_deploy.data.layout import (
    Layout,
    as_skeleton,
    find_photo,
    photo_stem,
    read_label_json,
    refuse,
    tell_placeholders,
    without_placeholders,
)
from cunet_deploy.data.matlab import read_mat
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import MPII16, Skeleton

__all__ = ["LAYOUT", "MAT_NAME", "read_mpii_json", "read_mpii_mat"]

MAT_NAME = "mpii_human_pose_v1_u12_1.mat"

_JOINTS = 16
_PERSON = 200.0
_LOWER = 15.0
_OF_HEAD_BOX = 0.6
_STILL_DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
_WHAT = "MPII Human Pose as JSON"

FloatArray = NDArray[np.float64]
T = TypeVar("T")


class _Baseline(msgspec.Struct, gc=False):
    """A row of the conversion of simple-baselines."""

    image: str
    center: list[float]
    scale: float
    joints: list[list[float]]
    joints_vis: list[float | bool | list[float | bool]]

    @property
    def points(self) -> FloatArray:
        """(16, 2) as the file counts; NaN where not labelled."""
        visible = np.asarray(self.joints_vis, np.float64).reshape(_JOINTS, -1)[:, :1]
        return np.where(visible > 0, np.asarray(self.joints, np.float64).reshape(_JOINTS, 2), np.nan)


class _OpenPose(msgspec.Struct, gc=False):
    """A row of the conversion of OpenPose."""

    image: str = msgspec.field(name="img_paths")
    center: list[float] = msgspec.field(name="objpos")
    scale: float = msgspec.field(name="scale_provided")
    joint_self: list[list[float]]
    validation: float | bool | None = msgspec.field(name="isValidation", default=None)

    @property
    def points(self) -> FloatArray:
        """(16, 2) as the file counts; NaN where not labelled."""
        joints = np.asarray(self.joint_self, np.float64).reshape(_JOINTS, 3)[:, :2]
        return np.where((joints > 0).all(axis=1, keepdims=True), joints, np.nan)


def read_mpii_mat(path: Path, images: Path, bad: list[str] | None = None) -> list[Example]:
    """Everybody with labelled joints, in the file's order.

    Args:
        path: the file, as it is released.
        images: folder of the photos.
        bad: where to note entries that cannot be used; ``None`` makes the first one an error.

    Raises:
        InputError: the file holds something else, or an entry is bad and ``bad`` is ``None``.
    """
    what = "the release of MPII Human Pose"
    release = read_mat(path, "RELEASE", what)
    try:
        entries = _several(release[0]["annolist"])
    except _STILL_DAMAGED as error:
        raise InputError(f"{path}: is not {what} ({error!r}); download it again") from error
    found: list[Example] = []
    for number, photo in enumerate(entries, 1):
        where = f"{path}, photo {number}"
        try:
            found.extend(_people_of(photo, images, where))
        except _STILL_DAMAGED as error:
            refuse(f"{where}: is not as MPII Human Pose has it ({error!r})", bad)
    if not found:
        raise InputError(f"{path}: is not {what}: nobody has joints; download it again")
    return found


def _people_of(photo: Any, images: Path, where: str) -> list[Example]:
    """The labelled people of one entry of ``annolist``."""
    people = _several(_field(photo, "annorect"))
    squares = [_square_of(person) for person in people]
    others = np.reshape([square for square in squares if square is not None], (-1, 4))
    found = []
    for person, square in zip(people, squares, strict=True):
        points = np.full((_JOINTS, 2), np.nan)
        for point in _several(_field(_one(_field(person, "annopoints")), "point")):
            points[int(_number(point["id"]))] = _number(point["x"]) - 1, _number(point["y"]) - 1
        if np.isnan(points).all():
            continue  # nobody of the test images has joints
        name = str(_one(photo["image"])["name"])
        corners = [_field(person, side) for side in ("x1", "y1", "x2", "y2")]
        sizes = {} if any(value is None for value in corners) else {"head": _head_length(corners)}
        found.append(Example(images / name, points, Path(name).stem, others, square, sizes, where=where))
    return found


def read_mpii_json(path: Path, images: Path, bad: list[str] | None = None) -> dict[str, list[Example]]:
    """The people of a conversion by the part that they are in: the file's own name, or ``train`` and ``valid``.

    Args:
        path: the file.
        images: folder of the photos.
        bad: where to note rows that cannot be used; ``None`` makes the first one an error.

    Raises:
        InputError: the file holds something else, or a row is bad and ``bad`` is ``None``.
    """
    rows, placeholders = read_label_json(path, list[msgspec.Raw], _WHAT), [0]
    if rows and b'"joint_self"' in bytes(rows[0]):
        parts: dict[str, list[Example | None]] = {"train": [], "valid": []}
        for number, raw in enumerate(rows, 1):
            row, example = _example(raw, _OpenPose, images, f"{path}, row {number}", bad, placeholders)
            parts["valid" if row is not None and row.validation else "train"].append(example)
    else:
        parts = {
            path.stem: [
                _example(raw, _Baseline, images, f"{path}, row {number}", bad, placeholders)[1]
                for number, raw in enumerate(rows, 1)
            ]
        }
    tell_placeholders(path, sum(placeholders))
    found = {part: _with_heads(people, path.parent / f"gt_{part}.mat") for part, people in parts.items()}
    return {part: _with_others([one for one in people if one is not None]) for part, people in found.items()}


Row = TypeVar("Row", _Baseline, _OpenPose)


def _example(
    raw: msgspec.Raw, kind: type[Row], images: Path, where: str, bad: list[str] | None, placeholders: list[int]
) -> tuple[Row | None, Example | None]:
    """A row and its person; ``None`` where it cannot be used."""
    row: Row | None = None
    try:
        row = decode_json(raw, kind)
        if len(row.center) != 2 or row.scale <= 0:
            raise InputError(
                f"center {row.center} and scale {row.scale} place nobody; expected x, y and a positive scale"
            )
        points, count = without_placeholders(row.points)
    except (InputError, ValueError, TypeError) as error:
        refuse(f"{where}: {error}", bad)
        return row, None
    placeholders.append(count)
    box = _square(np.asarray(row.center, np.float64) - 1, row.scale)
    if not np.isfinite(box).all():
        refuse(f"{where}: center {row.center} and scale {row.scale} place nobody", bad)
        return row, None
    name = row.image
    return row, Example(find_photo(name, [images]), points - 1, photo_stem(name), given=box, where=where)


def _with_others(examples: Sequence[Example]) -> list[Example]:
    """The examples with the boxes of everybody in their photos."""
    people: dict[Path, list[Example]] = {}
    for example in examples:
        people.setdefault(example.image, []).append(example)
    boxes = {image: np.stack([one.box for one in own]) for image, own in people.items()}
    return [replace(one, others=boxes[one.image]) for one in examples]


def _with_heads(examples: Sequence[Example | None], path: Path) -> list[Example | None]:
    """The examples with the lengths of their heads, where a file has them."""
    if not path.is_file():
        return list(examples)
    boxes = read_mat(path, "headboxes_src", "the head boxes of MPII Human Pose")
    try:
        lengths = _OF_HEAD_BOX * np.linalg.norm(np.asarray(boxes[1] - boxes[0], np.float64), axis=0)
        return [
            None if one is None else replace(one, sizes={"head": float(length)})
            for one, length in zip(examples, lengths, strict=True)
        ]
    except _STILL_DAMAGED as error:
        raise InputError(f"{path}: has no headboxes_src of {len(examples)} people ({error!r})") from error


def _square(center: FloatArray, scale: float) -> FloatArray:
    """(4,) xyxy box of a person."""
    x, y, half = float(center[0]), float(center[1]) + _LOWER * scale, _PERSON * scale / 2
    return np.array([x - half, y - half, x + half, y + half])


def _square_of(person: Any) -> FloatArray | None:
    """(4,) box; ``None`` for somebody without centre or scale, whom nobody labelled."""
    place, scale = _one(_field(person, "objpos")), _field(person, "scale")
    if place is None or scale is None:
        return None
    return _square(np.array([_number(place["x"]), _number(place["y"])]) - 1, _number(scale))


def _head_length(corners: list[Any]) -> float:
    x0, y0, x1, y1 = (_number(value) for value in corners)
    return _OF_HEAD_BOX * float(np.hypot(x1 - x0, y1 - y0))


def _number(value: Any) -> float:
    return float(np.asarray(value).item())


def _field(struct: Any, name: str) -> Any:
    """A field of a struct; ``None`` where it is missing or empty."""
    value = struct.get(name) if isinstance(struct, dict) else None
    return None if value is None or not len(value) else value


def _several(value: Any) -> list[Any]:
    """The items of an array of structs, of which there may be none."""
    return value if isinstance(value, list) else []


def _one(value: Any) -> Any:
    """The item of an array of one struct; ``None`` where there is none."""
    return value[0] if isinstance(value, list) and value else None


def _mat(folder: Path) -> Path | None:
    """The release of MPII in a folder."""
    places = (folder / place / MAT_NAME for place in LABEL_FOLDERS)
    return next((path for path in places if path.is_file()), None)


def _is_conversion(begin: bytes) -> bool:
    return begin.startswith(b"[") and any(key in begin for key in (b'"joints"', b'"joints_vis"', b'"joint_self"'))


def _read(folder: Path, skeleton: Skeleton, part: str, bad: list[str] | None) -> dict[str, list[Example]]:
    mat, images = _mat(folder), folder / "images"
    if mat is not None:
        return {"": as_skeleton(read_mpii_mat(mat, images, bad), MPII16, skeleton, mat)}
    files = json_files(folder, _is_conversion)
    if not files:
        raise InputError(
            f"{folder}: holds no JSON file of mpii labels; expected one in annotations or beside the photos"
        )
    found: dict[str, list[Example]] = {}
    for path in [files[part]] if part in files else files.values():
        for name, examples in read_mpii_json(path, images, bad).items():
            found.setdefault(name, []).extend(as_skeleton(examples, MPII16, skeleton, path))
    return found


LAYOUT = Layout(
    "mpii",
    f"{MAT_NAME} or its conversions to JSON",
    lambda folder: _mat(folder) is not None or bool(json_files(folder, _is_conversion)),
    _read,
    skeleton=MPII16,
)
