"""The user's own points: a ``points.csv`` or ``points.json`` beside the photos.

The table has a line for each object, which may share its photo with others::

    image,nose_x,nose_y,tail_x,tail_y
    cage/0001.jpg,103.5,88,241,90.25
    cage/0002.jpg,97,91.5,,

``image`` (or ``file``) is relative to the folder; ``NAME_x`` and ``NAME_y`` stand for each landmark of the skeleton. An
empty cell is a landmark that is not labelled, and so is one at (-1, -1) or (0, 0). ``x0,y0,x1,y1`` may give a box to
crop around in place of the tight one; other columns are left alone, so what ``infer`` writes for a folder of photos can
be corrected and read. The JSON is a list of ``{"image": ..., "points": {"nose": [x, y], ...}, "box": [x0, y0, x1,
y1]}``, the box as you like.

Pixels count from 0 at the centre of the top-left one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._decode import decode_json, read_table, read_text
from cunet_deploy.data.examples import Example
from cunet_deploy.data.layout import (
    Layout,
    find_photo,
    read_label_json,
    refuse,
    tell_placeholders,
    without_placeholders,
)
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton

__all__ = ["FILE_NAMES", "LAYOUT", "read_points"]

FILE_NAMES = ("points.csv", "points.json")

_BOX = ("x0", "y0", "x1", "y1")

Row = tuple[str, str, NDArray[np.float64], "NDArray[np.float64] | None"]
"""Place in the file, name of the photo, (K, 2) points and (4,) box."""


class _Object(msgspec.Struct, gc=False):
    """An object of a ``points.json``."""

    image: str
    points: dict[str, tuple[float | None, float | None] | None]
    box: tuple[float, float, float, float] | None = None


def read_points(path: Path, skeleton: Skeleton, bad: list[str] | None = None) -> list[Example]:
    """The objects of a ``points.csv`` or ``points.json``, in its order.

    Args:
        path: the file; the photos are named relative to its folder.
        skeleton: whose landmarks the file names.
        bad: where to note lines that cannot be used; ``None`` makes the first one an error.

    Raises:
        InputError: the file holds something else, lacks a landmark of the skeleton, or a line is bad and ``bad`` is
            ``None``.
    """
    read = _of_csv if path.suffix.lower() == ".csv" else _of_json
    found, placeholders = [], 0
    try:
        for where, name, given, box in read(path, skeleton, bad):
            points, count = without_placeholders(given)
            placeholders += count
            if box is not None and not (box[2:] > box[:2]).all():
                refuse(f"{path}, {where}: the box {box.tolist()} has no area; expected x0 < x1 and y0 < y1", bad)
            elif np.isfinite(points).any():  # else a photo without an object, as ``infer`` lists them
                image = find_photo(name, [path.parent])
                photo = Path(name.replace("\\", "/")).with_suffix("").as_posix()
                found.append(Example(image, points, photo, given=box, where=f"{path}, {where}"))
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a table of points") from error
    tell_placeholders(path, placeholders)
    boxes: dict[Path, list[NDArray[np.float64]]] = {}
    for example in found:
        boxes.setdefault(example.image, []).append(example.box)
    return [replace(one, others=np.stack(boxes[one.image])) for one in found]


def _of_csv(path: Path, skeleton: Skeleton, bad: list[str] | None) -> Iterator[Row]:
    table = read_table(read_text(path, "a table of points", InputError))
    columns = list(table.fieldnames or ())
    photo = next((name for name in ("image", "file") if name in columns), None)
    wanted = [f"{name}_{axis}" for name in skeleton.landmarks for axis in "xy"]
    missing = [name for name in wanted if name not in columns]
    if photo is None or missing:
        lacking = missing[0] if photo else "image"
        raise InputError(f"{path}: has no column {lacking!r}; expected image, {', '.join(wanted[:4])}, ...")
    for row in table:
        where = f"line {table.line_num}"
        try:
            cells = [_number(row[name]) for name in wanted]
            box = [_number(row[name]) for name in _BOX] if set(_BOX) <= set(columns) else [np.nan]
            name = Path(row[photo].strip())
        except (ValueError, AttributeError):
            refuse(f"{path}, {where}: a cell is no number; leave cells of unlabelled landmarks empty", bad)
            continue
        if not name.name:
            refuse(f"{path}, {where}: names no photo", bad)
            continue
        points = _whole(np.reshape(cells, (-1, 2)))
        yield where, row[photo].strip(), points, np.array(box) if np.isfinite(box).all() else None


def _of_json(path: Path, skeleton: Skeleton, bad: list[str] | None) -> Iterator[Row]:
    what = 'a list of {"image": ..., "points": {...}}'
    for number, raw in enumerate(read_label_json(path, list[msgspec.Raw], what), 1):
        where = f"object {number}"
        try:
            row = decode_json(raw, _Object)
        except InputError as error:
            refuse(f'{path}, {where}: expected "image" and "points" of [x, y] by name ({error})', bad)
            continue
        unknown = sorted(set(row.points) - set(skeleton.landmarks))
        if unknown:
            known = ", ".join(skeleton.landmarks)
            refuse(f"{path}, {where}: {unknown[0]!r} is no landmark; expected some of {known}", bad)
            continue
        if not Path(row.image).name:
            refuse(f"{path}, {where}: names no photo", bad)
            continue
        cells = [row.points.get(name) or (np.nan, np.nan) for name in skeleton.landmarks]
        points = _whole(np.array(cells, np.float64).reshape(-1, 2))
        yield where, row.image, points, None if row.box is None else np.array(row.box)


def _whole(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of which half is missing are not labelled."""
    return np.where(np.isfinite(points).all(axis=1, keepdims=True), points, np.nan)


def _number(cell: str) -> float:
    return float(cell) if cell.strip() else float("nan")


def _read(folder: Path, skeleton: Skeleton, part: str, bad: list[str] | None) -> dict[str, list[Example]]:
    path = next((folder / name for name in FILE_NAMES if (folder / name).is_file()), folder / FILE_NAMES[0])
    return {"": read_points(path, skeleton, bad)}


LAYOUT = Layout("points", FILE_NAMES[0], lambda folder: any((folder / name).is_file() for name in FILE_NAMES), _read)
