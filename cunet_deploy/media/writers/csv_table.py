"""Results as CSV, one row for each frame and object.

The columns are ``frame``, ``file`` of image files, ``time_ms``, ``id``, ``x0``, ``y0``, ``x1``, ``y1``, then
``NAME_x``, ``NAME_y`` and ``NAME_score`` of each landmark, of faces with 68 landmarks ``yaw``, ``pitch`` and ``roll``
in degrees (`cunet_deploy.head_pose`; empty where there are none), and ``note``. A frame without an object has a row
with empty cells; so has what could not be read, with the reason as its note. The file can be given back as ``--detector
boxes:FILE``.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from cunet_deploy.media.frames import Frame, LeftOut
from cunet_deploy.media.writers.angles import pose_names, pose_texts
from cunet_deploy.media.writers.linefile import LineFile
from cunet_deploy.skeletons import Skeleton

__all__ = ["CsvFile", "csv_header", "csv_lines"]

_BOX = ("x0", "y0", "x1", "y1")


@functools.cache
def _csv_format(count: int) -> str:
    return "%d,%.2f,%.2f,%.2f,%.2f" + ",%.2f,%.2f,%.3f" * count


def csv_header(skeleton: Skeleton, *, named: bool) -> str:
    """The header line; ``named`` adds the column of image files."""
    names = [_quoted(f"{name}_{part}") for name in skeleton.landmarks for part in ("x", "y", "score")]
    names += pose_names(skeleton)
    return ",".join(["frame", *(["file"] if named else []), "time_ms", "id", *_BOX, *names, "note"]) + "\n"


def csv_lines(frame: Frame) -> str:
    """The lines of one frame; a frame without an object has one, with empty cells."""
    file = f"{_quoted(frame.name)}," if frame.name else ""
    head = f"{frame.index},{file}{frame.time_ms:.3f},"
    found = frame.landmarks
    if not len(found):
        return head + _empty(found.skeleton) + "\n"
    cells = np.concatenate([found.points, found.scores[:, :, None]], axis=2).reshape(len(found), -1)
    flat = np.concatenate([found.boxes, cells], axis=1).tolist()
    form = _csv_format(len(found.skeleton))
    rows = zip(found.ids.tolist(), flat, pose_texts(found, missing=""), strict=True)
    return "".join([",".join([head + form % (identity, *row), *pose, "\n"]) for identity, row, pose in rows])


class CsvFile(LineFile):
    """A CSV file."""

    def __init__(self, path: Path, skeleton: Skeleton, *, named: bool, overwrite: bool) -> None:
        """Choose a file; it is created when the block is entered."""
        super().__init__(path, overwrite=overwrite)
        self._skeleton, self._named = skeleton, named

    def write(self, frame: Frame) -> None:
        """Add a frame; raises as `add`."""
        self.add(csv_lines(frame))

    def leave_out(self, item: LeftOut) -> None:
        """Note what gave no picture; raises as `add`."""
        file = f"{_quoted(item.name)}," if self._named else ""
        self.add(f"{item.index},{file}{item.time_ms:.3f},{_empty(self._skeleton)}{_quoted(item.reason)}\n")

    def __enter__(self) -> CsvFile:
        super().__enter__()
        self.add(csv_header(self._skeleton, named=self._named))
        return self


def _empty(skeleton: Skeleton) -> str:
    """The cells from ``id`` to the last one before the note, and the note's separator."""
    return "," * (1 + len(_BOX) + 3 * len(skeleton) + len(pose_names(skeleton)))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text
