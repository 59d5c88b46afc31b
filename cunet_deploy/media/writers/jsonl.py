"""Results as JSON Lines, one for each frame and object.

The keys are ``frame``, ``time_ms``, ``id``, ``box``, ``landmarks`` as ``[x, y]`` pairs and ``scores``; of faces with 68
landmarks also ``yaw``, ``pitch`` and ``roll`` in degrees (`cunet_deploy.head_pose`), ``null`` where there are none. A
frame without an object has one line with ``"id": null, "box": null, "landmarks": [], "scores": []``. Lines of image
files also have ``file``. What could not be read has a line of the latter form with ``error`` and, for several frames of
a video in a row, ``frames``. The file can be given back as ``--detector boxes:FILE``.

Numbers are put into one format string for each object: several times as fast as `json.dumps`, and every frame of a
video comes through here.
"""

from __future__ import annotations

import functools
import json
import sys

import numpy as np

from cunet_deploy.errors import CunetError
from cunet_deploy.media.frames import Frame, LeftOut
from cunet_deploy.media.writers.angles import pose_names, pose_texts
from cunet_deploy.media.writers.base import ResultWriter
from cunet_deploy.media.writers.linefile import LineFile

__all__ = ["JsonLinesFile", "StandardOutput", "json_lines", "left_out_line"]

_NOTHING = '"id":null,"box":null,"landmarks":[],"scores":[]}\n'


@functools.cache
def _json_format(count: int) -> str:
    landmarks, scores = ",".join(["[%.2f,%.2f]"] * count), ",".join(["%.3f"] * count)
    return f'"id":%d,"box":[%.2f,%.2f,%.2f,%.2f],"landmarks":[{landmarks}],"scores":[{scores}]'


def json_lines(frame: Frame) -> str:
    """The lines of one frame, each with its line end."""
    head = _head(frame.index, frame.name, frame.time_ms)
    found = frame.landmarks
    if not len(found):
        return head + _NOTHING
    flat = np.concatenate([found.boxes, found.points.reshape(len(found), -1), found.scores], axis=1).tolist()
    form = _json_format(len(found.skeleton))
    names, lines = pose_names(found.skeleton), []
    for identity, row, pose in zip(found.ids.tolist(), flat, pose_texts(found, missing="null"), strict=True):
        angles = "".join([f',"{name}":{value}' for name, value in zip(names, pose, strict=True)])
        lines.append(f"{head}{form % (identity, *row)}{angles}}}\n")
    return "".join(lines)


def left_out_line(item: LeftOut) -> str:
    """The line of what gave no picture."""
    frames = f'"frames":{item.count},' if item.count > 1 else ""
    reason = json.dumps(item.reason, ensure_ascii=False)
    return f'{_head(item.index, item.name, item.time_ms)}{frames}"error":{reason},{_NOTHING}'


def _head(index: int, name: str, time_ms: float) -> str:
    file = f'"file":{json.dumps(name, ensure_ascii=False)},' if name else ""
    return f'{{"frame":{index},{file}"time_ms":{time_ms:.3f},'


class JsonLinesFile(LineFile):
    """A JSON Lines file."""

    def write(self, frame: Frame) -> None:
        """Add a frame; raises as `add`."""
        self.add(json_lines(frame))

    def leave_out(self, item: LeftOut) -> None:
        """Note what gave no picture; raises as `add`."""
        self.add(left_out_line(item))


class StandardOutput(ResultWriter):
    """JSON Lines on standard output, each as it comes."""

    def __init__(self) -> None:
        """Raise `CunetError` where standard output is closed."""
        if sys.__stdout__ is None:
            raise CunetError("standard output is closed; leave it open, or name a file")

    def write(self, frame: Frame) -> None:
        """Add a frame; raises `BrokenPipeError` where nobody reads any more."""
        self._send(json_lines(frame))

    def leave_out(self, item: LeftOut) -> None:
        """Note what gave no picture; raises as `write`."""
        self._send(left_out_line(item))

    def _send(self, text: str) -> None:
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
