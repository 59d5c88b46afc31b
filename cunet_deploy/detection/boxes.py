"""Boxes that were written down before: by another program, by hand, or by an earlier ``cunet-deploy infer``.

A box is tight (a face: around its landmarks), ``x0 < x1`` and ``y0 < y1``, in pixels with (0, 0) at the centre of the
top-left one. Each belongs to a frame, counted from 0, or to an image file, named without folders.

CSV, with a header; other columns are ignored, and a row without coordinates is a frame without boxes::

    frame,x0,y0,x1,y1          file,x0,y0,x1,y1
    0,120,80,260,240           portrait.jpg,120,80,260,240

JSON Lines, one box a line: ``{"frame": 0, "box": [120, 80, 260, 240]}`` or ``{"file": ..., "box": ...}``; other keys
are ignored, ``"box": null`` is a frame without boxes. JSON: a list of such objects, or ``{"portrait.jpg": [[120, 80,
260, 240], ...]}`` with file names or frame numbers as keys.

In video, objects found in earlier frames are followed through frames without boxes, stated or not.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.sessions.base import Session

__all__ = ["GivenBoxes", "open_spec"]

Key = int | str
Row = tuple[str, Key, tuple[float, ...] | None]
"""Where it stands in the file, frame or file name, and the box."""


class GivenBoxes:
    """Boxes by frame number or file name. They are used as they are, in each frame that has any."""

    every = 1
    retry = 1
    exact = True
    confident_score = 0.0

    def __init__(self, boxes: Mapping[Key, NDArray[np.float64]]) -> None:
        """Keep boxes.

        Args:
            boxes: (N, 4) xyxy for each frame number or file name.
        """
        self._boxes = dict(boxes)

    @classmethod
    def read(cls, path: Path) -> GivenBoxes:
        """Read a CSV, JSON Lines or JSON file.

        Raises:
            InputError: it is missing, of another form, or a box has no area.
        """
        readers = {".csv": _csv_rows, ".jsonl": _json_lines, ".json": _json_rows}
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise InputError(f"{path}: boxes are read from .csv, .jsonl or .json files; rename or convert it")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is not a text file; expected boxes as CSV, JSON Lines or JSON") from error
        table: dict[Key, list[tuple[float, ...]]] = {}
        try:
            for place, key, box in reader(text):
                found = table.setdefault(key, [])
                if box is not None:
                    found.append(_checked(box, place))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{path}: {reason}; expected 'frame' (or 'file') and x0, y0, x1, y1 of each box"
            ) from error
        if not table:
            raise InputError(f"{path}: holds no boxes; expected 'frame' (or 'file') and x0, y0, x1, y1 of each box")
        return cls({key: np.array(boxes, np.float64).reshape(-1, 4) for key, boxes in table.items()})

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The boxes given for this file or, where the file has none, for this frame; scores are 1."""
        boxes = self._boxes.get(name) if name else None
        if boxes is None:
            boxes = self._boxes.get(index, np.zeros((0, 4)))
        return boxes, np.ones(len(boxes))

    def close(self) -> None:
        """Nothing to release."""


def open_spec(argument: str, session: Session | None) -> GivenBoxes:
    """``boxes:FILE``."""
    return GivenBoxes.read(Path(argument))


def _checked(box: tuple[float, ...], place: str) -> tuple[float, ...]:
    if len(box) != 4 or not all(map(math.isfinite, box)) or not (box[2] > box[0] and box[3] > box[1]):
        raise ValueError(f"{place}: {list(box)} is not a box x0, y0, x1, y1 with x0 < x1 and y0 < y1")
    return box


def _key(row: Mapping[str, Any]) -> Key:
    file = row.get("file")
    return Path(str(file)).name if file else int(row["frame"])


def _csv_rows(text: str) -> Iterator[Row]:
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), 2):
        cells = [row[name] for name in ("x0", "y0", "x1", "y1")]
        box = tuple(float(cell) for cell in cells) if any(cells) else None
        yield f"line {number}", _key(row), box


def _json_row(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise TypeError(f"{place} is not an object")
    box = row["box"]
    return place, _key(row), tuple(float(value) for value in box) if box else None


def _json_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield _json_row(json.loads(line), f"line {number}")


def _json_rows(text: str) -> Iterator[Row]:
    table = json.loads(text)
    if isinstance(table, list):
        for number, row in enumerate(table):
            yield _json_row(row, f"item {number}")
        return
    if not isinstance(table, dict):
        raise TypeError("is neither a list nor an object")
    for name, boxes in table.items():
        key: Key = int(name) if name.isdigit() else Path(name).name
        if not boxes:
            yield name, key, None
        for box in boxes:
            yield name, key, tuple(float(value) for value in box)
