"""Results as text: JSON Lines and CSV.

JSON Lines has one line per frame and object: ``frame``, ``time_ms``, ``id``, ``box``, ``landmarks`` as ``[x, y]`` pairs
and ``scores``; a frame without an object has one line with ``"id": null, "box": null, "landmarks": [], "scores": []``.
Lines of image files also have ``file``. CSV has the same in columns, the coordinates as ``NAME_x``, ``NAME_y`` and
``NAME_score``. Both can be given back as ``--detector boxes:FILE``.

Numbers are put into one format string for each object: several times as fast as `json.dumps`, and every frame of a
video comes through here.
"""

from __future__ import annotations

import functools
import json

import numpy as np

from cunet_deploy.media.frames import Frame
from cunet_deploy.skeletons import Skeleton

__all__ = ["csv_header", "csv_lines", "json_lines"]

_BOX = ("x0", "y0", "x1", "y1")


@functools.cache
def _json_format(count: int) -> str:
    landmarks, scores = ",".join(["[%.2f,%.2f]"] * count), ",".join(["%.3f"] * count)
    return f'"id":%d,"box":[%.2f,%.2f,%.2f,%.2f],"landmarks":[{landmarks}],"scores":[{scores}]}}\n'


@functools.cache
def _csv_format(count: int) -> str:
    return "%d,%.2f,%.2f,%.2f,%.2f" + ",%.2f,%.2f,%.3f" * count + "\n"


def json_lines(frame: Frame) -> str:
    """The lines of one frame, each with its line end."""
    file = f'"file":{json.dumps(frame.name, ensure_ascii=False)},' if frame.name else ""
    head = f'{{"frame":{frame.index},{file}"time_ms":{frame.time_ms:.3f},'
    found = frame.landmarks
    if not len(found):
        return head + '"id":null,"box":null,"landmarks":[],"scores":[]}\n'
    flat = np.concatenate([found.boxes, found.points.reshape(len(found), -1), found.scores], axis=1).tolist()
    form = _json_format(len(found.skeleton))
    return "".join([head + form % (identity, *row) for identity, row in zip(found.ids.tolist(), flat, strict=True)])


def csv_header(skeleton: Skeleton, *, named: bool) -> str:
    """The header line; ``named`` adds the column of image files."""
    names = [f"{name}_{part}" for name in skeleton.landmarks for part in ("x", "y", "score")]
    return ",".join(["frame", *(["file"] if named else []), "time_ms", "id", *_BOX, *names]) + "\n"


def csv_lines(frame: Frame) -> str:
    """The lines of one frame; a frame without an object has one, with empty cells."""
    file = f"{_quoted(frame.name)}," if frame.name else ""
    head = f"{frame.index},{file}{frame.time_ms:.3f},"
    found = frame.landmarks
    if not len(found):
        return head + "," * (len(_BOX) + 3 * len(found.skeleton)) + "\n"
    cells = np.concatenate([found.points, found.scores[:, :, None]], axis=2).reshape(len(found), -1)
    flat = np.concatenate([found.boxes, cells], axis=1).tolist()
    form = _csv_format(len(found.skeleton))
    return "".join([head + form % (identity, *row) for identity, row in zip(found.ids.tolist(), flat, strict=True)])


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text
