"""Boxes that were written down before: by another program, by hand, or by an earlier ``cunet-deploy infer``.

A box is tight (a face: around its landmarks), ``x0 < x1`` and ``y0 < y1``, in pixels with (0, 0) at the centre of the
top-left one. Each belongs to a frame, counted from 0, or to an image file, named without folders.

CSV, with a header; other columns are ignored, and a row without coordinates is a frame without boxes. Columns may be
divided by semicolons or tabs instead of commas::

    frame,x0,y0,x1,y1          file,x0,y0,x1,y1
    0,120,80,260,240           portrait.jpg,120,80,260,240

JSON Lines, one box a line: ``{"frame": 0, "box": [120, 80, 260, 240]}`` or ``{"file": ..., "box": ...}``; other keys
are ignored, ``"box": null`` is a frame without boxes. JSON: a list of such objects, or ``{"portrait.jpg": [[120, 80,
260, 240], ...]}`` with file names or frame numbers as keys.

In video, objects found in earlier frames are followed through frames without boxes, stated or not.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from cunet_deploy._decode import decode_json, read_table, read_text
from cunet_deploy.errors import InputError
from cunet_deploy.sessions.base import Session

__all__ = ["GivenBoxes", "open_spec"]

_LOG = logging.getLogger(__name__)

Key = int | str
Row = tuple[str, Key, Sequence[float] | None]
"""Place in the file, frame or file name, and the box."""

_FORM = "expected 'frame' (or 'file') and x0, y0, x1, y1 of each box"


@dataclass(frozen=True)
class _Object:
    """One box of a JSON file; ``null`` or ``[]`` is a frame without boxes."""

    box: list[float] | None
    frame: Annotated[int, Meta(ge=0)] | None = None
    file: str | None = None

    @property
    def key(self) -> Key:
        """File name or, where there is none, the frame.

        Raises:
            InputError: there is neither.
        """
        if self.file:
            return Path(self.file).name
        if self.frame is None:
            raise InputError("has no 'frame'")
        return self.frame

    def row(self, place: str) -> Row:
        """The box with where it stands in the file."""
        return place, self.key, self.box or None


class GivenBoxes:
    """Boxes by frame number or file name. They are used as they are, in each frame that has any."""

    every = 1
    retry = 1
    exact = True
    confident_score = 0.0

    def __init__(self, boxes: Mapping[Key, NDArray[np.float64]], name: str = "boxes") -> None:
        """Keep boxes.

        Args:
            boxes: (N, 4) xyxy for each frame number or file name.
            name: of their file, for messages.
        """
        self._boxes, self._name = dict(boxes), name

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
        text = read_text(path, "boxes as CSV, JSON Lines or JSON", InputError)
        table: dict[Key, list[Sequence[float]]] = {}
        try:
            for place, key, box in reader(text):
                found = table.setdefault(key, [])
                if box is not None:
                    found.append(_checked(box, place))
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}: {reason}; {_FORM}") from error
        if not table:
            raise InputError(f"{path}: holds no boxes; {_FORM}")
        return cls({key: np.array(boxes, np.float64).reshape(-1, 4) for key, boxes in table.items()}, str(path))

    @property
    def by_frame(self) -> bool:
        """Return whether some boxes belong to frame numbers, and not to files."""
        return any(isinstance(key, int) for key in self._boxes)

    def check_source(self, source: str, files: Sequence[str], count: int | None) -> None:
        """Check that there are boxes for a source, and warn where some are of others.

        Args:
            source: its name in messages.
            files: names of its image files; empty for video.
            count: how many frames it has. ``None`` before the end of a video, whose header may be wrong: then boxes of
                any frame will do.

        Raises:
            InputError: none is of this source.
        """
        known, total = set(files), len(self._boxes)
        own = sum(key in known if isinstance(key, str) else count is None or key < count for key in self._boxes)
        if not own:
            frames = "frame numbers" if count is None else f"frames 0 to {count - 1}"
            wanted = f"file names such as {files[0]!r}" if files else frames
            found = next(iter(self._boxes))
            raise InputError(f"{self._name}: none of its boxes is of {source}; expected {wanted}, found {found!r}")
        if own < total and count is not None:
            _LOG.warning("%s: of %d frames or files in it, %d are of %s", self._name, total, own, source)

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


def _checked(box: Sequence[float], place: str) -> Sequence[float]:
    if len(box) != 4 or not (np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1]):
        raise ValueError(f"{place}: {list(box)} is not a box x0, y0, x1, y1 with x0 < x1 and y0 < y1")
    return box


def _csv_rows(text: str) -> Iterator[Row]:
    for number, row in enumerate(read_table(text), 2):
        place, file = f"line {number}", row.get("file")
        cells = [row[name] for name in ("x0", "y0", "x1", "y1")]
        try:
            box = [float(cell) for cell in cells] if any(cells) else None
            key = Path(file).name if file else int(row["frame"])
        except ValueError as error:
            raise ValueError(f"{place}: {error}; decimals are written with a point") from error
        yield place, key, box


def _json_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            place = f"line {number}"
            try:
                found = decode_json(line, _Object)
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
            yield found.row(place)


def _json_rows(text: str) -> Iterator[Row]:
    if text.lstrip().startswith("["):
        yield from (item.row(f"item {number}") for number, item in enumerate(decode_json(text, list[_Object])))
        return
    for name, boxes in decode_json(text, dict[str, list[list[float]] | None]).items():
        key: Key = int(name) if name.isdecimal() else Path(name).name
        if not boxes:
            yield name, key, None
        for box in boxes or ():
            yield name, key, box
