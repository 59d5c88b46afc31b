"""How long the video of an MP4 file is shown, which OpenCV does not tell.

A clip that was cut without encoding it anew, as phones and ``ffmpeg -c copy`` do, still holds frames before the cut,
which are decoded and not shown; an *edit list* says what is. Without it such a clip looks as if it broke off.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MP4_SUFFIXES", "shown_seconds"]

MP4_SUFFIXES = (".mp4", ".m4v", ".mov")

_LARGEST_TABLE = 64 << 20
"""Bytes of a file's tables that are read; those of a day of video are smaller."""


def shown_seconds(path: Path) -> float | None:
    """The length that the edit list of the video track states; ``None`` where there is none, or it is damaged."""
    try:
        moov = _read_moov(path)
        if moov is None:
            return None
        scale = _scale(next(_boxes(moov, b"mvhd")))
        for track in _boxes(moov, b"trak"):
            media = next(_boxes(track, b"mdia"))
            if next(_boxes(media, b"hdlr"))[8:12] == b"vide":
                edits = next(_boxes(next(_boxes(track, b"edts")), b"elst"))
                return sum(_durations(edits)) / scale or None
    except (OSError, StopIteration, struct.error, ZeroDivisionError):
        pass
    return None


def _read_moov(path: Path) -> bytes | None:
    """The content of the box with all tables, wherever it stands."""
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", head)
            inner = size - 8
            if size == 1:
                inner = struct.unpack(">Q", file.read(8))[0] - 16
            if name == b"moov":
                return file.read(inner) if 0 < inner <= _LARGEST_TABLE else None
            if inner < 0:  # 0: to the end of the file
                return None
            file.seek(inner, 1)
    return None


def _boxes(data: bytes, wanted: bytes) -> Iterator[bytes]:
    """The contents of the boxes of that name in a box."""
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        if name == wanted:
            yield data[at + 8 : at + size]
        at += size


def _scale(header: bytes) -> int:
    """Units in a second, of a ``mvhd`` box."""
    return int(struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])


def _durations(edits: bytes) -> Iterator[int]:
    """Lengths of the parts that are shown, in units of the movie; parts that are empty do not count."""
    count = struct.unpack_from(">I", edits, 4)[0]
    form = ">QqI" if edits[0] == 1 else ">IiI"
    for index in range(count):
        duration, start, _ = struct.unpack_from(form, edits, 8 + index * struct.calcsize(form))
        if start >= 0:
            yield duration
