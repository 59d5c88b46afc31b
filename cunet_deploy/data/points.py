"""The user's own points: a ``points.csv`` or ``points.json`` beside the photos.

The table has a line for each object, which may share its photo with others::

    image,nose_x,nose_y,tail_x,tail_y
    cage/0001.jpg,103.5,88,241,90.25
    cage/0002.jpg,97,91.5,,

``image`` (or ``file``) is relative to the folder; ``NAME_x`` and ``NAME_y`` stand for each landmark of the skeleton. An
empty cell is a landmark that is not labelled. ``x0,y0,x1,y1`` may give a box to crop around in place of the tight one;
other columns are left alone, so what ``infer`` writes for a folder of photos can be corrected and read. The JSON is a
list of ``{"image": ..., "points": {"nose": [x, y], ...}, "box": [x0, y0, x1, y1]}``, the box as you like.

Pixels count from 0 at the centre of the top-left one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.examples import Example
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton

__all__ = ["FILE_NAMES", "read_points"]

FILE_NAMES = ("points.csv", "points.json")

_BOX = ("x0", "y0", "x1", "y1")


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
    found = []
    try:
        for where, name, points, box in read(path, skeleton, bad):
            if box is not None and not (box[2:] > box[:2]).all():
                message = f"{path}, {where}: the box {box.tolist()} has no area; expected x0 < x1 and y0 < y1"
                _refuse(message, bad)
            elif np.isfinite(points).any():  # else a photo without an object, as ``infer`` lists them
                photo = Path(name).with_suffix("").as_posix()
                found.append(Example(path.parent / name, points, photo, given=box))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a table of points") from error
    boxes: dict[Path, list[NDArray[np.float64]]] = {}
    for example in found:
        boxes.setdefault(example.image, []).append(example.box)
    return [
        Example(one.image, one.points, one.photo, np.stack(boxes[one.image]), one.given, one.sizes) for one in found
    ]


Row = tuple[str, str, NDArray[np.float64], "NDArray[np.float64] | None"]


def _of_csv(path: Path, skeleton: Skeleton, bad: list[str] | None) -> Iterable[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        columns = [name.strip() for name in table.fieldnames or ()]
        table.fieldnames = columns
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
            except (ValueError, AttributeError):
                _refuse(f"{path}, {where}: a cell is no number; leave cells of unlabelled landmarks empty", bad)
                continue
            points = _whole(np.reshape(cells, (-1, 2)))
            yield where, row[photo].strip(), points, None if np.isnan(box).any() else np.array(box)


def _of_json(path: Path, skeleton: Skeleton, bad: list[str] | None) -> Iterable[Row]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); expected a list of objects") from error
    if not isinstance(table, list):
        raise InputError(f'{path}: expected a list of {{"image": ..., "points": {{...}}}}')
    for index, row in enumerate(table):
        where = f"object {index + 1}"
        try:
            name, given, box = str(row["image"]), row["points"], row.get("box")
            unknown = sorted(set(given) - set(skeleton.landmarks))
            if unknown:
                raise InputError(f"{path}, {where}: {unknown[0]!r} is no landmark; {', '.join(skeleton.landmarks)} are")
            points = _named(given, skeleton)
            corners = None if box is None else np.asarray(box, np.float64).reshape(4)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _refuse(f'{path}, {where}: expected "image" and "points" of [x, y] by name ({error!r})', bad)
            continue
        yield where, name, points, corners


def _named(given: Mapping[str, Any], skeleton: Skeleton) -> NDArray[np.float64]:
    """(K, 2) points by name; NaN for a landmark that is ``null`` or not there."""
    empty = (np.nan, np.nan)
    cells = [given.get(name) for name in skeleton.landmarks]
    return _whole(np.array([empty if cell is None else cell for cell in cells], np.float64).reshape(-1, 2))


def _whole(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of which half is missing are not labelled."""
    return np.where(np.isfinite(points).all(axis=1, keepdims=True), points, np.nan)


def _number(cell: str) -> float:
    return float(cell) if cell.strip() else float("nan")


def _refuse(message: str, bad: list[str] | None) -> None:
    if bad is None:
        raise InputError(message)
    bad.append(message)
